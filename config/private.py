"""Switches off the telemetry of the libraries that Parley uses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType

SWITCHES: Mapping[str, str] = MappingProxyType(
    {
        "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime keeps a device id in ~/.cache/Microsoft, and sends events
        "ANONYMIZED_TELEMETRY": "False",  # Chroma
        "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, and libraries that use it to identify themselves
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",  # vLLM, and all that follow consoledonottrack.com
    }
)
"""Environment variables; libraries read them when they are imported, and child processes inherit them."""


def keep_private() -> None:
    os.environ.update(SWITCHES)
