"""A client of `POST /generate_audio`: a text becomes a WAV file.

    python -m examples.client --text "What up dog?"
    python -m examples.client --text "…" --stream --output long.wav
    python -m examples.client --text "…" --reference ann.wav "What Ann says in it." --consent

It needs nothing but Python: copied to another computer it runs as `python3 client.py`. The endpoint may be Parley's,
csm-serve's, or a deployment on Cerebrium.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

ENDPOINT = "http://localhost:8000/generate_audio"
TEXT = "Hello, this is a test of the CSM voice model."


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    try:
        request = asked(options)
    except OSError as error:
        print(f"{error.filename} cannot be read ({error.strerror}): give the path of a recording.", file=sys.stderr)
        return 1
    except ValueError:
        print(f"{options.endpoint} is not an address: begin it with http:// or https://.", file=sys.stderr)
        return 1
    try:
        with urllib.request.urlopen(request, timeout=options.timeout) as answer:
            if options.stream:
                with options.output.open("wb") as file:
                    shutil.copyfileobj(answer, file)
                print(f"Saved to {options.output}.")
                return 0
            told = json.load(answer)
    except urllib.error.HTTPError as error:
        print(f"Error {error.code}: {_message(error.read())}", file=sys.stderr)
        return 1
    except urllib.error.URLError as error:
        print(f"Nobody answers at {options.endpoint} ({error.reason}): is the server running?", file=sys.stderr)
        return 1
    options.output.write_bytes(base64.b64decode(told["result"]["audio_data"]))
    print(f"Saved to {options.output}. Run {told['run_id']} took {told['run_time_ms'] / 1000:.1f} s.")
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Have a text spoken, and save it as a WAV file.")
    parser.add_argument("--endpoint", default=ENDPOINT, help=f"address of the server ({ENDPOINT})")
    parser.add_argument("--token", default=os.environ.get("CEREBRIUM_TOKEN", ""),
                        help="the key, if one is needed ($CEREBRIUM_TOKEN)")  # fmt: skip
    parser.add_argument("--text", default=TEXT, help="text to speak")
    parser.add_argument("--output", type=Path, default=Path("output.wav"), help="the file (output.wav)")
    parser.add_argument("--voice", default="", help="one of the server's voices")
    parser.add_argument("--stream", action="store_true", help="write the sound while it is made")
    parser.add_argument("--reference", nargs=2, action="append", default=[], metavar=("FILE", "TEXT"),
                        help="a recording of the voice to imitate, and what is said in it")  # fmt: skip
    parser.add_argument("--consent", action="store_true", help="everyone in the references has agreed to this")
    parser.add_argument("--timeout", type=float, default=300, help="seconds to wait for an answer (300)")
    return parser


def asked(options: argparse.Namespace) -> urllib.request.Request:
    payload: dict[str, object] = {"text": options.text}
    if options.voice:
        payload["voice"] = options.voice
    if options.stream:
        payload["stream"] = True
    if options.reference:
        payload["consent"] = options.consent
        payload["references"] = [
            {"audio_data": base64.b64encode(Path(file).read_bytes()).decode(), "text": text}
            for file, text in options.reference
        ]
    if not options.endpoint.startswith(("http://", "https://")):
        raise ValueError(options.endpoint)
    headers = {"Content-Type": "application/json"}
    if options.token:
        headers["Authorization"] = f"Bearer {options.token}"
    return urllib.request.Request(options.endpoint, json.dumps(payload).encode(), headers)


def _message(body: bytes) -> str:
    """The sentence in an error of this server, or what another one says."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace").strip()


if __name__ == "__main__":
    sys.exit(main())
