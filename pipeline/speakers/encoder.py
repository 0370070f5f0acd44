"""The voice encoder: turns sound into a direction in 256 dimensions, about the same one for the same person.

It is Resemblyzer's network (github.com/resemble-ai/Resemblyzer, Apache-2.0; Wan et al. 2018, "Generalized end-to-end
loss for speaker verification", arXiv 1710.10467): 40 mels of 16 kHz sound, three LSTMs of 256, a linear layer,
normalized to length 1. csm measures similarity with the same weights in PyTorch; this module uses NumPy, because
PyTorch would take ten times the process's memory and some seconds of each start.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from config.packages import RESEMBLYZER
from pipeline.audio import EAR_RATE, Samples
from pipeline.engine import Report
from pipeline.models.fetching import fetched
from pipeline.turns.model import HOP, WINDOW, mel, mel_filters
from pipeline.workers.place import MakePlace, Place, PlacedEngine, Wanted
from pipeline.workers.priority import give_way
from pipeline.workers.worker import Worker

Direction = NDArray[np.float32]
"""The direction of a voice: [256], of length 1."""

SIZE, LAYERS, MELS = 256, 3, 40
PART = 160
"""Frames of 10 ms that the network hears at a time; it was trained on 1.6 s."""
PARTS_PER_SECOND, LEAST_COVERED = 1.3, 0.75
"""How densely parts are taken, and how much of the last one must be sound: the package's own defaults."""
LOUDNESS = -30.0
"""Level in dB of full scale to which quiet sound is raised, as in the package."""
LONGEST_S = 12
"""Last seconds of a turn that are used; more does not improve the result."""
SILENCE = 1e-5
"""RMS below which nobody is speaking."""


class VoiceEncoder:
    """Stateless, so that conversations can share one; takes about 15 ms per second of sound on one core."""

    def __init__(self, weights: dict[str, NDArray[np.float32]]) -> None:
        self._layers = [
            (
                weights[f"lstm.weight_ih_l{layer}"].T.copy(),
                weights[f"lstm.weight_hh_l{layer}"].T.copy(),
                weights[f"lstm.bias_ih_l{layer}"] + weights[f"lstm.bias_hh_l{layer}"],
            )
            for layer in range(LAYERS)
        ]
        self._linear = weights["linear.weight"].T.copy(), weights["linear.bias"]
        self._filters = mel_filters(MELS)

    def direction(self, sound: Samples) -> Direction | None:
        """Return the direction of the voice in 16 kHz sound of one speaker; None for silence."""
        sound = sound[-LONGEST_S * EAR_RATE :]
        loudness = float(np.sqrt(np.mean(np.square(sound)))) if len(sound) else 0.0
        if loudness < SILENCE:
            return None
        sound = sound * np.float32(max(1.0, 10 ** (LOUDNESS / 20) / loudness))
        step = round(EAR_RATE / PARTS_PER_SECOND / HOP)
        starts = list(range(0, max(1, len(sound) // HOP + 1 - PART + step + 1), step))
        if len(starts) > 1 and (len(sound) - starts[-1] * HOP) / (PART * HOP) < LEAST_COVERED:
            starts.pop()
        missing = max(0, (starts[-1] + PART) * HOP - len(sound))
        frames = mel(np.pad(sound, (WINDOW // 2, WINDOW // 2 + missing)), self._filters)
        heard = self._hear(np.stack([frames[start : start + PART] for start in starts]))
        return unit(unit(heard).mean(axis=0))

    def _hear(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network: [parts, PART, MELS] → [parts, SIZE]."""
        heard = parts
        for from_below, from_before, bias in self._layers:
            given = heard @ from_below + bias
            state = cell = np.zeros((len(parts), SIZE), np.float32)
            heard = np.empty((len(parts), PART, SIZE), np.float32)
            for frame in range(PART):
                gates = given[:, frame] + state @ from_before
                let_in, keep, new, let_out = np.split(gates, 4, axis=1)
                cell = _sigmoid(keep) * cell + _sigmoid(let_in) * np.tanh(new)
                heard[:, frame] = state = _sigmoid(let_out) * np.tanh(cell)
        weight, bias = self._linear
        rectified: NDArray[np.float32] = np.maximum(0, heard[:, -1] @ weight + bias)
        return rectified


def unit(directions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalize to length 1 along the last axis."""
    lengths = np.linalg.norm(directions, axis=-1, keepdims=True)
    of_one: NDArray[np.float32] = directions / np.maximum(lengths, 1e-8)
    return of_one


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    halved: NDArray[np.float32] = 0.5 * (1 + np.tanh(0.5 * x))
    return halved


# --- the file of the weights -----------------------------------------------------------------------------------------


_NUMBER_BYTES = {"FloatStorage": 4, "LongStorage": 8}


class _Tensors(pickle.Unpickler):
    """Reads PyTorch's legacy format: nested dictionaries of tensors, each naming a storage. Rejects anything else."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.kinds: dict[str, str] = {}
        """The type of each storage, by its key; their numbers follow the dictionaries."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _NUMBER_BYTES:
            return name
        raise pickle.UnpicklingError(f"The weights hold something else than numbers: {module}.{name}.")

    def persistent_load(self, storage: tuple[str, str, str, str, int, object]) -> str:
        """Return the key of a storage, and remember its type."""
        _, kind, key, *_ = storage
        self.kinds[key] = kind
        return key


class _Tensor:
    """A tensor without its numbers."""

    def __init__(self, key: str, offset: int, shape: tuple[int, ...], *_: object) -> None:
        self.key, self.offset, self.shape = key, offset, shape


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read the weights by name. Raises UnpicklingError if the file holds anything but tensors."""
    with path.open("rb") as file:
        for _ in range(3):  # a magic number, a version, the machine type
            _Tensors(file).load()
        read = _Tensors(file)
        tensors: dict[str, _Tensor] = read.load()["model_state"]
        numbers: dict[str, NDArray[np.float32]] = {}
        for key in _Tensors(file).load():
            count = int.from_bytes(file.read(8), "little")
            numbers[key] = np.frombuffer(file.read(count * _NUMBER_BYTES[read.kinds[key]]), np.float32)
    return {
        name: numbers[each.key][each.offset : each.offset + int(np.prod(each.shape))].reshape(each.shape)
        for name, each in tensors.items()
    }


# --- the engine ------------------------------------------------------------------------------------------------------

NICE = 10
"""The niceness of its process, below those that a reply waits for."""
_AT_ONCE = 2
"""Turns processed at a time; more wait."""


def load(report: Report) -> VoiceEncoder:
    """Load the encoder. Raises EngineError if the weights are neither here nor available."""
    folder = fetched(RESEMBLYZER, report)
    return VoiceEncoder(read_weights(folder / RESEMBLYZER.files[0].name))


def load_politely(report: Report) -> VoiceEncoder:
    """Load it in the worker process, which yields to the ears because they process the same turn at the same time."""
    give_way(NICE)
    return load(report)


class WorkerVoiceEncoder(PlacedEngine[Place]):
    """An engine with VoiceEncoder's method as a coroutine."""

    def __init__(self, place: MakePlace = Worker) -> None:
        super().__init__(place(Wanted("resemblyzer", f"{__name__}:load_politely", concurrency=_AT_ONCE)))

    async def direction(self, sound: Samples) -> Direction | None:
        """Return the direction of the voice in 16 kHz sound of one speaker; None for silence. Raises EngineError."""
        found: Direction | None = await self._place.call("direction", sound[-LONGEST_S * EAR_RATE :])
        return found
