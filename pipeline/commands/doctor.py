"""`python3 setup.py doctor`: does everything work on this machine, with the chosen engines?"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import cast

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from config.hardware import look
from config.nvidia import one_card
from config.places import DATA
from config.profiles import PROFILES, Name, propose
from config.settings import Settings
from config.store import SettingsError, SettingsStore
from config.text import printable
from pipeline.commands.terminal import Terminal
from pipeline.doctor import WORDS, Begun, Finding, Grade, Step, Working, examine
from pipeline.engines.running import Engines

SIGNS: dict[Grade, tuple[str, str]] = {
    "good": ("✓", "green"), "fair": ("~", "yellow"), "bad": ("✗", "red"), "open": ("?", "cyan"),
    "skipped": ("–", "dim"),
}  # fmt: skip

LINE_EVERY_S = 15.0
"""Seconds between two progress lines if the output is no terminal."""

WELL, ILL, STOPPED = 0, 1, 130
"""Exit codes."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="setup.py doctor",
        description="Load every chosen engine, run it, and report how it did. No setting is changed; only the speed "
        "of the voice in each precision is stored, for its precision “auto”.",
        epilog="Exit status: 0 if nothing is wrong, even if something could be better; 1 if something does not work; "
        "2 for a wrong option; 130 if it was stopped. “Check setup” on the setup page does the same.",
    )
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="folder with settings and memory")
    parser.add_argument(
        "--profile", choices=tuple(PROFILES), help="check the engines of this profile, instead of those in the settings"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs and bug reports")
    return parser


def main(argv: list[str]) -> int:
    options = parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a character missing from the encoding is no reason to stop
    try:
        loaded = SettingsStore(options.data).load()
    except SettingsError as error:
        print(printable(str(error)), file=sys.stderr)
        return ILL
    settings = loaded.settings
    if options.profile:
        settings = PROFILES[cast(Name, options.profile)].applied_to(settings)
    if loaded.notice:
        print(printable(loaded.notice), file=sys.stderr)
    console = Terminal(quiet=options.json)
    try:
        findings = asyncio.run(_examined(console, settings, options.data))
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return STOPPED
    grades = {finding.grade for finding in findings}
    if options.json:
        print(json.dumps(_as_data(settings, findings), indent=2))
    console.print(_summary(findings), style="bold")
    return ILL if "bad" in grades else WELL


def _summary(findings: list[Finding]) -> str:
    grades = {finding.grade for finding in findings}
    if "bad" in grades:
        return "Something isn’t working: see above."
    works = "Everything works, but some of it could be better." if "fair" in grades else "Everything works."
    untried = any(finding.check == "microphone" and finding.grade == "skipped" for finding in findings)
    return f"{works} The microphone wasn’t tried." if untried else works


async def _examined(console: Console, settings: Settings, data: Path) -> list[Finding]:
    """Show each step as it comes. Starts the engines and always stops them."""
    findings = []
    with _Live(console) if console.is_terminal else nullcontext(Lines(console)) as shown:
        async with aclosing(_steps(settings, data)) as steps:
            async for step in steps:
                shown.tell(step)
                if isinstance(step, Finding):
                    findings.append(step)
    return findings


async def _steps(settings: Settings, data: Path) -> AsyncGenerator[Step, None]:
    os.environ.update(await asyncio.to_thread(one_card))
    engines = Engines(settings, data)
    try:
        async with aclosing(examine(engines, settings, data, load=True)) as steps:
            async for step in steps:
                yield step
    finally:
        await engines.stop()


class Lines:
    """Output without a terminal: findings, slow steps, and now and then their progress."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._last = clock()

    def tell(self, step: Step) -> None:
        match step:
            case Finding():
                self._print(*_shown(step))
            case Working() if not step.passing or self._clock() - self._last >= LINE_EVERY_S:
                self._print(Text(f"  {step.title}: {step.text} …", "dim"))

    def _print(self, *lines: RenderableType) -> None:
        self._last = self._clock()
        self._console.print(*lines, sep="\n")


class _Live:
    """Output on a terminal: below the findings, the current step and its elapsed time."""

    def __init__(self, console: Console) -> None:
        columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        self._progress = Progress(*columns, console=console, transient=True)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Live:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tell(self, step: Step) -> None:
        match step:
            case Begun():
                self._tasks[step.check] = self._progress.add_task(step.title)
            case Working():
                room = self._progress.console.width - 15  # leaves space for the spinner and the time
                text = Text(f"{step.title}: {step.text}")
                text.truncate(room, overflow="ellipsis")
                self._progress.update(self._tasks[step.check], description=text.markup)
            case Finding():
                if (task := self._tasks.pop(step.check, None)) is not None:
                    self._progress.remove_task(task)
                self._progress.console.print(*_shown(step), sep="\n")


def _shown(finding: Finding) -> tuple[Text, Padding]:
    sign, colour = SIGNS[finding.grade]
    took = f"  {finding.seconds:.2f} s" if finding.seconds is not None else ""
    title = Text.assemble((f"{sign} {finding.title}: {WORDS[finding.grade]}", colour), (took, "dim"))
    return title, Padding(Text(finding.text), (0, 0, 0, 4), expand=False)


def _as_data(settings: Settings, findings: list[Finding]) -> dict[str, object]:
    """Return the result for `--json`."""
    hardware = look()
    return {
        "ok": all(finding.grade != "bad" for finding in findings),
        "profile": settings.profile,
        "findings": [asdict(finding) for finding in findings],
        "hardware": asdict(hardware) | {"instructions": sorted(hardware.instructions)},
        "proposed": propose(hardware).profile.name,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
