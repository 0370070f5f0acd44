"""`python3 setup.py models`: shows what this machine can run, and downloads models; for the page as JSON lines."""

from __future__ import annotations

import argparse
import getpass
import json
import logging
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast, get_args

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column, Table

from config.cache import Source
from config.engines import Stage, fetches
from config.hardware import Hardware, in_words, look
from config.models import MODELS, is_downloaded, licence, verdict
from config.places import DATA
from config.profiles import PROFILES, Name, propose
from config.store import SettingsError, SettingsStore
from config.text import printable
from pipeline.commands.terminal import Terminal
from pipeline.models.downloads import Downloader, DownloadError, TokenNeeded, keep_token
from pipeline.models.plan import FetchPlan, Tick

EVERY = 0.2
"""Seconds between two JSON lines of progress."""
LINE_EVERY = 15.0
"""Seconds between two lines if the output is no terminal."""

Tell = Callable[[FetchPlan, Tick], None]


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="setup.py models",
        description="Download the models of the engines chosen on the setup page, or of those named here. A download "
        "that was stopped continues where it was.",
        epilog="Set HF_ENDPOINT to use a mirror, and HF_HOME to use another folder.",
    )
    parser.add_argument("models", nargs="*", metavar="STAGE:ENGINE:MODEL",
                        help="such as ears:whisper:small or voice:csm:sesame/csm-1b")  # fmt: skip
    parser.add_argument(
        "--profile", choices=[*PROFILES, "auto"], help="the models of a profile; auto: of the proposed one"
    )
    parser.add_argument(
        "--list", action="store_true", help="only show what this computer can run, and what it already has"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before downloading")
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="folder with the settings")
    parser.add_argument("--json", action="store_true", help="JSON lines, for programs")
    parser.add_argument("--token-from-stdin", action="store_true", help="read the hub's token from standard input")
    return parser


def main(argv: list[str]) -> int:
    options = parser().parse_args(argv)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # this command reports everything itself
    token = sys.stdin.read().strip() if options.token_from_stdin else None
    try:
        if options.list:
            show_models(look())
            return 0
        wanted = list(chosen(options.models, options.profile, options.data))
        if options.json:
            return fetch_for_a_program(wanted, token)
        return fetch_at_the_terminal(wanted, token, ask=not options.yes)
    except (DownloadError, SettingsError, ValueError) as error:
        if options.json:
            _say("failed", message=str(error), licence=error.licence if isinstance(error, TokenNeeded) else None)
        else:
            print(f"\n{printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Start again to continue.", file=sys.stderr)
        return 130


def chosen(names: list[str], profile: str | None, data: Path) -> Iterable[Source]:
    """Yield what to download. Raises ValueError for a name that is not STAGE:ENGINE:MODEL, SettingsError for
    unreadable settings."""
    if names:
        for name in names:
            stage, _, rest = name.partition(":")
            engine, _, model = rest.partition(":")
            if stage not in get_args(Stage) or not engine:
                raise ValueError(
                    f"{name} is not a choice: write a stage, an engine and a model, as in ears:whisper:small."
                )
            yield from fetches(cast(Stage, stage), engine, model)
        return
    if profile == "auto":
        picked = propose(look()).profile
    elif profile:
        picked = PROFILES[cast(Name, profile)]
    else:
        settings = SettingsStore(data).load().settings
        for stage in get_args(Stage):
            choice = getattr(settings, stage)
            yield from fetches(stage, choice.engine, choice.model)
        return
    for stage, choice in picked.choices:
        yield from fetches(stage, choice.engine, choice.model)


def fetch_for_a_program(wanted: list[Source], token: str | None) -> int:
    downloader = Downloader(token)
    plan = downloader.plan(wanted)
    if token:
        keep_token(token)
    files = [{"repository": file.repository, "path": file.path, "size": file.size, "have": file.have}
             for file in plan.files]  # fmt: skip
    _say("plan", files=files, size=plan.size, have=plan.have)
    told = _Seldom(EVERY)

    def tell(tick: Tick) -> None:
        if told.due(tick, plan):
            _say("progress", **asdict(tick))

    downloader.fetch(plan, tell)
    _say("done", size=plan.size)
    return 0


def fetch_at_the_terminal(wanted: list[Source], token: str | None, *, ask: bool) -> int:
    console = Terminal()
    if not wanted:
        console.print(
            "The chosen engines need no download. `--profile auto` downloads what is proposed for this computer."
        )
        return 0
    downloader, plan = _unlocked(console, wanted, token)
    console.print(_overview(plan))
    if plan.have == plan.size:
        downloader.fetch(plan, lambda tick: None)
        console.print("All of it is here.")
        return 0
    console.print(f"{in_words(plan.size - plan.have)} to fetch.")
    if ask and sys.stdin.isatty() and input("Fetch it now? [Y/n] ").strip().lower() not in ("", "y", "yes"):
        return 0
    if console.is_terminal:
        with _Bars(console, plan) as bars:
            downloader.fetch(plan, bars.tell)
    else:
        downloader.fetch(plan, _Lines(plan).tell)
    console.print("Fetched and checked.")
    return 0


def _unlocked(console: Console, wanted: list[Source], token: str | None) -> tuple[Downloader, FetchPlan]:
    """Ask for a token, without showing it, as long as one is needed and somebody is there to enter it."""
    while True:
        downloader = Downloader(token)
        try:
            plan = downloader.plan(wanted)
        except TokenNeeded as error:
            if not sys.stdin.isatty():
                raise
            console.print(str(error))
            token = getpass.getpass("Token (not shown; leave it empty to stop): ").strip()
            if not token:
                raise
            continue
        if token:
            keep_token(token)
        return downloader, plan


def show_models(hardware: Hardware) -> None:
    console = Terminal()
    gpus = ", ".join(f"{gpu.name} ({in_words(gpu.free_bytes)} free)" for gpu in hardware.gpus) or "no NVIDIA card"
    console.print(f"{hardware.processor}, {hardware.cores} cores, {in_words(hardware.memory_bytes)} of memory; {gpus}; "
                  f"{in_words(hardware.free_disk_bytes)} of disk free.")  # fmt: skip
    table = Table("", "model", "download", "licence", "here", "why", box=None)
    signs = {"well": "[green]runs[/]", "slowly": "[yellow]slowly[/]", "no": "[red]no[/]"}
    for model in MODELS:
        judged = verdict(model, hardware)
        here = "yes" if is_downloaded(model) else ""
        size = in_words(model.download_bytes) if model.download_bytes else "none"
        table.add_row(signs[judged.runs], f"{model.label} ({model.stage})", size, licence(model), here, judged.why)
    console.print(table)
    proposal = propose(hardware)
    console.print(f"Proposed: the profile {proposal.profile.name}. {proposal.why}")


def _overview(plan: FetchPlan) -> Table:
    """Return a table with one row per repository."""
    table = Table("model", Column("files", justify="right"), Column("size", justify="right"), "here", box=None)
    for repository in dict.fromkeys(file.repository for file in plan.files):
        part = FetchPlan(tuple(file for file in plan.files if file.repository == repository))
        here = "all of it" if part.have == part.size else in_words(part.have) if part.have else ""
        table.add_row(repository, str(len(part.files)), in_words(part.size), here)
    return table


def _left(tick: Tick) -> str:
    if tick.left_s is None:
        return ""
    minutes, seconds = divmod(round(tick.left_s), 60)
    return f"{minutes}:{seconds:02d} min left" if minutes else f"{seconds} s left"


class _Bars:
    """Two progress bars: for the current file, and for all files."""

    def __init__(self, console: Console, plan: FetchPlan) -> None:
        self._plan = plan
        self._progress = Progress(
            TextColumn("{task.description}", table_column=Column(ratio=2, no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            TextColumn("{task.fields[amount]}", table_column=Column(no_wrap=True, justify="right")),
            TextColumn("{task.fields[pace]}", table_column=Column(no_wrap=True, min_width=20)),
            console=console,
            expand=True,
            transient=True,
        )
        self._file = self._progress.add_task("", amount="", pace="")
        self._all = self._progress.add_task("in all", amount="", pace="")

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tell(self, tick: Tick) -> None:
        file, plan = self._plan.files[tick.file], self._plan
        doing = "checking" if tick.checking else "connection lost" if tick.waiting else ""
        pace = f"{in_words(round(tick.speed))}/s {_left(tick)}"
        name = f"{Path(file.repository).name}: {Path(file.path).name}"
        self._show(self._file, name, tick.file_have, file.size, doing)
        self._show(self._all, "in all", tick.have, plan.size, pace)

    def _show(self, bar: TaskID, name: str, have: int, size: int, pace: str) -> None:
        amount = f"{in_words(have)} of {in_words(size)}"
        self._progress.update(bar, description=name, completed=have, total=size, amount=amount, pace=pace)


class _Lines:
    """Output without a terminal: a line when a file has arrived, and one now and then."""

    def __init__(self, plan: FetchPlan) -> None:
        self._plan = plan
        self._clock = time.monotonic
        self._last = self._clock()
        self._here = {number for number, file in enumerate(plan.files) if file.linked}

    def tell(self, tick: Tick) -> None:
        file, plan = self._plan.files[tick.file], self._plan
        whole = tick.file_have == file.size and not tick.checking and tick.file not in self._here and file.linked
        if not whole and self._clock() - self._last < LINE_EVERY and not tick.waiting:
            return
        self._last = self._clock()
        if whole:
            self._here.add(tick.file)
        doing = "fetched" if whole else "checking" if tick.checking else "connection lost" if tick.waiting else ""
        line = f"{file.repository}/{file.path} {doing or in_words(tick.file_have)}"
        pace = f"{in_words(round(tick.speed))}/s"
        print(
            ", ".join(
                filter(None, [f"{line}; in all {in_words(tick.have)} of {in_words(plan.size)}", pace, _left(tick)])
            ),
            flush=True,
        )


class _Seldom:
    """Limits how often ticks are reported: after some time, or when another step begins."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._clock = time.monotonic
        self._last = -every
        self._before: tuple[int, bool, bool] | None = None

    def due(self, tick: Tick, plan: FetchPlan) -> bool:
        now, step = self._clock(), (tick.file, tick.checking, tick.waiting)
        if now - self._last < self._every and step == self._before and tick.have < plan.size:
            return False
        self._last, self._before = now, step
        return True


def _say(kind: str, **fields: Any) -> None:
    print(json.dumps({"kind": kind, **fields}), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
