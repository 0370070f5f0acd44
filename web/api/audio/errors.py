"""Errors, in the format that OpenAI's clients read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from pipeline.audio.decode import Undecodable
from pipeline.engine import EngineError
from pipeline.llm import PromptTooLong
from pipeline.stt import CannotFulfil

SOON_S = 5
"""Seconds after which a client may retry, while engines are loading or all places are taken."""


class Refused(Exception):
    """An answer other than success: one sentence, and the parameter concerned, if any."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None, retry_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.retry_s = status, param, code, retry_s


def error_response(
    status: int, message: str, param: str | None = None, code: str | None = None, retry_s: int | None = None
) -> JSONResponse:
    headers = {} if retry_s is None else {"Retry-After": str(retry_s)}
    return JSONResponse({"error": error_body(status, message, param, code)}, status, headers)


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, str | None]:
    match status:
        case 401:
            kind = "authentication_error"
        case 429:
            kind = "rate_limit_error"
        case _ if status >= 500:
            kind = "server_error"
        case _:
            kind = "invalid_request_error"
    return {"message": message, "type": kind, "param": param, "code": code}


@contextmanager
def explained(param: str | None = None) -> Iterator[None]:
    """Turn exceptions of engines and files into Refused, which a client is told.

    Args:
        param: the parameter that contained the recording.
    """
    try:
        yield
    except Undecodable as error:
        raise Refused(400, f"The file {error}", param, "invalid_file") from error
    except CannotFulfil as error:
        raise Refused(400, str(error), "language", "unsupported_value") from error
    except PromptTooLong as error:
        raise Refused(400, str(error), "messages", "context_length_exceeded") from error
    except EngineError as error:
        raise Refused(503, str(error), retry_s=SOON_S) from error


def add_refusals(app: FastAPI) -> None:
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return error_response(error.status, str(error), error.param, error.code, error.retry_s)

    app.add_exception_handler(Refused, refused)
