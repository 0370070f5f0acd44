"""What the API's routes share: error answers, and reading bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from config import SettingsError
from config.text import parsed
from pipeline.engine import EngineError
from web.api.audio.errors import error_response
from web.api.audio.paths import is_api
from web.changes import SettingsInvalid, SettingsRefused
from web.validation import explain, sentence

Model = TypeVar("Model", bound=BaseModel)


class Problem(Exception):
    """An answer other than success: one sentence, and the field concerned, if any."""

    def __init__(self, status: int, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field


async def json_object(request: Request) -> dict[str, Any]:
    """Return the body. Raises Problem if it is not a JSON object."""
    try:
        body = parsed(await request.body())
    except ValueError:
        raise Problem(422, "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise Problem(422, "The body must be a JSON object.")
    return body


def checked(model: type[Model], tree: dict[str, Any]) -> Model:
    """Validate a tree. Raises Problem, which names the first invalid field."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        field, message = explain(error, tree)
        raise Problem(422, message, field) from None


def answer(
    status: int, message: str, field: str | None = None, lacking: Mapping[str, str] | None = None
) -> JSONResponse:
    more = {"lacking": dict(lacking)} if lacking else {}
    return JSONResponse({"error": {"message": message, "field": field, **more}}, status)


def add_problems(app: FastAPI) -> None:
    """Answer every failure that a route may raise in one JSON shape: `{"error": {"message", "field", "lacking"?}}`."""

    async def problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return answer(error.status, str(error), error.field)

    async def unready(_: Request, error: Exception) -> Response:
        return answer(503, str(error))

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, SettingsRefused)
        return answer(422 if isinstance(error, SettingsInvalid) else 409, str(error), error.field, error.lacking)

    async def unsaved(_: Request, error: Exception) -> Response:
        return answer(507, str(error))

    async def malformed(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        field = str(first["loc"][-1])
        return answer(422, sentence(field, first["type"], first.get("ctx", {}), first["msg"]), field)

    async def unrouted(request: Request, error: Exception) -> Response:
        """Answer an unknown path or method in the shape of the API that the path belongs to."""
        assert isinstance(error, HTTPException)
        path, status = request.url.path, error.status_code
        message = f"There is no {request.method} {path[:200]} here: check the address and the method."
        response: Response
        if is_api(path):
            response = error_response(status, message)
        elif path.startswith("/api/"):
            response = answer(status, message)
        else:
            response = PlainTextResponse(message, status)
        response.headers.update(error.headers or {})
        return response

    app.add_exception_handler(HTTPException, unrouted)
    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(EngineError, unready)
    app.add_exception_handler(SettingsRefused, refused)
    app.add_exception_handler(SettingsError, unsaved)
    app.add_exception_handler(RequestValidationError, malformed)
