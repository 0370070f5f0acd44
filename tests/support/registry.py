"""Package registries and a hub on this machine, in one: PyPI's index (PEP 503), npm's tarballs, published files."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

from config.packages import Package


@dataclass
class Registry:
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """By path: pypi/NAME/WHEEL, npm/NAME/-/TARBALL, OWNER/NAME/resolve/main/FILE."""
    asked: list[str] = field(default_factory=list)
    """Paths of the files that were sent, also in part."""
    break_off: dict[str, int] = field(default_factory=dict)
    """After how many bytes of a file the connection is cut, once."""
    hold: dict[str, int] = field(default_factory=dict)
    """After how many bytes of a file nothing more comes."""
    held: threading.Event = field(default_factory=threading.Event)
    """Set when a file is being held."""

    def add(self, package: Package, archive: bytes) -> None:
        if package.registry == "PyPI":
            self.files[f"pypi/{package.name}/{wheel_name(package)}"] = archive
        else:
            self.files[f"npm/{package.name}/-/{package.name}-{package.version}.tgz"] = archive

    def environment(self) -> dict[str, str]:
        """What makes pip and npm's users ask here, and nowhere else."""
        return {
            "PIP_INDEX_URL": f"{self.url}/pypi/", "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": "", "PIP_CONSTRAINT": "",
            "PIP_CONFIG_FILE": "/dev/null", "NPM_CONFIG_REGISTRY": f"{self.url}/npm", "NO_PROXY": "*",
        }  # fmt: skip


def wheel_name(package: Package) -> str:
    return f"{package.name.replace('-', '_')}-{package.version}-py3-none-any.whl"


def wheel(name: str, members: Mapping[str, bytes], version: str = "1.0.0") -> bytes:
    """A wheel that pip takes for one, with these members."""
    stem = name.replace("-", "_")
    about = {
        f"{stem}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{stem}-{version}.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{stem}-{version}.dist-info/RECORD": b"",
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in {**members, **about}.items():
            archive.writestr(member, data)
    return content.getvalue()


def tarball(members: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, target in (links or {}).items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


@contextmanager
def serve() -> Iterator[Registry]:
    registry = Registry()
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlparse(self.path).path).strip("/")
            if path in registry.files:
                return self.send_file(path, registry.files[path])
            listed = [each for each in registry.files if path.startswith("pypi/") and each.startswith(path + "/")]
            if not listed:
                return self.send_error(404)
            links = (
                f'<a href="/{each}#sha256={hashlib.sha256(registry.files[each]).hexdigest()}">{each.split("/")[-1]}</a>'
                for each in listed
            )
            page = "".join(links).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
            return None

        def send_file(self, path: str, content: bytes) -> None:
            asked = self.headers.get("Range", "")
            start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            registry.asked.append(path)
            if path in registry.hold:
                self.wfile.write(content[start : registry.hold.pop(path)])
                registry.held.set()
                over.wait(60)
            elif path in registry.break_off:
                self.wfile.write(content[start : registry.break_off.pop(path)])
            else:
                self.wfile.write(content[start:])

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
