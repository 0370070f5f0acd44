"""A small Hugging Face hub on this machine: the part of its protocol by which a repository is listed and fetched."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """`url` is what HF_ENDPOINT should be; `fetched` names the files that were asked for."""

    url: str
    fetched: list[str] = field(default_factory=list)


@contextmanager
def serve(repositories: Mapping[str, Path]) -> Iterator[Hub]:
    """Serves folders under the names of repositories until the context is left."""
    hub = Hub("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = unquote(urlparse(self.path).path).strip("/")
            for name, folder in repositories.items():
                files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
                if path == f"api/models/{name}/revision/main" or path == f"api/models/{name}":
                    siblings = [{"rfilename": file} for file in files]
                    return self.send({"id": name, "sha": COMMIT, "siblings": siblings}, body)
                if path.startswith(f"api/models/{name}/tree/"):
                    tree = [
                        {
                            "type": "file",
                            "path": file,
                            "size": (folder / file).stat().st_size,
                            "oid": _digest(folder / file),
                        }
                        for file in files
                    ]
                    return self.send(tree, body)
                for revision in ("main", COMMIT):
                    if path.startswith(start := f"{name}/resolve/{revision}/") and path[len(start) :] in files:
                        return self.send_file(folder / path[len(start) :], body)
                if path.startswith(f"{name}/resolve/"):
                    return self.refuse("EntryNotFound")
            return self.refuse("RepoNotFound")

        def send(self, value: object, body: bool) -> None:
            content = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def send_file(self, file: Path, body: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(file.stat().st_size))
            self.send_header("ETag", f'"{_digest(file)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                hub.fetched.append(file.name)
                self.wfile.write(file.read_bytes())

        def refuse(self, code: str) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
