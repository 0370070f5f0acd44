"""The memory's part of the API: reading, searching, correcting, forgetting, exporting and importing."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from config import Settings
from web.api.http import Problem, checked, json_object
from web.labels import Label
from web.service import Service
from web.summarizing import unable

MAX_IMPORT = 64 << 20
"""Bytes of an import: more than 200,000 turns."""


class TurnCorrection(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(min_length=1, max_length=20_000)]


class MemoryPause(BaseModel):
    model_config = ConfigDict(extra="forbid")
    paused: bool


class Everything(BaseModel):
    model_config = ConfigDict(extra="forbid")
    everything: bool


def memory_api(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/memory")

    memory = service.engines.memory

    async def forgotten(**what: Any) -> dict[str, Any]:
        count = await memory().forget(**what)
        await service.forget_summaries(**what)
        sound = 0 if "id" in what else await service.forget(**what)
        await service.keep_labels(each.id for each in await memory().conversations())
        if not count + sound:
            raise Problem(404, "There is nothing like that in the memory; it may already have been forgotten.")
        return {"forgotten": count}

    @router.get("")
    async def overview() -> dict[str, Any]:
        """How much is remembered, the conversations, whether the memory is paused, and the summaries of days.

        `cannot_summarise`: why there are no summaries although they are wanted.
        """
        wanted = service.settings.memory.summaries
        labels, recorded, kept = await asyncio.to_thread(
            lambda: (service.labels.all(), service.recordings.all(), service.summaries.all() if wanted else {})
        )
        conversations = [
            asdict(summary) | asdict(labels.get(summary.id, Label())) | {"recorded": summary.id in recorded}
            for summary in await memory().conversations()
        ]
        return {
            "paused": not service.settings.memory.enabled,
            "size": asdict(await memory().size()),
            "conversations": conversations,
            "summaries": {day.isoformat(): {"text": each.text, "by": each.by} for day, each in kept.items()},
            "summarises": wanted,
            "cannot_summarise": unable(service) if wanted else "",
        }

    @router.get("/turns")
    async def turns(
        conversation: Annotated[str | None, Query(max_length=200)] = None,
        day: date | None = None,
        before: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    ) -> dict[str, Any]:
        """What was said, in order; `before` is the id of a turn, to page backwards from."""
        found = await memory().turns(conversation=conversation, day=day, limit=limit, before=before)
        return {"turns": [asdict(turn) for turn in found]}

    @router.get("/search")
    async def search(
        q: Annotated[str, Query(min_length=1, max_length=500)],
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> dict[str, Any]:
        """Search the memory, best first; `more` says whether there are others after these."""
        found = await memory().search(q, limit=limit + 1, offset=offset)
        return {"turns": [asdict(turn) for turn in found[:limit]], "more": len(found) > limit}

    @router.put("/turns/{id:path}")
    async def correct(id: str, request: Request) -> dict[str, Any]:
        """Correct what was said."""
        text = checked(TurnCorrection, await json_object(request)).text
        try:
            await memory().correct(id, text)
        except KeyError:
            raise Problem(404, "There is no such turn in the memory; it may have been forgotten.") from None
        await service.forget_summaries(id=id)
        return {"id": id, "text": text}

    @router.delete("/turns/{id:path}")
    async def forget_turn(id: str) -> dict[str, Any]:
        """Forget one turn."""
        return await forgotten(id=id)

    @router.delete("/conversations/{id:path}")
    async def forget_conversation(id: str) -> dict[str, Any]:
        """Forget a conversation."""
        return await forgotten(conversation=id)

    @router.delete("/days/{day}")
    async def forget_day(day: date) -> dict[str, Any]:
        """Forget a day."""
        return await forgotten(day=day)

    @router.delete("")
    async def forget_everything(request: Request) -> dict[str, Any]:
        """Forget everything. Requires `{"everything": true}`, so that a wrong address never empties the memory."""
        if not checked(Everything, await json_object(request)).everything:
            raise Problem(422, "To forget everything, send everything: true.", "everything")
        forgotten = await memory().forget(everything=True)
        await service.forget_summaries(everything=True)
        await service.forget_people()
        await service.forget(everything=True)
        await service.keep_labels(())
        return {"forgotten": forgotten}

    @router.post("/pause")
    async def pause(request: Request) -> dict[str, Any]:
        """Pause or resume the memory: while it is paused, nothing is remembered or recalled."""
        paused = checked(MemoryPause, await json_object(request)).paused

        def edit(old: Settings) -> Settings:
            new = old.model_copy(deep=True)
            new.memory.enabled = not paused
            return new

        await service.change(edit)
        return {"paused": paused}

    @router.get("/export")
    async def export() -> Response:
        """Every turn as a line of JSON."""
        with tempfile.TemporaryDirectory(dir=service.data) as folder:
            file = Path(folder) / "memory.jsonl"
            await memory().export(file)
            lines = await asyncio.to_thread(file.read_bytes)
        name = f"parley-memory-{date.today().isoformat()}.jsonl"
        return Response(lines, media_type="application/jsonl", headers=_as_file(name))

    @router.post("/import")
    async def import_(request: Request) -> dict[str, Any]:
        """Import an export; turns that are already there are skipped."""
        lines = await request.body()
        with tempfile.TemporaryDirectory(dir=service.data) as folder:
            file = Path(folder) / "import.jsonl"
            try:
                await asyncio.to_thread(file.write_bytes, lines)
            except OSError as error:
                raise Problem(507, f"There is no room for the file ({error.strerror}): free some space.") from error
            try:
                added = await memory().import_(file)
            except ValueError as error:
                raise Problem(422, str(error).replace(str(file), "the file")) from None
        return {"added": added}

    return router


def _as_file(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
