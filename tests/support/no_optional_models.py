"""The doctor uses more models than were chosen where they lie on the computer; its tests must not depend on that."""

from __future__ import annotations

import pytest

from pipeline.doctor import examination, hearing


@pytest.fixture(autouse=True)
def no_optional_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a computer without Whisper as a judge and without Kokoro to propose, whatever earlier tests fetched."""
    for module in (examination, hearing):
        monkeypatch.setattr(module, "is_here", lambda model: False)
