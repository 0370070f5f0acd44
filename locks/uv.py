"""uv as the installer: what takes pip minutes takes it seconds. It does what pip is set up to do, or pip does it.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

LOCK = Path(__file__).resolve().parent / "uv.txt"


def executable(python: Path) -> Path:
    return python.with_name("uv.exe" if os.name == "nt" else "uv")


def pips_settings(python: Path) -> dict[str, str]:
    """What pip is set up with, by files and by the environment; the latter wins, as with pip."""
    asked = [str(python), "-m", "pip", "config", "list"]
    told = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in told.splitlines():
        found = re.match(r"(global|install|:env:)\.([a-z-]+)=(.*)$", line)
        if found:
            sections[found.group(1)][found.group(2)] = str(ast.literal_eval(found.group(3)))
    return {**sections["global"], **sections["install"], **sections[":env:"]}


def command(python: Path, settings: dict[str, str], locks: list[Path]) -> list[str]:
    """Installs what these locks name into the environment of `python`, from where pip would take it."""
    line = [
        str(executable(python)), "pip", "install", "--python", str(python), "--no-config", "--no-progress",
        "--require-hashes", "--no-deps", "--only-binary", ":all:",
        # The checksums decide, and not which index has the name.
        "--index-strategy", "unsafe-best-match",
    ]  # fmt: skip
    options = (
        ("index-url", "--default-index"),
        ("extra-index-url", "--index"),
        ("find-links", "--find-links"),
        ("trusted-host", "--allow-insecure-host"),
    )
    for name, option in options:
        for value in settings.get(name, "").split():
            line += [option, value]
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        line.append("--no-index")
    for lock in locks:
        line += ["-r", str(lock)]
    return line


def environment(settings: dict[str, str]) -> dict[str, str]:
    """As this process has it, with pip's certificates and proxy."""
    added = {"UV_SYSTEM_CERTS": "1", "UV_HTTP_TIMEOUT": settings.get("timeout", settings.get("default-timeout", "60"))}
    if "cert" in settings:
        added["SSL_CERT_FILE"] = settings["cert"]
    if "proxy" in settings:
        added["ALL_PROXY"] = settings["proxy"]
    return {**os.environ, **added}


def fetched(python: Path, log: Path) -> bool:
    """Whether uv is in that environment now, by pip and its checksum; for some machines there is none."""
    line = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--require-hashes", "--no-deps"]
    with log.open("a", encoding="utf-8") as kept:
        done = subprocess.run([*line, "-r", str(LOCK)], stdout=kept, stderr=subprocess.STDOUT, check=False)
    return done.returncode == 0 and executable(python).exists()
