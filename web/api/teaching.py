"""Teaching CSM a voice: the consent, recordings, their transcripts, the training, and using the result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from config.cache import free_disk
from web.api.http import Problem, checked, json_object
from web.api.voices import speak_as
from web.csm_voices import csm_folder, keep_voice
from web.service import Service
from web.teaching.lesson import CONSENT_WORDS, About, Lesson, LessonError, Lessons
from web.teaching.needs import depth_share, estimating, needs, preparing, training
from web.teaching.received import RECORDING_BYTES, NoRoom, Unfit, check_disk, check_voice, receive
from web.teaching.work import HANGS, Busy, Command, Commands, Death, Kind, LessonStatus, Work
from web.validation import ONE_LINE

RECORDINGS = "/api/teaching/recordings"
MOST_RECORDINGS = 5_000

__all__ = ["RECORDINGS", "RECORDING_BYTES", "teaching_api"]


class LessonBegun(BaseModel):
    model_config = ConfigDict(extra="forbid")
    person: Annotated[str, Field(min_length=1, max_length=100, pattern=ONE_LINE)]
    """Whose voice it is."""
    agreed: Literal[True]
    """That it is the user's own voice, or that its owner has agreed."""
    language: Annotated[str, Field(pattern=r"^([a-z]{2,3})?$")] = ""


class TranscriptCorrection(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(max_length=2000)]
    kept: bool


class Preparing(BaseModel):
    model_config = ConfigDict(extra="forbid")
    check_voice: bool = False
    """Whether to drop clips of another voice; this downloads the speaker encoder if it is missing."""


class Training(BaseModel):
    model_config = ConfigDict(extra="forbid")
    steps: Annotated[int, Field(ge=1, le=20_000)] = 300
    beside_talks: bool = False


class TrainingOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")
    do: Literal["pause", "go on", "stop"] | None = None
    beside_talks: bool | None = None


def teaching_api(service: Service) -> APIRouter:
    lessons, work = Lessons(service.data / "taught"), Work(service.conversations > 0)

    @asynccontextmanager
    async def until_the_end(_: FastAPI) -> AsyncIterator[None]:
        service.talk_watchers.append(work.talk)
        try:
            yield
        finally:
            service.talk_watchers.remove(work.talk)
            await work.end()

    router = APIRouter(lifespan=until_the_end)

    def again(lesson: Lesson) -> Callable[[], Command]:
        """Prepare corrected clips again, without dropping any voice that the user has let in."""
        return lambda: preparing(lesson, service.settings, check_voice=False)

    @router.get("/api/teaching")
    async def overview() -> dict[str, Any]:
        """The voices being taught, which one is being worked on, and what is missing on this computer."""
        told = await asyncio.to_thread(lambda: [_summary(lesson) for lesson in lessons.all()])
        here = await asyncio.to_thread(needs, service.settings, service.data)
        return {"consent": CONSENT_WORDS, "voices": told, "work": _work(work), "beside_talks": work.beside_talks,
                "needs": asdict(here) | {"whisper": bool(here.whisper)}}  # fmt: skip

    @router.post("/api/teaching")
    async def begin(request: Request) -> dict[str, Any]:
        """Start teaching a voice whose owner has agreed to it."""
        asked = checked(LessonBegun, await json_object(request))
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        about = About(person=asked.person.strip(), agreed_at=now, language=asked.language)
        return _summary(await _kept(lessons.begin, about))

    @router.post(RECORDINGS)
    async def add(request: Request) -> dict[str, Any]:
        """Add a recording, or its text (a .txt of the same name), as a form with `voice` and `file`."""
        length = request.headers.get("content-length", "")
        try:
            check_disk(await asyncio.to_thread(free_disk, lessons.folder), int(length) if length.isdecimal() else 0)
            form = await request.form(max_files=1, max_fields=1)
        except NoRoom as error:
            raise Problem(507, str(error)) from error
        except HTTPException as error:
            raise Problem(422, f"The form could not be read: {error.detail}") from error
        except ClientDisconnect:
            raise Problem(499, "The browser left.") from None
        except OSError as error:  # the upload is first written to the system's folder for temporary files
            raise _unwritable(error) from error
        try:
            file, voice = form.get("file"), form.get("voice")
            if not isinstance(file, UploadFile) or not isinstance(voice, str):
                raise Problem(422, "Send the voice and a file, as multipart/form-data.", "file")
            lesson = _found(lessons, voice)
            _idle(work, lesson)
            if len(lesson.files()) >= MOST_RECORDINGS:
                raise Problem(409, f"There are already {MOST_RECORDINGS} recordings, the maximum: join some of them.")
            try:
                await asyncio.to_thread(check_voice, lesson.recordings, file.size or 0)
                name = await _kept(receive, lesson.recordings, file.filename or "recording", file.file, file.size or 0)
            except NoRoom as error:
                raise Problem(409, str(error)) from error
            except Unfit as error:
                raise Problem(422, str(error), "file") from error
        finally:
            await form.close()
        return {"name": name}

    @router.get("/api/teaching/{id}")
    async def described(id: str) -> dict[str, Any]:
        """Everything about a voice being taught."""
        return await asyncio.to_thread(_described, _found(lessons, id), work)

    @router.delete("/api/teaching/{id}")
    async def remove(id: str) -> dict[str, Any]:
        """Delete its recordings, transcripts and training; a csm-voice made from it stays."""
        lesson = _found(lessons, id)
        _idle(work, lesson)
        await _kept(lesson.remove)
        return {"removed": id}

    @router.delete("/api/teaching/{id}/recordings/{name}")
    async def drop(id: str, name: str) -> dict[str, Any]:
        """Delete a recording."""
        lesson = _found(lessons, id)
        _idle(work, lesson)
        file = next((path for path in lesson.files() if path.name == name), None)
        if file is None:
            raise Problem(404, "This recording no longer exists: reload the page.")
        await _kept(file.unlink)
        await _kept(file.with_suffix(".txt").unlink, True)
        return {"removed": name}

    @router.post("/api/teaching/{id}/prepare")
    async def prepare(id: str, request: Request) -> dict[str, Any]:
        """Cut and transcribe the recordings; GET returns the progress."""
        asked, lesson = checked(Preparing, await json_object(request)), _found(lessons, id)
        if not lesson.files():
            raise Problem(409, "There are no recordings yet: add some first.")
        _ready(service)
        return _start(
            work, lesson, "preparing", [lambda: preparing(lesson, service.settings, check_voice=asked.check_voice)]
        )

    @router.put("/api/teaching/{id}/clips/{clip}")
    async def correct(id: str, clip: str, request: Request) -> dict[str, Any]:
        """Correct a clip's transcript, or leave the clip out."""
        asked, lesson = checked(TranscriptCorrection, await json_object(request)), _found(lessons, id)
        _idle(work, lesson)
        if asked.kept and not asked.text.strip():
            raise Problem(422, "Write what is said in the clip, or leave the clip out.", "text")
        await _kept(lesson.correct, clip, asked.text, asked.kept)
        return {"clip": clip}

    @router.get("/api/teaching/{id}/clips/{clip}")
    async def hear_clip(id: str, clip: str) -> FileResponse:
        """The sound of a clip."""
        return _sound(_found(lessons, id).clip(clip), "audio/flac")

    @router.get("/api/teaching/{id}/samples/{name}")
    async def hear_sample(id: str, name: str) -> FileResponse:
        """A sentence spoken during training."""
        return _sound(_found(lessons, id).sample(name), "audio/wav")

    @router.post("/api/teaching/{id}/estimate")
    async def measure(id: str, request: Request) -> dict[str, Any]:
        """Compute one batch, to estimate how long training takes here."""
        asked, lesson = checked(Training, await json_object(request)), _found(lessons, id)
        _ready(service)
        _fit(lesson)
        if lesson.kept_step() == 0:
            await _kept(lesson.keep, steps=asked.steps, depth_share=await asyncio.to_thread(depth_share, lesson))
        return _start(work, lesson, "measuring", [again(lesson), lambda: estimating(lesson, service.settings)])

    @router.post("/api/teaching/{id}/train")
    async def train(id: str, request: Request) -> dict[str, Any]:
        """Start the training, or continue one that was stopped. The number of steps is fixed when it starts."""
        asked, lesson = checked(Training, await json_object(request)), _found(lessons, id)
        _ready(service)
        _fit(lesson)
        if work.under_way:
            raise _busy()
        if lesson.kept_step() == 0:
            await _kept(lesson.keep, steps=asked.steps, depth_share=await asyncio.to_thread(depth_share, lesson))
        work.allow_talks(asked.beside_talks)
        # How often training saves depends on how long a step takes.
        measured = [] if lesson.about.step_s else [lambda: estimating(lesson, service.settings)]
        return _start(work, lesson, "training", [again(lesson), *measured, lambda: training(lesson, service.settings)])

    @router.put("/api/teaching/{id}/work")
    async def order(id: str, request: Request) -> dict[str, Any]:
        """Pause, continue or stop the work on a voice, keeping what was learnt; choose whether it runs during
        conversations."""
        asked, lesson = checked(TrainingOrder, await json_object(request)), _found(lessons, id)
        if work.status is None or work.status.lesson != lesson.id or not work.under_way:
            raise Problem(409, "Nothing is running for this voice: reload the page.")
        if asked.beside_talks is not None:
            work.allow_talks(asked.beside_talks)
        match asked.do:
            case "pause":
                work.pause()
            case "go on":
                work.go_on()
            case "stop":
                work.stop()
        return _work(work) or {}

    @router.delete("/api/teaching/{id}/training")
    async def forget(id: str) -> dict[str, Any]:
        """Delete what was learnt, to start over with other recordings or another number of steps."""
        lesson = _found(lessons, id)
        _idle(work, lesson)
        await _kept(lesson.forget_training)
        return {"removed": "training"}

    @router.post("/api/teaching/{id}/use")
    async def use(id: str) -> dict[str, Any]:
        """Save what was learnt as a csm-voice, and use it from now on."""
        lesson = _found(lessons, id)
        adapter, reference = await asyncio.to_thread(lambda: (lesson.adapter(), lesson.reference()))
        if adapter is None or reference is None:
            raise Problem(409, "Nothing has been learnt yet: start the training first.")
        about = lesson.about
        note = f"Taught here. {about.person} agreed to it on {about.agreed_at[:10]}."
        voice = await _kept(keep_voice, csm_folder(), lesson.id, *reference, note, adapter)
        await speak_as(service, voice, "csm")
        return {"voice": lesson.id}

    return router


def _start(work: Work, lesson: Lesson, kind: Kind, commands: Commands) -> dict[str, Any]:
    """Start the work. Raises Problem."""
    status = LessonStatus(lesson.id, kind, steps=lesson.about.steps or 0, step=lesson.kept_step())
    places = {path.name: number for number, path in enumerate(lesson.files())}

    def hears(told: dict[str, Any]) -> None:
        match told["kind"]:
            case "clip":
                status.share = places.get(told["source"], 0) / max(1, len(places))
                status.text = told["text"]
            case "step":
                status.step, status.left_s, status.share = told["step"], told["left_s"], told["step"] / told["steps"]
                status.text = ""
            case "estimate":
                lesson.keep(step_s=told["step_s"], memory=told["memory"])
                status.text = told["text"]
            case "note":
                status.text = told["text"]
            case "prepared" if kind == "preparing":
                status.text = told["text"].partition("\n")[0]

    def killed(how: Death) -> str:
        what = "the training" if kind == "training" else "this"
        why = {
            "killed": f"Another program ended {what}; the computer may have run out of memory.",
            "hung": f"Nothing happened for {HANGS.hung_s:.0f} s, so Parley ended {what}.",
        }[how]
        if kind == "training":
            return f"{why} What was learnt up to step {lesson.kept_step()} is kept: continue from there."
        return f"{why} Start it again: it continues where it stopped."

    try:
        work.begin(status, commands, hears=hears, killed=killed)
    except Busy:
        raise _busy() from None
    return _work(work) or {}


def _summary(lesson: Lesson) -> dict[str, Any]:
    try:
        about = lesson.about
    except LessonError as error:
        return {"id": lesson.id, "person": lesson.id, "trouble": str(error)}
    return {"id": lesson.id, **about.model_dump(), "kept_step": lesson.kept_step()}


def _described(lesson: Lesson, work: Work) -> dict[str, Any]:
    """Raises Problem."""
    try:
        return {
            "id": lesson.id,
            **lesson.about.model_dump(),
            "kept_step": lesson.kept_step(),
            "recordings": [{"name": path.name, "bytes": path.stat().st_size} for path in lesson.files()],
            "clips": lesson.clips(),
            "lines": lesson.lines(),
            "samples": lesson.samples(),
            "usable": lesson.adapter() is not None,
            "work": _work(work),
            "beside_talks": work.beside_talks,
        }
    except LessonError as error:
        raise Problem(500, str(error)) from error


def _work(work: Work) -> dict[str, Any] | None:
    return asdict(work.status) | {"under_way": work.under_way} if work.status else None


def _found(lessons: Lessons, id: str) -> Lesson:
    """Raises Problem."""
    try:
        return lessons.get(id)
    except LessonError as error:
        raise Problem(404, str(error)) from None


def _idle(work: Work, lesson: Lesson) -> None:
    """Raises Problem while the lesson's files are being worked on."""
    if work.under_way and work.status is not None and work.status.lesson == lesson.id:
        raise Problem(409, "This voice is being worked on: wait until that is finished, or stop it.")


def _busy() -> Problem:
    return Problem(409, "Only one voice can be taught at a time: wait until the other one is finished, or stop it.")


def _ready(service: Service) -> None:
    """Raises Problem if the model is not on this computer."""
    if lacking := needs(service.settings, service.data).model:
        raise Problem(409, lacking)


def _fit(lesson: Lesson) -> None:
    """Raises Problem if there is nothing to learn from."""
    clips = lesson.clips()
    if not clips:
        raise Problem(409, "Prepare the recordings first.")
    if all(clip["dropped"] for clip in clips):
        raise Problem(409, "All clips are left out: keep some of them, and write what is said.")


async def _kept(act: Any, *arguments: Any, **named: Any) -> Any:
    """Write something to the disk in a thread. Raises Problem."""
    try:
        return await asyncio.to_thread(act, *arguments, **named)
    except LessonError as error:
        raise Problem(409, str(error)) from error
    except OSError as error:
        raise _unwritable(error) from error


def _unwritable(error: OSError) -> Problem:
    return Problem(
        507,
        f"It could not be written to the disk ({error.strerror}): free some space, or check the folder’s permissions.",
    )


def _sound(file: Path | None, kind: str) -> FileResponse:
    """Raises Problem."""
    if file is None:
        raise Problem(404, "This recording no longer exists: reload the page.")
    return FileResponse(file, media_type=kind)
