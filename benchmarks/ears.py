"""How well and how soon the recognisers understand: Whisper with its short and its whole window, tiny.en, PocketSphinx.

    python benchmarks/ears.py                      everything; minutes for each row
    python benchmarks/ears.py --sentences 20       fewer sentences
    python benchmarks/ears.py --only base tiny.en --latency
    python benchmarks/ears.py --tiny FOLDER        the folder of a Whisper tiny.en (in CTranslate2's format)

The word error rate counts words substituted, deleted and inserted, relative to the words said, after Whisper's own
normaliser for English. It is measured on recordings of people and on sentences (sentences.txt) spoken by the voices on
this machine, half of them each: clean, with pink noise 10 dB below, and resampled through 8 kHz as on a telephone.

"As it is spoken" feeds 64 ms at a time and lets every decoding that has begun finish, so that as many final transcripts
as possible come from a lull; the other rows decode each sentence once. --latency plays recordings and sentences at the
pace of speech, with Silero in front, and counts from the pause in which a conversation requests the last words. The
voices' speech is kept in --speech and reused.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import soundfile
import soxr
from onnxruntime import InferenceSession

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.simulated_user import machine
from config import Settings
from config.engines import CATALOGUE
from pipeline.audio import EAR_RATE, MOUTH_RATE, Samples
from pipeline.ends.file import read_sound
from pipeline.engine import EngineError
from pipeline.engines.catalogue import create
from pipeline.engines.trial import speak
from pipeline.stt import SpeechToText
from pipeline.stt.decoder import WHOLE_S
from pipeline.stt.pocketsphinx import PocketSphinx
from pipeline.stt.whisper import Whisper, WhisperHearing
from pipeline.tts import TextToSpeech
from pipeline.turns.judges import SpeechDetector
from pipeline.turns.taking import PAUSE_MS
from pipeline.turns.vad import FRAME, VoiceActivity, load_model
from tests.support.recordings import recording

SENTENCES = Path(__file__).with_name("sentences.txt")
RECORDINGS = {
    "weather_question.wav": "What is the weather in Paris?",
    "jfk.flac": "And so, my fellow Americans, ask not what your country can do for you, "
    "ask what you can do for your country.",
    "austen_0870.wav": "and mister john dashwood had then leisure to consider how much there might be prudently "
    "in his power to do for them",
    "austen_0880.wav": "he was not an ill disposed young man",
    "austen_0890.wav": "unless to be rather cold hearted and rather selfish is to be ill disposed",
}
VOICES = ("piper", "kokoro", "espeak")
"""The first two that are on this machine speak the sentences."""
BLOCK = 2 * FRAME
NOISE_DB = 10.0


@dataclass(frozen=True, slots=True)
class Utterance:
    text: str
    sound: Samples
    """16 kHz, with half a second of quiet before and after."""


@dataclass(frozen=True, slots=True)
class Ears:
    label: str
    engine: SpeechToText
    as_spoken: bool = False
    """Decode in lulls, as in a conversation."""


def quiet_around(sound: Samples) -> Samples:
    return np.pad(sound, EAR_RATE // 2)


def noisy(sound: Samples, seed: int) -> Samples:
    """Add pink noise NOISE_DB below the speech, by the power of both."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(len(sound)))
    spectrum /= np.sqrt(np.maximum(1, np.arange(len(spectrum))))
    noise = np.fft.irfft(spectrum, len(sound))
    wanted = np.sqrt(np.mean(sound**2) / 10 ** (NOISE_DB / 10))
    mixed: Samples = (sound + noise * wanted / np.sqrt(np.mean(noise**2))).astype(np.float32)
    return mixed


def telephone(sound: Samples) -> Samples:
    narrow: Samples = soxr.resample(soxr.resample(sound, EAR_RATE, 8000), 8000, EAR_RATE)
    return narrow


async def spoken(sentences: Sequence[str], folder: Path) -> Iterator[Utterance]:
    """Speak the sentences with the voices in turn."""
    voices = [name for name in VOICES if ("voice", name) in CATALOGUE][:2]
    for number, name in enumerate(voices):
        missing = [
            at for at in range(number, len(sentences), len(voices)) if not (folder / name / f"{at}.wav").exists()
        ]
        if missing:
            (folder / name).mkdir(parents=True, exist_ok=True)
            voice = cast(TextToSpeech, create(CATALOGUE["voice", name], Settings(), folder))
            await voice.start(lambda progress: None)
            for at in missing:
                sound = (await speak(voice, sentences[at])).sound
                soundfile.write(folder / name / f"{at}.wav", soxr.resample(sound, MOUTH_RATE, EAR_RATE), EAR_RATE)
            await voice.stop()
    files = (folder / voices[at % len(voices)] / f"{at}.wav" for at in range(len(sentences)))
    return (Utterance(text, quiet_around(read_sound(file))) for text, file in zip(sentences, files, strict=True))


def errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """Words substituted, deleted and inserted: Levenshtein's distance."""
    row = list(range(len(heard) + 1))
    for lost, word in enumerate(said, 1):
        corner, row[0] = row[0], lost
        for at, other in enumerate(heard, 1):
            corner, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, corner + (word != other))
    return row[-1]


async def understood(ears: Ears, sound: Samples) -> str:
    hearing = ears.engine.listen()
    try:
        if not ears.as_spoken:
            await hearing.feed(sound)
            return (await hearing.finish()).text
        assert isinstance(hearing, WhisperHearing)
        for at in range(0, len(sound), BLOCK):
            await hearing.feed(sound[at : at + BLOCK])
            await hearing.caught_up()
        return (await hearing.finish()).text
    finally:
        await hearing.close()


async def words_wrong(ears: Ears, said: Sequence[Utterance], *, show: bool) -> float:
    """The word error rate, in percent."""
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    normal = EnglishTextNormalizer({})  # type: ignore[no-untyped-call]
    wrong = total = 0
    for each in said:
        heard = await understood(ears, each.sound)
        reference = normal(each.text).split()
        found = errors(reference, normal(heard).split())
        wrong, total = wrong + found, total + len(reference)
        if found and show:
            print(f"  {ears.label}: {each.text}  →  {heard}", file=sys.stderr)
    return 100 * wrong / total


def speech_end(model: InferenceSession, sound: Samples) -> int:
    """The sample after the last frame that Silero takes for speech."""
    vad, detector, end = VoiceActivity(model), SpeechDetector(0.5), 0
    for at in range(0, len(sound) - FRAME + 1, FRAME):
        detector.update(vad.probability(sound[at : at + FRAME]))
        if detector.speaking and not detector.silence_frames:
            end = at + FRAME
    return end


async def after_the_pause(ears: Ears, sounds: Sequence[Samples]) -> list[float]:
    """Milliseconds from the pause to the last words, at the pace of speech."""
    model, loop, found = load_model(), asyncio.get_running_loop(), []
    for sound in sounds:
        hearing, pause = ears.engine.listen(), speech_end(model, sound) + round(PAUSE_MS * EAR_RATE / 1000)
        began, fed = loop.time(), 0
        while fed < pause:
            following = min(fed + BLOCK, pause)
            await asyncio.sleep(max(0.0, began + following / EAR_RATE - loop.time()))
            await hearing.feed(sound[fed:following])
            fed = following
        asked = loop.time()
        await hearing.finish()
        found.append(1000 * (loop.time() - asked))
        await hearing.close()
    return found


def makers(model: str, tiny: Path | None) -> Mapping[str, Ears]:
    """The rows to measure, by name."""
    rows = {
        "spoken": Ears("Whisper base, as it is spoken", Whisper(model, "en"), as_spoken=True),
        "base": Ears("Whisper base, decoded once", Whisper(model, "en")),
        "whole": Ears("Whisper base, window of 30 s", Whisper(model, "en", shortest_s=WHOLE_S)),
        "pocketsphinx": Ears("PocketSphinx", PocketSphinx("en")),
    }
    if tiny is not None:
        rows["tiny.en"] = Ears("Whisper tiny.en, decoded once", Whisper(str(tiny), "en"))
    return rows


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=200, metavar="N", help="how many; each of the 100 comes twice")
    parser.add_argument("--only", nargs="+", choices=("spoken", "base", "whole", "pocketsphinx", "tiny.en"))
    parser.add_argument("--base", default="base", metavar="MODEL", help="or the folder of another Whisper")
    parser.add_argument("--tiny", type=Path, metavar="FOLDER")
    parser.add_argument("--speech", type=Path, default=Path.home() / ".cache" / "parley-ears", metavar="FOLDER")
    parser.add_argument("--latency", action="store_true", help="the time after the pause, in place of the words")
    parser.add_argument("--show", action="store_true", help="what was misunderstood")
    chosen = parser.parse_args()
    lines = SENTENCES.read_text(encoding="utf-8").splitlines()
    # the second hundred is shifted by one, so that each voice says each sentence
    said = list(await spoken([*lines, lines[-1], *lines[:-1]][: chosen.sentences], chosen.speech))
    people = [Utterance(text, quiet_around(read_sound(recording(name)))) for name, text in RECORDINGS.items()]
    conditions = {
        "people": people,
        "sentences": said,
        f"noise, {NOISE_DB:.0f} dB": [Utterance(each.text, noisy(each.sound, n)) for n, each in enumerate(said)],
        "8 kHz": [Utterance(each.text, telephone(each.sound)) for each in said],
    }
    columns = ("median, ms", "p90, ms", "longest, ms") if chosen.latency else tuple(conditions)
    print(f"{machine()}; {len(said)} sentences\n\n| ears | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, ears in makers(chosen.base, chosen.tiny).items():
        if (chosen.only and name not in chosen.only) or (chosen.latency and name == "base"):
            continue  # at the pace of speech, both decode alike
        await ears.engine.start(lambda progress: None)
        try:
            if chosen.latency:
                times = await after_the_pause(ears, [each.sound for each in (*people, *said)])
                figures = [f"{value:.0f}" for value in
                           (statistics.median(times), np.quantile(times, 0.9), max(times))]  # fmt: skip
            else:
                wrong = [await words_wrong(ears, each, show=chosen.show) for each in conditions.values()]
                figures = [f"{value:.1f}" for value in wrong]
        finally:
            await ears.engine.stop()
        print(f"| {ears.label} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except EngineError as error:
        sys.exit(str(error))
