"""The names that a path of the API goes by: clients ask with and without /v1, and as a deployment's."""

from __future__ import annotations

import re

GENERATE = "/generate_audio"
DEPLOYED = re.compile(r"/v\d+/[^/]+/[^/]+" + GENERATE)
"""As Cerebrium has it, with the project and the deployment."""
VERSION = "/v1"
_WITHOUT = re.compile(r"/(audio/.*|models|completions|chat/completions)")


def canonical(path: str) -> str:
    """One name for all the paths that lead to the same route."""
    if DEPLOYED.fullmatch(path):
        return GENERATE
    return VERSION + path if _WITHOUT.fullmatch(path) else path


def is_api(path: str) -> bool:
    """Whether what goes wrong there is told in OpenAI's shape."""
    return path.startswith(f"{VERSION}/") or canonical(path) != path or path == GENERATE
