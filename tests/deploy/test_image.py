"""The image of the Dockerfile, made without a daemon: its steps, one after the other, in a clean folder."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from config.places import ROOT
from deploy import alive
from tests.deploy.test_files import DOCKERFILE

PYTHON_BYTES = 150_000_000
"""Of python:3.11-slim, unpacked, which the steps begin with."""
MOST_BYTES = 3_000_000_000
ALWAYS = Path(".venv/share/parley")
"""The models that come with the environment."""
NOBODY = 10001


@dataclass
class Stage:
    """What a FROM begins: the instructions up to the next, those of what it begins with first."""

    instructions: list[tuple[str, str]] = field(default_factory=list)

    def of(self, kind: str) -> list[str]:
        return [rest for each, rest in self.instructions if each == kind]

    @property
    def environment(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for rest in self.of("ENV"):
            found |= dict(part.split("=", 1) for part in shlex.split(rest))
        return found


def stages(text: str) -> dict[str, Stage]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found: dict[str, Stage] = {}
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        kind, _, rest = line.partition(" ")
        if kind == "FROM":
            begins, _, name = rest.partition(" AS ")
            stage = Stage([*found[begins].instructions] if begins in found else [])
            found[name or "last"] = stage
        else:
            stage.instructions.append((kind, rest.strip()))
    return found


STAGES = stages(DOCKERFILE)


def sent() -> list[Path]:
    """What a build is sent of the folder: all but what .dockerignore leaves out."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    ignored = [
        line.strip("/")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    files = [Path(line) for line in listed.stdout.decode().splitlines() if (ROOT / line).is_file()]
    return [file for file in files if not any(fnmatch.fnmatch(file.parts[0], pattern) for pattern in ignored)]


def test_the_image_has_what_runs_and_not_what_tests() -> None:
    tops = {file.parts[0] for file in sent()}
    assert {"main.py", "setup.py", "start", "locks", "pipeline", "web", "csm", "rag", "config", "deploy"} <= tops
    assert not tops & {"tests", "docs", "benchmarks", ".venv", "data"}


def test_it_does_not_run_as_root_and_keeps_everything_in_volumes() -> None:
    last = STAGES["last"]
    assert last.of("USER") == [f"{NOBODY}:{NOBODY}"]
    assert json.loads(last.of("VOLUME")[0]) == ["/data", "/models"]
    assert last.environment["HF_HOME"] == "/models"
    command = json.loads(last.of("CMD")[0])
    assert command[command.index("--data") + 1] == "/data"
    assert STAGES["cluster"].of("USER")[-1] == f"{NOBODY}:{NOBODY}"


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (421, 1)])
def test_the_health_check_tells_who_answers_well(status: int, code: int) -> None:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.handle_request).start()
        assert alive.main(f"http://127.0.0.1:{server.server_port}/live") == code


def test_the_health_check_of_a_server_that_is_gone() -> None:
    assert alive.main("http://127.0.0.1:1/live") == 1


# --- step by step ----------------------------------------------------------------------------------------------------


class Built:
    """The folders of an image below one of this machine's."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def here(self, text: str) -> str:
        """Paths of the image, as they are here."""
        return re.sub(r"(?<![\w./-])/(parley|data|models)(?![\w-])", rf"{self.root}/\1", text)

    def environment(self, stage: Stage) -> dict[str, str]:
        """Nothing of this machine's but where its programs are, and what finds a package index."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("PIP_", "UV_", "SSL_")) or name == "PATH"
        }
        own = {name: self.here(value) for name, value in stage.environment.items()}
        return {**kept, "HOME": str(self.root / "home"), **own}

    def copy(self, rest: str) -> None:
        what, where = rest.split()
        target = self.root / "parley" / where
        for file in sent():
            if what == "." or file.as_posix() == what or file.as_posix().startswith(what.removesuffix("/") + "/"):
                place = target / (file.relative_to(what) if what.endswith("/") else file)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / file, place)

    def run(self, command: str, stage: Stage) -> None:
        done = subprocess.run(
            ["/bin/sh", "-c", self.here(command)],
            cwd=self.root / "parley",
            env={**self.environment(stage), "PYTORCH": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


@pytest.fixture(scope="module")
def built() -> Iterator[Built]:
    """The stage `build`. Not in pytest's own folder, which others may not enter."""
    root = Path(tempfile.mkdtemp(prefix="parley-image-"))
    try:
        root.chmod(0o755)
        for name in ("parley", "data", "models", "home"):
            (root / name).mkdir()
        image, stage = Built(root), STAGES["build"]
        for kind, rest in stage.instructions:
            if kind == "COPY":
                image.copy(rest)
            elif kind == "RUN":
                image.run(rest, stage)
        yield image
    finally:
        shutil.rmtree(root)


def size(folder: Path) -> int:
    """On the disk, each file once."""
    seen = {
        (file.stat().st_dev, file.stat().st_ino): file.stat().st_blocks
        for file in folder.rglob("*")
        if not file.is_symlink()
    }
    return 512 * sum(seen.values())


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_its_steps_make_an_image_that_is_small_enough(built: Built) -> None:
    parley = built.root / "parley"
    whole = PYTHON_BYTES + size(parley) - size(parley / ALWAYS)
    assert whole <= MOST_BYTES, f"{whole / 1e9:.2f} GB"


def user_of(image: Built) -> int | None:
    """The image's own, where this test may become it and this machine's Python is open to it; None is whoever tests."""
    try:
        subprocess.run([image.here("/parley/.venv/bin/python"), "-c", ""], user=NOBODY, check=True)
    except PermissionError:
        return None
    return NOBODY


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_it_serves_by_its_own_command_and_its_health_check_sees_that(built: Built) -> None:
    stage, user = STAGES["last"], user_of(built)
    if user is not None:
        for name in ("data", "models", "home"):
            os.chown(built.root / name, user, user)
    entry = [built.here(part) for part in json.loads(stage.of("ENTRYPOINT")[0]) + json.loads(stage.of("CMD")[0])]
    server = subprocess.Popen(
        [*entry, "--port", "0", "--profile", "offline"],
        cwd=built.root / "parley",
        env=built.environment(stage),
        user=user,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        port = next(found[1] for line in server.stdout if (found := re.search(r"http://localhost:(\d+)", line)))
        check = json.loads(stage.of("HEALTHCHECK")[0].partition("CMD ")[2])
        command = [built.here(part) for part in check]
        assert subprocess.run([*command, f"http://127.0.0.1:{port}/live"], check=False).returncode == 0
        assert (built.root / "data" / "token").exists()
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(60)
        server.kill()
        server.stdout.close()
    assert server.returncode in (0, -signal.SIGTERM)
