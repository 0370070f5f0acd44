"""CSM as the voice: it imitates a reference recording and uses both sides of the conversation as context.

The model runs in a worker process (csm_talks.py).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

from pipeline.audio import Samples
from pipeline.engine import EngineError, Report
from pipeline.tts import SPEECH, Spoken
from pipeline.tts.unbroken import unbroken
from pipeline.workers.place import ChangeablePlace, MakePlace, Place, PlacedEngine, Seat, Wanted
from pipeline.workers.worker import Worker

MADE_BY = "pipeline.tts.csm_talks:Synthesizer"

THREADS = 32
"""Calls that may be in progress at a time; they wait for the one thread that computes."""

log = logging.getLogger(__name__)


class CsmSpeaker:
    def __init__(self, seat: Seat, like: Sequence[tuple[str, str]] | None = None) -> None:
        self._seat = seat
        self._like = like

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        async with aclosing(unbroken(self._seat, text, self._stream)) as frames:
            async for spoken in frames:
                yield spoken

    def _stream(self, text: str) -> AsyncGenerator[Spoken, None]:
        return self._seat.stream("speak", text, self._like)

    async def user_said(self, text: str, samples: Samples) -> None:
        await self._remember("user_said", text, samples)

    async def reply_heard(self, samples: int) -> None:
        """Note that only this many samples (24 kHz) of the finished reply were heard, and forget the rest."""
        await self._remember("said", samples)

    async def close(self) -> None:
        await self._seat.leave()

    async def _remember(self, method: str, *args: Any) -> None:
        """Add context. A failure costs the voice only context, so it is logged and not shown to the user."""
        try:
            await self._seat.call(method, *args)
        except EngineError as error:
            log.warning("The voice continues without this turn as context: %s", error)


class Csm(PlacedEngine[Place]):
    """Text to speech by CSM in a worker process."""

    def __init__(
        self,
        model: str,
        voices: Path,
        *,
        references: Sequence[tuple[str, str]] = (),
        precision: str = "auto",
        measured: str | None = None,
        device: str | None = None,
        adapter: str = "",
        place: MakePlace = Worker,
    ) -> None:
        """
        Args:
            model: a hub id, or a folder with a checkpoint in either published format.
            voices: the folder of the reference recordings.
            references: file names in that folder and their transcripts; the voice to speak with.
            precision: "fp32", "bf16", "int8", "int4", or "auto".
            measured: what "auto" means on this machine's CPU; by default 4 bits.
            device: "cuda", "mlx", "mps", "cpu"; by default the GPU if there is one.
            adapter: the folder of a trained voice, as csm-train writes it; empty for none.
        """
        self._voices, self._references = voices, references
        self._model = {"model": model, "precision": precision, "measured": measured}
        arguments = {
            **self._model,
            "references": _files(voices, references),
            "device": device,
            "adapter": adapter,
        }
        wanted = Wanted("CSM", MADE_BY, arguments, concurrency=THREADS, kinds=SPEECH)
        super().__init__(place(wanted))

    async def start(self, report: Report) -> None:
        self._check(self._references)
        await super().start(report)

    def can_become(self, arguments: Mapping[str, object]) -> bool:
        """Whether only the voice changes, with the same model in a process that nobody else uses."""
        same = {name: arguments[name] for name in self._model} == self._model and arguments["voices"] == self._voices
        return same and isinstance(self._place, ChangeablePlace)

    async def become(self, arguments: Mapping[str, Any]) -> None:
        """Change the voice once nobody speaks. Raises EngineError, and keeps the old voice."""
        references = arguments["references"]
        self._check(references)
        place = cast(ChangeablePlace, self._place)
        await place.change(references=_files(self._voices, references), adapter=arguments["adapter"])
        self._references = references

    async def computes_by(self) -> str | None:
        """Return what computes with packed weights; None if they are not packed. Raises EngineError."""
        by: str | None = await self._place.call("computes_by")
        return by

    def _check(self, references: Sequence[tuple[str, str]]) -> None:
        for name, _ in references:
            check_name(self._voices, name)

    def speaker(self) -> CsmSpeaker:
        return CsmSpeaker(self._place.seat("close_talk"))

    def speaker_like(self, references: Sequence[tuple[Path, str]]) -> CsmSpeaker:
        return CsmSpeaker(self._place.seat("close_talk"), [(str(path), text) for path, text in references])


def _files(folder: Path, references: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(str(folder / name), text) for name, text in references]


def check_name(folder: Path, name: str) -> None:
    """Raise EngineError if the name is not the bare name of a file in this folder."""
    if Path(name).name != name or not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise EngineError(f"{name!r} is not a file name: put the recording into {folder} and give its name there.")
