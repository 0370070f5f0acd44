"""What each engine costs on this machine: time to load, memory, and time to its first result.

    python benchmarks/engines.py                       every available engine
    python benchmarks/engines.py --only ears voice     some of them
    python benchmarks/engines.py --output tables.md

Engines are started as Parley starts them, and get recordings of real people, questions, and sentences. If published
weights are not on this machine, random ones of the same shape replace them and their rows say so: the time of a layer
does not depend on its numbers. Whisper and the language model are then made to write the same words for any input, so
that outputs have a defined length (tests/support/tiny_models.py).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.simulated_user import machine
from config import Settings
from config.cache import is_here
from config.engines import CATALOGUE, Stage, fetches, named
from config.settings import DEFAULT_PERSONA
from pipeline.audio import EAR_RATE, Samples
from pipeline.ends.file import read_sound
from pipeline.engine import Engine, EngineError
from pipeline.engines.catalogue import create
from pipeline.engines.memory import WorkerMemory
from pipeline.engines.trial import speak
from pipeline.llm import LanguageModel, Message, Prompt
from pipeline.llm.vllm import PYTHON
from pipeline.stt import SpeechToText
from pipeline.tts import TextToSpeech
from pipeline.tts.clauses import ClauseSplitter
from pipeline.turns.model import WorkerTurnModel
from pipeline.turns.vad import FRAME, VoiceActivity, load_model
from tests.support.recordings import recording
from tests.support.tiny_models import write_llama, write_whisper

RECORDINGS = ("weather_question.wav", "austen_0880.wav", "austen_0890.wav")
QUESTION = "My dog is called Rufus. What can you do?"
SENTENCE = "I can look at what you told me before, and tell you about it whenever you like."
REMEMBERED = 1000
"""Turns in the memory that is queried."""

BASE_WHISPER = {
    "d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 8,
    "decoder_attention_heads": 8, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048,
}  # fmt: skip
"""The shape of openai/whisper-base.en."""
HALF_BILLION = {
    "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 32_768,
}  # fmt: skip
"""The shape of Qwen/Qwen2.5-0.5B-Instruct."""
RANDOM = "random weights: times only"


@dataclass(frozen=True, slots=True)
class Row:
    engine: str
    weights: str
    load_s: float
    memory_bytes: int | None
    measured: tuple[str, ...]
    """One cell for each column of its table."""


COLUMNS = {
    "beside": ("what", "median, ms", "longest, ms"),  # first, while its use of this very process can still be seen
    "ears": ("first partial, ms", "final after the pause, ms", "longest final, ms"),
    "mind": ("first token, ms", "first clause, ms", "tokens a second"),
    "voice": ("first sample, ms", "real-time factor"),
}


# -- weights -------------------------------------------------------------------------------------------------------


class Weights:
    """The published weights if they are here, otherwise random ones of their shape in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, stage: Stage, engine: str) -> tuple[str, str]:
        """Return (the model as in the settings, a description of its weights)."""
        model = named(stage, engine, "")
        if engine in ("vllm", "transformers"):
            model = "Qwen/Qwen2.5-0.5B-Instruct"
        wanted = fetches(stage, engine, model)
        if not wanted:
            return "", "its own"
        if all(is_here(fetch) for fetch in wanted):
            return model, model
        made = self._folder / stage
        if not made.exists():
            print(f"making random weights in the shape of {model} …", file=sys.stderr, flush=True)
            {"ears": self._whisper, "mind": self._language_model, "voice": self._speech_model}[stage](made)
        return str(made), f"{model}’s shape, {RANDOM}"

    def _whisper(self, folder: Path) -> None:
        write_whisper(folder, vocabulary=50_257, shape=BASE_WHISPER)

    def _language_model(self, folder: Path) -> None:
        import torch

        write_llama(folder, vocabulary=151_900, dtype=torch.bfloat16, shape=HALF_BILLION)

    def _speech_model(self, folder: Path) -> None:
        from benchmarks.csm import random_mimi, random_model
        from csm.checkpoint.checkpoint import save
        from csm.codec.checkpoint import ORIGINAL_FILE, save_mimi
        from tests.csm.tiny import make_tokenizer

        save(random_model(), folder)
        save_mimi(random_mimi(), folder / ORIGINAL_FILE)
        make_tokenizer().save(str(folder / "tokenizer.json"))


# -- stages --------------------------------------------------------------------------------------------------------


async def loaded(make: Callable[[], Engine], times: int) -> tuple[Engine, float]:
    """Return a running engine, and the median of the seconds that its start took."""
    taken: list[float] = []
    while True:
        engine = make()
        began = time.perf_counter()
        try:
            await engine.start(lambda progress: None)
        except EngineError:
            await engine.stop()
            raise
        taken.append(time.perf_counter() - began)
        if len(taken) == times:
            return engine, statistics.median(taken)
        await engine.stop()


def speech(name: str) -> Samples:
    """The speech of a recording, with 400 ms before and 96 ms after, as a conversation passes it on."""
    sound = read_sound(recording(name))
    vad = VoiceActivity(load_model())
    frames = [at for at in range(0, len(sound) - FRAME, FRAME) if vad.probability(sound[at : at + FRAME]) > 0.5]
    return sound[max(0, frames[0] - round(0.4 * EAR_RATE)) : frames[-1] + 4 * FRAME]


async def hear(ears: SpeechToText, sound: Samples) -> tuple[float | None, float]:
    """Return (seconds from the beginning to the first words, from the end to the last words), at the pace of speech.

    It ends with 96 ms of pause, when a conversation requests the last words.
    """
    hearing = ears.listen()
    loop = asyncio.get_running_loop()
    began, first, fed = loop.time(), None, 0
    try:
        while fed < len(sound):
            arrived = round((loop.time() - began) * EAR_RATE) // FRAME * FRAME
            if arrived <= fed:
                await asyncio.sleep(began + (fed + FRAME) / EAR_RATE - loop.time())
                continue
            partial = await hearing.feed(sound[fed:arrived])
            fed = arrived
            if partial is not None and partial.text and first is None:
                first = loop.time() - began
        end = began + len(sound) / EAR_RATE
        await asyncio.sleep(max(0.0, end - loop.time()))
        await hearing.finish()
        return first, loop.time() - end
    finally:
        await hearing.close()


async def measure_ears(engine: Engine, runs: int) -> tuple[str, ...]:
    ears = cast(SpeechToText, engine)
    sounds = [speech(name) for name in RECORDINGS]
    await hear(ears, sounds[0])
    heard = [await hear(ears, sound) for _ in range(runs) for sound in sounds]
    firsts = [first for first, _ in heard if first is not None]
    finals = [final for _, final in heard]
    return ms(statistics.median(firsts)) if firsts else "–", ms(statistics.median(finals)), ms(max(finals))


async def answer(mind: LanguageModel, number: int) -> tuple[float, float, float]:
    """Seconds to the first token and to the first clause, and tokens per second after the first."""
    splitter, clause, pieces = ClauseSplitter(), 0.0, 0
    asked = (Message("user", f"{QUESTION} {number}"),)
    prompt = Prompt(DEFAULT_PERSONA, asked, None, datetime.now().astimezone(), max_tokens=32)
    began = time.perf_counter()
    first = 0.0
    async with aclosing(mind.reply(prompt)) as reply:
        async for piece in reply:
            if not isinstance(piece, str) or not piece:
                continue
            pieces += 1
            first = first or time.perf_counter() - began
            if splitter.feed(piece) and not clause:
                clause = time.perf_counter() - began
    whole = time.perf_counter() - began
    return first, clause or whole, (pieces - 1) / (whole - first)


async def measure_mind(engine: Engine, runs: int) -> tuple[str, ...]:
    mind = cast(LanguageModel, engine)
    await answer(mind, 0)
    first, clause, rate = (
        statistics.median(each) for each in zip(*[await answer(mind, 1 + n) for n in range(runs)], strict=True)
    )
    return ms(first), ms(clause), f"{rate:.0f}" if rate < 1000 else "–"


async def measure_voice(engine: Engine, runs: int) -> tuple[str, ...]:
    voice = cast(TextToSpeech, engine)
    await speak(voice, SENTENCE)
    said = [await speak(voice, SENTENCE) for _ in range(runs)]
    return ms(
        statistics.median(each.first_s for each in said)
    ), f"{statistics.median(each.factor for each in said):.3f}"


MEASURES: dict[Stage, Callable[[Engine, int], Awaitable[tuple[str, ...]]]] = {
    "ears": measure_ears,
    "mind": measure_mind,
    "voice": measure_voice,
}


async def stage(name: Stage, weights: Weights, data: Path, runs: int) -> list[Row]:
    rows = []
    for (part, engine), spec in CATALOGUE.items():
        if part != name or engine == "openai" or (engine == "vllm" and not PYTHON.exists()):
            continue  # a user's own server is as fast as it is; Parley talks to it as to vLLM
        model, said = weights.of(name, engine)
        settings = Settings()
        getattr(settings, name).model = model
        print(f"{engine} …", file=sys.stderr, flush=True)
        try:
            if engine == "csm":  # packs its weights at its very first start
                await (await loaded(partial(create, spec, settings, data), 1))[0].stop()
            running, seconds = await loaded(partial(create, spec, settings, data), 1 if engine == "vllm" else 3)
        except EngineError as error:
            print(f"{engine} did not start: {error}", file=sys.stderr)
            continue
        try:
            measured = await MEASURES[name](running, runs)
            rows.append(Row(spec.label, said, seconds, running.status.memory_bytes, measured))
        finally:
            await running.stop()
    return rows


async def beside(data: Path, runs: int) -> list[Row]:
    """What every conversation uses besides its three engines."""
    before, began = psutil.Process().memory_info().rss, time.perf_counter()
    network = load_model()
    loading = time.perf_counter() - began
    vad, sound = VoiceActivity(network), speech(RECORDINGS[-1])
    frames = timed([lambda at=at: vad.probability(sound[at : at + FRAME])  # type: ignore[misc]
                    for at in range(0, len(sound) - FRAME, FRAME)])  # fmt: skip
    rows = [Row("Silero VAD", "its own", loading, psutil.Process().memory_info().rss - before,
                ("a frame of 32 ms", *summary(frames)))]  # fmt: skip

    turns, seconds = await loaded(WorkerTurnModel, 3)
    taken = [await clocked(cast(WorkerTurnModel, turns).finished(sound)) for _ in range(10 * runs)]
    rows.append(Row("smart-turn v3.2", "its own", seconds, turns.status.memory_bytes, ("one pause", *summary(taken))))
    await turns.stop()

    memory, seconds = await loaded(lambda: WorkerMemory(data / "memory"), 3)
    kept = cast(Any, memory)
    texts = [f"On day {n} I went to the {('market', 'sea', 'library', 'garden')[n % 4]} and met {n % 37} people."
             for n in range(REMEMBERED)]  # fmt: skip
    remembering = [
        await clocked(kept.remember("user", text, conversation=f"c{n // 20}")) for n, text in enumerate(texts)
    ]
    asked = [f"Whom did I meet at the {place} on day {n}?" for n in range(10 * runs) for place in ("sea", "market")]
    await kept._do("settle")  # wait until every turn has its vector
    await kept.recall(asked[0])
    recalling = [await clocked(kept.recall(question)) for question in asked]
    size = memory.status.memory_bytes
    for what, taken in ((f"recall from {REMEMBERED} turns", recalling), ("remember a turn", remembering)):
        rows.append(Row("Memory, all-MiniLM-L6-v2", "its own", seconds, size, (what, *summary(taken))))
    await memory.stop()
    return rows


# -- figures -------------------------------------------------------------------------------------------------------


async def clocked(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def timed(work: list[Callable[[], object]]) -> list[float]:
    taken = []
    for each in work:
        began = time.perf_counter()
        each()
        taken.append(time.perf_counter() - began)
    return taken


def ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f}" if seconds >= 0.01 else f"{1000 * seconds:.2f}"


def summary(taken: list[float]) -> tuple[str, str]:
    return ms(statistics.median(taken)), ms(max(taken))


def table(name: str, rows: list[Row]) -> str:
    head = [name, "weights", "load, s", "memory, MB", *COLUMNS[name]]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        memory = f"{row.memory_bytes / 1e6:.0f}" if row.memory_bytes else "in Parley’s own"
        lines.append("| " + " | ".join([row.engine, row.weights, f"{row.load_s:.2f}", memory, *row.measured]) + " |")
    return "\n".join(lines)


@contextmanager
def scratch(folder: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=folder) as made:
        yield Path(made)


async def run(chosen: list[str], folder: Path, runs: int) -> str:
    weights, data, tables = Weights(folder), folder / "data", [f"{machine()}; medians of {runs} rounds.", ""]
    data.mkdir()
    for name in chosen:
        rows = await beside(data, runs) if name == "beside" else await stage(cast(Stage, name), weights, data, runs)
        tables += [table(name, rows), ""]
        print(tables[-2], flush=True)
    return "\n".join(tables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*COLUMNS], help="which tables (default: all)")
    parser.add_argument("--runs", type=int, default=5, help="rounds of what is measured (default 5)")
    parser.add_argument("--folder", type=Path, help="where weights are made (6 GB; default: the system's for such)")
    parser.add_argument("--output", type=Path, help="also write the tables into this file")
    arguments = parser.parse_args()
    with scratch(arguments.folder) as folder:
        text = asyncio.run(run(arguments.only or [*COLUMNS], folder, arguments.runs))
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
