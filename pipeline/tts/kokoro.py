"""Kokoro-82M: 28 natural English voices, with 8-bit weights; a CPU takes about half as long as the speech lasts.

Its input is the phonemes it was trained on, as its authors write them (misaki, "English Phonemes"): one letter per
diphthong and affricate, and no length marks in American English. Ids are those of its config.json.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from config.packages import KOKORO, KOKORO_VOICES
from pipeline.audio import Samples
from pipeline.engine import EngineError, Progress, Report
from pipeline.models.fetching import fetched
from pipeline.tts import SPEECH, VoiceChoice
from pipeline.tts.neural import CONVERSATIONS, NeuralSpeaker, NeuralSynthesizer, session
from pipeline.workers.place import MakePlace, Place, PlacedEngine, Wanted
from pipeline.workers.worker import Worker

DEFAULT_VOICE = "af_heart"

_RUNS = (
    (1, ";:,.!?"), (9, '—…"()“” \u0303ʣʥʦʨᵝꭧAI'), (31, "O"), (33, "Q"), (35, "ST"), (39, "W"), (41, "Yᵊabcdef"),
    (50, "hijklmnopqrstuvwxyz"), (69, "ɑɐɒæ"), (75, "βɔɕç"), (80, "ɖðʤə"), (85, "ɚɛɜ"), (90, "ɟ"), (92, "ɡ"),
    (99, "ɥ"), (101, "ɨɪʝ"), (110, "ɯɰŋɳɲɴø"), (118, "ɸθœ"), (123, "ɹ"), (125, "ɾɻ"), (128, "ʁɽʂʃʈʧ"), (135, "ʊʋ"),
    (138, "ʌɣɤ"), (142, "χʎ"), (147, "ʒʔ"), (156, "ˈˌː"), (162, "ʰ"), (164, "ʲ"), (169, "↓"), (171, "→↗↘"), (177, "ᵻ"),
)  # fmt: skip
IDS = {symbol: first + offset for first, symbols in _RUNS for offset, symbol in enumerate(symbols)}
"""The id of each symbol, from runs of symbols with consecutive ids."""

LONGEST = 510
"""The most ids in one run of the network; a voice has as many styles."""

_COMMON = (
    ("n\u0329", "ᵊn"), ("l\u0329", "ᵊl"), ("m\u0329", "ᵊm"), ("dʒ", "ʤ"), ("tʃ", "ʧ"), ("eɪ", "A"), ("aɪ", "I"),
    ("aʊ", "W"), ("ɔɪ", "Y"), ("əl", "ᵊl"), ("ʔ", "t"), ("g", "ɡ"), ("r", "ɹ"), ("x", "k"), ("ɐ", "ə"),
)  # fmt: skip
_AMERICAN = (*_COMMON, ("oʊ", "O"), ("ɚ", "əɹ"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɾ", "T"), ("ː", ""))
_BRITISH = (*_COMMON, ("əʊ", "Q"), ("eə", "ɛː"), ("iə", "ɪə"))
"""espeak-ng's IPA, and what Kokoro's authors write for it."""


class Synthesizer(NeuralSynthesizer):
    """The model, inside a worker process."""

    def __init__(self, report: Report, voice: str, speed: float, volume: float) -> None:
        if voice not in KOKORO_VOICES:
            raise EngineError(f"Kokoro has no voice {voice!r}: choose one of its list, for example {DEFAULT_VOICE!r}.")
        folder = fetched(KOKORO, report)
        report(Progress(f"loading Kokoro’s voice {named(voice)}"))
        self._folder, self._voice = folder, voice
        self._styles: dict[str, Samples] = {}
        self._network = session(folder / "kokoro-v1.0.int8.onnx")
        super().__init__(language_of(voice), speed, volume)
        report(Progress("warming up the voice"))
        self.warm_up()

    def _language_of(self, voice: str | None) -> str:
        return language_of(voice or self._voice)

    def _style(self, voice: str) -> Samples:
        """Return a voice's styles [ids, 1, 256]; half a megabyte, and cached."""
        if voice not in self._styles:
            styles = np.fromfile(self._folder / "voices" / f"{voice}.bin", np.float32)
            self._styles[voice] = styles.reshape(LONGEST, 1, 256)
        return self._styles[voice]

    def _sound(self, phonemes: str, speed: float, run: Any, voice: str | None) -> Samples:
        voice = voice or self._voice
        for heard, written in _AMERICAN if language_of(voice) == "en-us" else _BRITISH:
            phonemes = phonemes.replace(heard, written)
        ids = [IDS[symbol] for symbol in phonemes if symbol in IDS][: LONGEST - 2]
        inputs = {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": self._style(voice)[len(ids)],
            "speed": np.array([speed], np.float32),
        }
        (sound,) = self._network.run(None, inputs, run)
        made: Samples = np.ravel(sound).astype(np.float32)
        return made


def language_of(voice: str) -> str:
    """Return the voice's language by espeak-ng's name."""
    return "en-us" if voice.startswith("a") else "en-gb"


def named(voice: str) -> str:
    """Return the voice's name for people: Heart (American woman)."""
    accent = "American" if voice[0] == "a" else "British"
    return f"{voice[3:].capitalize()} ({accent} {'woman' if voice[1] == 'f' else 'man'})"


class Kokoro(PlacedEngine[Place]):
    """Text to speech by Kokoro-82M in a worker process."""

    def __init__(
        self, voice: str = DEFAULT_VOICE, *, speed: float = 1.0, volume: float = 1.0, place: MakePlace = Worker
    ) -> None:
        """
        Args:
            voice: one of voices() by name.
            speed: 1 is the voice's own.
            volume: 0 to 1.
        """
        settings = {"voice": voice, "speed": speed, "volume": volume}
        wanted = Wanted("Kokoro", f"{__name__}:Synthesizer", settings, concurrency=CONVERSATIONS, kinds=SPEECH)
        super().__init__(place(wanted))

    def speaker(self) -> NeuralSpeaker:
        return NeuralSpeaker(self._place)

    def speaker_of(self, voice: str) -> NeuralSpeaker:
        return NeuralSpeaker(self._place, voice)

    async def voices(self) -> list[VoiceChoice]:
        return [VoiceChoice(voice, named(voice)) for voice in KOKORO_VOICES]
