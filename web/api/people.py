"""People who are told apart by their voices: listing, adding and forgetting them."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from config.settings import PERSON
from pipeline.audio import EAR_RATE
from pipeline.engine import EngineError
from pipeline.llm import USER
from pipeline.speakers.people import ENOUGH_S, RESERVED, Heard
from web.api.http import Problem, checked, json_object
from web.api.voices import MAX_UPLOAD, Upload, sound_of
from web.service import Service

PEOPLE = "/api/people"


class Introduced(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    name: Annotated[str, Field(min_length=1, max_length=60, pattern=PERSON)]
    agreed: Literal[True]
    """That they want their voice to be remembered."""
    data: Annotated[str, Field(max_length=MAX_UPLOAD)]
    """A recording of them, in base64."""


def people_api(service: Service) -> APIRouter:
    router = APIRouter()

    def told() -> dict[str, Any]:
        people = [
            {"name": each.name, "owner": each.speaker == USER, "since": each.since.isoformat()}
            for each in service.engines.people.all()
        ]
        memory = service.settings.memory
        return {"wanted": memory.people, "guests": memory.guests, "people": people}

    @router.get(PEOPLE)
    async def overview() -> dict[str, Any]:
        """The known voices, and whether people are told apart. The first person is the owner."""
        return told()

    @router.post(PEOPLE)
    async def introduce(request: Request) -> dict[str, Any]:
        """Learn a voice from a recording, which is not kept; if the name is known, learn more of that voice."""
        asked = checked(Introduced, await json_object(request))
        if asked.name.casefold() in RESERVED:
            raise Problem(
                422, f"The memory already uses the name {asked.name} for someone else: choose another name.", "name"
            )
        sound = await asyncio.to_thread(sound_of, Upload(name=asked.name, data=asked.data), EAR_RATE)
        seconds = len(sound) / EAR_RATE
        if seconds < ENOUGH_S:
            raise Problem(
                422, f"Parley needs {ENOUGH_S:.0f} s of speech to learn a voice: talk a little longer.", "data"
            )
        try:
            direction = await service.engines.direction(sound)
        except EngineError as error:
            raise Problem(503, str(error)) from error
        if direction is None:
            raise Problem(422, "Nothing was heard: check the microphone, and talk while it records.", "data")
        try:
            await service.engines.learn(asked.name, [Heard(direction, seconds)], date.today())
        except OSError as error:
            raise Problem(507, f"The voice could not be kept ({error.strerror}): free some space.") from error
        return told()

    @router.delete(PEOPLE + "/{name}")
    async def forget(name: str) -> dict[str, Any]:
        """Delete the description of a voice. What was said with it stays, and can be deleted like all words."""
        try:
            gone = await service.engines.forget(name)
        except OSError as error:
            raise Problem(507, f"The voice could not be deleted ({error.strerror}): delete people.json in the data "
                               "folder yourself.") from error  # fmt: skip
        if not gone:
            raise Problem(404, "Nobody with that name is known; they may already have been forgotten.")
        return told()

    return router
