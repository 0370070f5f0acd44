"""Real models, small enough for every test: fetched once as the product fetches them, and kept in its cache."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from config.packages import SMOLLM2_135M
from pipeline.models.fetching import fetched


@cache
def smollm2() -> Path:
    """The GGUF of SmolLM2-135M-Instruct."""
    return fetched(SMOLLM2_135M, lambda progress: None) / SMOLLM2_135M.files[0].name
