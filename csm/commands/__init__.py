"""The commands, csm-generate and its like."""

import os

# Before any of these libraries is imported: huggingface_hub and ONNX Runtime tell nobody of their use.
os.environ.update(DO_NOT_TRACK="1", HF_HUB_DISABLE_TELEMETRY="1", ORT_DISABLE_TELEMETRY="1")
