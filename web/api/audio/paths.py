"""The aliases of the API's paths: with and without /v1, and as in a deployment."""

from __future__ import annotations

import re

from starlette.routing import compile_path

GENERATE = "/generate_audio"
DEPLOYED = "/v4/{project}/{deployment}" + GENERATE
"""The path as deployed on Cerebrium."""
VERSION = "/v1"
_DEPLOYED, *_ = compile_path(DEPLOYED)
_WITHOUT = re.compile(r"/(audio/.*|models|completions|chat/completions)")


def canonical(path: str) -> str:
    """Return one name for all paths that lead to the same route."""
    if _DEPLOYED.match(path):
        return GENERATE
    return VERSION + path if _WITHOUT.fullmatch(path) else path


def is_api(path: str) -> bool:
    """Whether errors on this path are answered in OpenAI's shape."""
    return path in (VERSION, GENERATE) or path.startswith(f"{VERSION}/") or canonical(path) != path
