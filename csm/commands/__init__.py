"""The commands: csm-generate and the others."""

import os

# Set before any of these libraries is imported, so that huggingface_hub and ONNX Runtime send no telemetry.
os.environ.update(DO_NOT_TRACK="1", HF_HUB_DISABLE_TELEMETRY="1", ORT_DISABLE_TELEMETRY="1")
