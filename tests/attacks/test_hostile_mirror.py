"""A mirror whose answers would lead out of the cache: nothing is written for them, and one sentence says so."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pipeline.models.plan import File
from tests.pipeline.models.test_downloads import NAME, fetch
from tests.support import hub
from tests.support.hub import COMMIT, serve

OUTSIDE = "../../../../../outside"


def test_names_that_lead_elsewhere() -> None:
    good: dict[str, Any] = {"repository": NAME, "commit": COMMIT, "path": "a/b.bin", "size": 1, "checksum": "0" * 64}
    File(**good)
    bad: list[dict[str, Any]] = [
        *({"checksum": text} for text in ("", OUTSIDE, "0" * 63, "0" * 64 + "/x", "F" * 64, "0" * 64 + "\n")),
        *({"commit": text} for text in ("", OUTSIDE, "..", COMMIT[:39])),
        *(
            {"path": text}
            for text in ("", "/etc/passwd", "../x", "a/../../x", "a//b", "a\\b", "C:x", "a\0b", "x" * 300)
        ),
        {"size": -1},
    ]
    for change in bad:
        with pytest.raises(ValueError):
            File(**(good | change))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "hub" / "model"
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(os.urandom(20_000))
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize("field", ["rfilename", "blob_id", "sha256", "sha"])
def test_a_listing_that_leads_out_of_the_cache(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    about = hub._about

    def hostile(folder: Path, file: str, name: str) -> dict[str, Any]:
        told: dict[str, Any] = about(folder, file, name)
        if field == "rfilename" and file == "model.bin":
            told[name] = f"{OUTSIDE}/model.bin"
        elif field == "blob_id":
            told |= {"blobId": OUTSIDE, "lfs": None}
        elif field == "sha256" and told.get("lfs"):
            told["lfs"] = told["lfs"] | {"sha256": OUTSIDE}
        return told

    monkeypatch.setattr(hub, "_about", hostile)
    if field == "sha":
        monkeypatch.setattr(hub, "COMMIT", OUTSIDE)
    with serve({NAME: repository}) as served:
        told = fetch(served, tmp_path / "home")
    assert told[-1]["kind"] == "failed", told
    assert not list(tmp_path.rglob("outside*"))


def test_an_etag_that_leads_out_of_the_cache_names_nothing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve({NAME: repository}) as served:
        monkeypatch.setattr(hub, "etag", lambda file: OUTSIDE)
        told = fetch(served, tmp_path / "home")
    assert told[-1]["kind"] == "done", told
    assert not list(tmp_path.rglob("outside*"))
    (link,) = tmp_path.rglob("snapshots/*/model.bin")
    assert link.read_bytes() == (repository / "model.bin").read_bytes()
    assert stat.S_ISREG(link.resolve().stat().st_mode) and link.resolve().parent.name == "blobs"
