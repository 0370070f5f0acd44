"""Voice activity detection by Silero's model. It takes a tenth of a millisecond for each 32 ms of sound.

The network is the ONNX file in the silero-vad package. The package itself is not imported, because it imports torch.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pipeline.audio import EAR_RATE, Samples
from pipeline.engine import EngineError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FRAME = 512
"""Samples at 16 kHz that the model judges at a time: 32 ms."""

_CONTEXT = 64
"""Samples of the previous frame that the model needs in front of each (silero_vad/utils_vad.py, OnnxWrapper)."""

_STATE = (2, 1, 128)
"""Shape of the recurrent state: two layers' worth of one stream's 128 units."""


class VoiceActivityLike(Protocol):
    """What a conversation needs from it: VoiceActivity, or a scripted one."""

    def probability(self, frame: Samples) -> float: ...

    def reset(self) -> None: ...


def load_model() -> InferenceSession:
    """Open the network once; any number of VoiceActivity share it. Takes some 0.2 s, so keep it off the loop.

    Raises:
        EngineError: the package silero-vad or onnxruntime is missing or damaged.
    """
    package = find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        raise EngineError("The package silero-vad is missing: run `python3 setup.py` to install it.")
    path = Path(package.submodule_search_locations[0]) / "data" / "silero_vad.onnx"
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError("The package onnxruntime is missing: run `python3 setup.py` to install it.") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the network is too small to parallelise, and it runs on the loop
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no narrower base class
        raise EngineError(
            f"Silero's voice activity model cannot be opened ({path}): reinstall the package silero-vad."
        ) from error


class VoiceActivity:
    """The voice activity of one microphone. The model remembers what it heard, so each microphone needs its own."""

    def __init__(self, model: InferenceSession) -> None:
        self._model = model
        self._rate = np.array(EAR_RATE, dtype=np.int64)
        self._state: Samples = np.zeros(_STATE, dtype=np.float32)
        self._context: Samples = np.zeros(_CONTEXT, dtype=np.float32)

    def probability(self, frame: Samples) -> float:
        """Return how likely the newest 32 ms are speech, 0 to 1. Takes some 0.1 ms, so it may run on the loop.

        Args:
            frame: FRAME samples at 16 kHz that directly follow those of the previous call.

        Raises:
            ValueError: the frame has another shape, or holds NaN or infinity, which would spoil all later verdicts.
        """
        if frame.shape != (FRAME,):
            raise ValueError(f"voice activity is judged on {FRAME} samples at a time, not on shape {frame.shape}")
        if not np.isfinite(frame).all():
            raise ValueError("the sound contains values that are not numbers")
        window = np.concatenate([self._context, frame.astype(np.float32, copy=False)])
        verdict, self._state = self._model.run(
            None, {"input": window[np.newaxis], "state": self._state, "sr": self._rate}
        )
        self._context = window[-_CONTEXT:]
        return float(verdict[0, 0])

    def reset(self) -> None:
        """Forget everything heard; the next frame begins a new recording."""
        self._state = np.zeros(_STATE, dtype=np.float32)
        self._context = np.zeros(_CONTEXT, dtype=np.float32)
