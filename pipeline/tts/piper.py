"""Piper: VITS voices of about 60 MB, each trained on one person; several times faster than speech on one core.

A voice is an .onnx file with its .onnx.json beside it, as Piper publishes them; Parley includes none and downloads one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from config.engines import PIPER
from config.packages import PIPER_JOE
from pipeline.audio import MOUTH_RATE, Samples
from pipeline.engine import EngineError, Progress, Report
from pipeline.llm.openers import OPENERS
from pipeline.models.fetching import fetched
from pipeline.tts import SPEECH
from pipeline.tts.neural import CONVERSATIONS, NeuralSpeaker, NeuralSynthesizer, session
from pipeline.workers.place import MakePlace, Place, PlacedEngine, Wanted
from pipeline.workers.worker import Worker

_BEGIN, _PAD, _END = "^", "_", "$"
"""Piper's names of the ids at the beginning of, between and after a sentence's phonemes."""


class Synthesizer(NeuralSynthesizer):
    """The model, inside a worker process."""

    def __init__(self, report: Report, model: str, speed: float, volume: float) -> None:
        file = fetched(PIPER_JOE, report) / f"{PIPER}.onnx" if model == PIPER else Path(model).expanduser()
        about = _about(file)
        report(Progress(f"loading the voice {file.stem}"))
        try:
            self._rate = int(about["audio"]["sample_rate"])
            self._ids = {symbol: [int(each) for each in ids] for symbol, ids in about["phoneme_id_map"].items()}
            inference = about["inference"]
            self._noise, self._length, self._jitter = (
                float(inference[name]) for name in ("noise_scale", "length_scale", "noise_w")
            )
            language = str(about["espeak"]["voice"])
            speakers = int(about.get("num_speakers", 1))
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(f"{file}.json does not describe a Piper voice: download it again.") from error
        self._speaker = {"sid": np.zeros(1, np.int64)} if speakers > 1 else {}
        self._network = session(file)
        super().__init__(language, speed, volume)
        report(Progress("warming up the voice"))
        self.warm_up(*OPENERS)

    def _sound(self, phonemes: str, speed: float, run: Any, voice: str | None) -> Samples:
        pad = self._ids[_PAD]
        ids = [*self._ids[_BEGIN], *pad]
        for symbol in phonemes:
            if symbol in self._ids:
                ids += [*self._ids[symbol], *pad]
        ids += self._ids[_END]
        inputs = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array([self._noise, self._length / speed, self._jitter], np.float32),
            **self._speaker,
        }
        (sound,) = self._network.run(None, inputs, run)
        converted: Samples = soxr.resample(np.ravel(sound).astype(np.float32), self._rate, MOUTH_RATE)
        return converted


def _about(file: Path) -> Any:
    """Read a voice's description. Raises EngineError if the voice's two files are not there."""
    if not file.is_file():
        raise EngineError(f"There is no file {file}: correct the path of the voice, or leave it empty.")
    try:
        return json.loads(Path(f"{file}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(
            f"{file}.json cannot be read: a Piper voice needs this file next to its .onnx file."
        ) from error


class Piper(PlacedEngine[Place]):
    """Text to speech by Piper in a worker process."""

    def __init__(
        self, model: str = PIPER, *, speed: float = 1.0, volume: float = 1.0, place: MakePlace = Worker
    ) -> None:
        """
        Args:
            model: en_US-joe-medium, or the path of another voice's .onnx file.
            speed: 1 is the voice's own.
            volume: 0 to 1.
        """
        settings = {"model": model, "speed": speed, "volume": volume}
        wanted = Wanted("Piper", f"{__name__}:Synthesizer", settings, concurrency=CONVERSATIONS, kinds=SPEECH)
        super().__init__(place(wanted))

    def speaker(self) -> NeuralSpeaker:
        return NeuralSpeaker(self._place)
