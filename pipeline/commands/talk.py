"""A conversation without a browser: with recordings (`talk --input question.wav`) or at the sound card (`talk`)."""

from __future__ import annotations

import _thread
import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

from rich.table import Table
from rich.text import Text

from config.console import closing_ends
from config.hardware import look
from config.nvidia import one_card
from config.places import DATA
from config.profiles import PROFILES, Name
from config.store import SettingsError, SettingsStore
from config.text import printable
from pipeline.audio import MOUTH_RATE, Samples
from pipeline.audio.portaudio import SoundCardError
from pipeline.commands.first_start import first_profile
from pipeline.commands.terminal import Terminal
from pipeline.conversation.conversation import Conversation, local_now
from pipeline.conversation.events import Event, Notice, ReplyText, UserSaid
from pipeline.ends.file import AudioFileError, Held, check_writable, hold, read_sound, write_sound
from pipeline.ends.soundcard import SoundCard, converse
from pipeline.engine import EngineError
from pipeline.engines.own_tools import own_tools
from pipeline.engines.running import Engines
from pipeline.tools.builtin.timers import Timers
from pipeline.turns.record import TurnRecord

STAGES = {
    "decided": "turn over",
    "transcript_final": "understood",
    "recalled": "recalled",
    "first_token": "first word",
    "first_clause": "first clause",
    "first_sample": "first sound",
    "first_heard": "heard",
}
"""The marks of a turn that are shown, with their labels."""

DONE, NOTHING_SAID, BAD_INPUT = 0, 1, 2
"""Exit codes; NOTHING_SAID also when an engine or the sound card failed."""


@dataclass(frozen=True, slots=True)
class Options:
    inputs: tuple[Path, ...] = ()
    output: Path | None = None
    as_json: bool = False
    realtime: bool = False
    data: Path = DATA
    profile: Name | None = None
    microphone: str | None = None
    headset: str | None = None


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="main.py talk",
        description="Hold a conversation without a browser: with recordings, or at this computer's sound card.",
    )
    parser.add_argument("--input", dest="inputs", action="append", type=Path, default=[], metavar="FILE",
                        help="a recording to answer (WAV, MP3, M4A, WebM …); several make several turns")  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the spoken replies to this file (.wav, .flac, .ogg or .mp3)"
    )
    parser.add_argument("--json", dest="as_json", action="store_true", help="print the turns as JSON, for programs")
    parser.add_argument("--realtime", action="store_true",
                        help="run at the pace of speech instead of as fast as the engines allow")  # fmt: skip
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="folder for settings and memory")
    parser.add_argument(
        "--profile",
        choices=tuple(PROFILES),
        help="set of engines for this conversation only (without settings: small, if it runs well here)",
    )
    parser.add_argument("--microphone", metavar="NAME", help="the sound card's microphone, by (part of) its name")
    parser.add_argument("--headset", metavar="NAME", help="the sound card's output, by (part of) its name")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    arguments = parser()
    options = Options(**vars(arguments.parse_args(argv)))
    if not options.inputs and (options.output or options.as_json or options.realtime):
        arguments.error("--output, --json and --realtime go with --input FILE.")
    try:
        # Before the event loop, so that Ctrl-C can interrupt reading from an idle pipe.
        recordings = _inputs(options)
        with closing_ends(_thread.interrupt_main), _ending_in_good_order():
            return asyncio.run(talk(options, recordings))
    except (AudioFileError, SettingsError) as error:
        print(printable(str(error)), file=sys.stderr)
        return BAD_INPUT
    except (EngineError, SoundCardError) as error:
        print(printable(str(error)), file=sys.stderr)
        return NOTHING_SAID
    except KeyboardInterrupt:
        print("\nGoodbye.", file=sys.stderr)
        return DONE


@contextmanager
def _ending_in_good_order() -> Iterator[None]:
    """Let a closed terminal and `kill` end the talk like Ctrl-C does; signals ignored so far (nohup) stay ignored."""

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a closing terminal signals twice, and a second Ctrl-C does not wait
        signal.raise_signal(signal.SIGINT)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    ours = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as for a script's background jobs
    try:
        if ignored:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # the other signals raise this one
        for number in ours:
            signal.signal(number, end)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _inputs(options: Options) -> list[Samples]:
    """Read the recordings. Raises AudioFileError, also for an output that cannot be written."""
    if options.output:
        check_writable(options.output)
    return [read_sound(path) for path in options.inputs]


async def talk(options: Options, recordings: Sequence[Samples]) -> int:
    """Hold a conversation. Raises SettingsError, SoundCardError, EngineError if a stage cannot start, and
    AudioFileError on a full disk."""
    if not recordings:
        return await _at_the_sound_card(options)
    async with conversing(options) as conversation:
        held = await hold(conversation, recordings, realtime=options.realtime)
    if options.output and len(held.sound):
        write_sound(options.output, held.sound)
    _print(held, options)
    return DONE if any(record.heard for record in held.records) else NOTHING_SAID


@asynccontextmanager
async def conversing(options: Options) -> AsyncIterator[Conversation]:
    """Start the engines and a conversation; always end both afterwards."""
    loaded = SettingsStore(options.data).load()
    if loaded.notice:
        print(printable(loaded.notice), file=sys.stderr)
    settings = loaded.settings
    profile = options.profile or await asyncio.to_thread(first_profile, options.data, look(), out=sys.stderr)
    if profile:
        settings = PROFILES[profile].applied_to(settings)
    os.environ.update(await asyncio.to_thread(one_card))
    engines, timers = Engines(settings, options.data), Timers()
    tools = own_tools(engines, timers, lambda: settings, local_now)
    try:
        with Terminal(stderr=True).status("Starting the engines …"):
            await engines.start()
        name = f"talk-{datetime.now():%Y%m%d-%H%M%S}-{uuid4().hex[:6]}"
        async with Conversation(engines.stages(), settings, name=name, toolbox=tools) as conversation:
            tools.begin()
            with timers.told(name, conversation.announce):
                yield conversation
    finally:
        timers.stop()
        await tools.close()
        await engines.stop()


async def _at_the_sound_card(options: Options) -> int:
    audio = SettingsStore(options.data).load().settings.audio
    sound_card = SoundCard(options.microphone or audio.input, options.headset or audio.output)
    await sound_card.find()  # before engines are started or, on a first start, downloaded
    console = Terminal()
    async with conversing(options) as conversation:
        console.print("Speak whenever you like; Ctrl-C ends the conversation.", style="dim")
        await converse(conversation, sound_card, lambda event: _print_live(console, event))
    return DONE


def _print_live(console: Terminal, event: Event) -> None:
    match event:
        case UserSaid(_, _, text) if text:
            console.print(Text.assemble(("You     ", "bold cyan"), printable(text)))
        case ReplyText(_, _, text):
            console.print(Text.assemble(("Parley  ", "bold magenta"), printable(text)))
        case Notice(_, _, _, text):
            console.print(Text(printable(text), "yellow"))


def _print(held: Held, options: Options) -> None:
    for text in dict.fromkeys(notice.text for notice in held.notices):
        print(printable(text), file=sys.stderr)
    if not held.records:
        print("No speech was found in the recording.", file=sys.stderr)
    if options.as_json:
        print(json.dumps(as_data(held, options), indent=2))
        return
    console = Terminal()
    for record in held.records:
        console.print(Text.assemble(("You     ", "bold cyan"), printable(record.user) or "(not understood)"))
        console.print(
            Text.assemble(("Parley  ", "bold magenta"), printable(record.heard or f"({record.why or 'silent'})"))
        )
    if held.records:
        console.print(times_table(held.records))
    if options.output and len(held.sound):
        console.print(Text(f"{len(held.sound) / MOUTH_RATE:.1f} s of speech written to {options.output}", "dim"))


def times_table(records: Sequence[TurnRecord]) -> Table:
    """Return a table with one row per stage and one column per turn."""
    table = Table(title="Milliseconds after the last sample of speech")
    table.add_column("turn")
    for record in records:
        table.add_column(str(record.turn), justify="right")
    times = [stage_times(record) for record in records]
    for mark, name in STAGES.items():
        table.add_row(name, *(f"{of_turn[mark]:.0f}" if mark in of_turn else "–" for of_turn in times))
    return table


def stage_times(record: TurnRecord) -> dict[str, float]:
    """Return milliseconds from the last sample of speech to each mark that was reached."""
    since = ((name, record.since_speech_ended(name)) for name in STAGES)
    return {name: round(1000 * seconds, 1) for name, seconds in since if seconds is not None}


def as_data(held: Held, options: Options) -> dict[str, Any]:
    """Return the conversation for `--json`."""
    return {
        "turns": [record.as_dict() | {"milliseconds": stage_times(record)} for record in held.records],
        "notices": [notice.text for notice in held.notices],
        "output": str(options.output) if options.output and len(held.sound) else None,
        "spoken_seconds": round(len(held.sound) / MOUTH_RATE, 3),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
