"""`python3 setup.py doctor`: is all well on this machine, with the engines that are chosen? Exit status 0 if it is."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.text import Text

from config.hardware import look
from config.profiles import PROFILES, Name, propose
from config.settings import Settings
from config.store import SettingsError, SettingsStore
from pipeline.doctor import Begun, Finding, Grade, examine, loading
from pipeline.engines import Engines

DATA = Path(__file__).resolve().parent.parent / "data"
SIGNS: dict[Grade, tuple[str, str]] = {
    "good": ("✓", "green"), "fair": ("~", "yellow"), "bad": ("✗", "red"), "skipped": ("–", "dim"),
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="setup.py doctor",
        description="Load every chosen engine, run it, and say how it did. Nothing of yours is changed.",
        epilog="The same is a button on the setup page.",
    )
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="folder with settings and memory")
    parser.add_argument("--profile", choices=tuple(PROFILES), help="these engines, instead of those in the settings")
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")
    return parser


def main(argv: list[str]) -> int:
    options = parser().parse_args(argv)
    try:
        loaded = SettingsStore(options.data).load()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    settings = loaded.settings
    if options.profile:
        settings = PROFILES[cast(Name, options.profile)].applied_to(settings)
    console = Console(quiet=options.json)
    if loaded.notice:
        print(loaded.notice, file=sys.stderr)
    try:
        findings = asyncio.run(_tell(console, settings, options.data))
    except KeyboardInterrupt:
        return 130
    ok = all(finding.grade != "bad" for finding in findings)
    if options.json:
        hardware = look()
        told = {"ok": ok, "profile": settings.profile, "findings": [asdict(finding) for finding in findings],
                "hardware": asdict(hardware) | {"instructions": sorted(hardware.instructions)},
                "proposed": propose(hardware).profile.name}  # fmt: skip
        print(json.dumps(told, indent=2))
    fair = sum(finding.grade == "fair" for finding in findings)
    console.print("All is well." if ok and not fair else "All works; some of it could be better." if ok
                  else "Something does not work: see above.", style="bold")  # fmt: skip
    return 0 if ok else 1


async def _tell(console: Console, settings: Settings, data: Path) -> list[Finding]:
    findings = []
    async for step in _steps(settings, data):
        if isinstance(step, Finding):
            findings.append(step)
            sign, colour = SIGNS[step.grade]
            passed = f"  {step.seconds:.2f} s" if step.seconds is not None else ""
            console.print(Text.assemble((f"{sign} {step.title}", colour), (passed, "dim"), "\n    ", step.text))
    return findings


async def _steps(settings: Settings, data: Path) -> AsyncIterator[Begun | Finding]:
    """Engines started, examined and ended, whatever happens."""
    engines = Engines(settings, data)
    try:
        async for finding in loading(engines):
            yield finding
        async for step in examine(engines, settings, data):
            yield step
    finally:
        await engines.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
