"""A small Hugging Face hub on this machine: the part of its protocol by which repositories are listed and fetched.

It can be told to keep a licence, to break a transfer off, to send damaged bytes, and it counts what it sent.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 10_000
"""Bytes from which a file is kept as a large one (LFS), with its sha256."""


@dataclass
class Hub:
    """`url` is what HF_ENDPOINT should be. A file goes by its name, or by its repository and its name."""

    url: str
    fetched: list[str] = field(default_factory=list)
    """Names of the files that were asked for."""
    sent: Counter[str] = field(default_factory=Counter)
    """Bytes sent of each file."""
    gated: set[str] = field(default_factory=set)
    """Repositories whose files need a token of `tokens`."""
    tokens: set[str] = field(default_factory=set)
    break_off: dict[str, int] = field(default_factory=dict)
    """After how many bytes of a file the connection is cut, each time it is asked for; None is never."""
    breaks: int = 1_000_000
    """How many more times it is cut."""
    ranges: bool = True
    """Whether a part of a file can be asked for."""
    damaged: set[str] = field(default_factory=set)
    """Files whose first byte is changed on the way."""
    paused: threading.Event = field(default_factory=threading.Event)
    """Set when a file of `wait_after` has been sent that far; then nothing more comes."""
    wait_after: dict[str, int] = field(default_factory=dict)


@contextmanager
def serve(repositories: Mapping[str, Path]) -> Iterator[Hub]:
    """Serves folders under the names of repositories until the context is left."""
    hub = Hub("")
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = unquote(urlparse(self.path).path).strip("/")
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if token and hub.tokens and token not in hub.tokens:
                return self.refuse(401, message="Invalid credentials in Authorization header")
            if path == "api/whoami-v2":
                return self.send({"name": "someone", "type": "user"}, body)
            for name, folder in repositories.items():
                if not path.startswith((name + "/", f"api/models/{name}")):
                    continue
                files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
                if path in (
                    f"api/models/{name}",
                    f"api/models/{name}/revision/main",
                    f"api/models/{name}/revision/{COMMIT}",
                ):
                    about = {"id": name, "sha": COMMIT, "config": _config(folder)}
                    return self.send(about | {"siblings": [_about(folder, file, "rfilename") for file in files]}, body)
                if path.startswith(f"api/models/{name}/tree/"):
                    return self.send([{"type": "file", **_about(folder, file, "path")} for file in files], body)
                if name in hub.gated and token not in hub.tokens:
                    return self.refuse(403 if token else 401, "GatedRepo")
                for revision in ("main", COMMIT):
                    if path.startswith(start := f"{name}/resolve/{revision}/") and path[len(start) :] in files:
                        return self.send_file(f"{name}/{path[len(start) :]}", folder / path[len(start) :], body)
                if path.startswith(f"{name}/resolve/"):
                    return self.refuse(404, "EntryNotFound")
            return self.refuse(404, "RepoNotFound")

        def send(self, value: object, body: bool) -> None:
            content = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def send_file(self, full_name: str, file: Path, body: bool) -> None:
            names = {full_name, file.name}
            content = file.read_bytes()
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if hub.ranges else None
            start = int(asked[1]) if asked else 0
            if start >= len(content) and asked:
                return self.refuse(416)
            if asked and asked[2]:
                content = content[: int(asked[2]) + 1]
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(content) - start))
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{file.stat().st_size}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{etag(file)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if not body:
                return None
            if asked and asked[2]:
                return self._write(set(), content[start:])  # a look at its header
            hub.fetched.append(file.name)
            if names & hub.damaged and not start:
                content = bytes([content[0] ^ 1]) + content[1:]
            end = len(content)
            if (cut := names & hub.break_off.keys()) and hub.breaks > 0:
                hub.breaks -= 1
                end = max(start, min(end, hub.break_off[cut.pop()]))
            if waiting := names & hub.wait_after.keys():
                end = max(start, hub.wait_after.pop(waiting.pop()))
                self._write(names, content[start:end])
                hub.paused.set()
                over.wait(60)
                end = start
            else:
                self._write(names, content[start:end])
            if end < len(content):
                self.close_connection = True
            return None

        def _write(self, names: set[str], content: bytes) -> None:
            for begin in range(0, len(content), 65_536):
                block = content[begin : begin + 65_536]
                try:
                    self.wfile.write(block)
                    self.wfile.flush()
                except OSError:
                    return
                for name in names:
                    hub.sent[name] += len(block)

        def refuse(self, status: int, code: str = "", message: str = "") -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            if message:
                self.send_header("X-Error-Message", message)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def digest(file: Path) -> str:
    """As the hub names a file: sha256 of a large one, git's sha1 of any other."""
    stat = file.stat()
    return _digest(file, stat.st_size, stat.st_mtime_ns, git=stat.st_size < LARGE)


@lru_cache
def _digest(file: Path, size: int, changed: int, *, git: bool) -> str:
    """A real hub knows it, too, and does not work it out at each request. `changed` tells one content from another."""
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % size + content).hexdigest() if git else hashlib.sha256(content).hexdigest()


def etag(file: Path) -> str:
    """What a file's own answer calls it; a hostile mirror says something else."""
    return digest(file)


def _config(folder: Path) -> object:
    """What the hub tells of config.json."""
    file = folder / "config.json"
    return json.loads(file.read_text()) if file.exists() else {}


def _about(folder: Path, file: str, name: str) -> dict[str, object]:
    path = folder / file
    stat = path.stat()
    size, blob = stat.st_size, _digest(path, stat.st_size, stat.st_mtime_ns, git=True)
    about: dict[str, object] = {name: file, "size": size, "oid" if name == "path" else "blobId": blob}
    if size >= LARGE:
        about["lfs"] = {"sha256": digest(path), "oid": digest(path), "size": size, "pointerSize": 130}
    return about
