"""Reads what clients send, ignoring unknown fields, because every client has some of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from config.text import parsed, whole_characters
from web.api.audio.errors import Refused
from web.validation import explain

Model = TypeVar("Model", bound=BaseModel)

MOST_FIELDS, MOST_FILES = 100, 4
LONGEST_FIELD = 1 << 20


async def json_body(request: Request) -> dict[str, Any]:
    """Return the body. Raises Refused if it is not a JSON object."""
    try:
        body = parsed(await request.body())
    except ValueError:
        raise Refused(400, "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise Refused(400, "The body must be a JSON object.")
    return body


@asynccontextmanager
async def form_body(request: Request, longest: int = LONGEST_FIELD) -> AsyncIterator[FormData]:
    """Read a multipart or plain form with fields of up to `longest` bytes; deletes its files after. Raises Refused."""
    try:
        form = await request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=longest)
    except HTTPException as error:
        raise Refused(400, f"The form could not be read: {error.detail}") from error
    except ClientDisconnect:
        raise Refused(499, "The client left.") from None
    try:
        yield form
    finally:
        await form.close()


def checked(model: type[Model], tree: Mapping[str, Any]) -> Model:
    """Validate a tree, treating a null field as omitted. Raises Refused, which names the first invalid field."""
    try:
        return model.model_validate({name: value for name, value in tree.items() if value is not None})
    except ValidationError as error:
        field, message = explain(error, tree)
        raise Refused(400, message, field or None) from None


def texts(form: FormData) -> dict[str, Any]:
    """Return a form's fields; a field that is repeated, or whose name ends in [], becomes a list."""
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if not isinstance(value, str):
            continue
        text = whole_characters(value)
        if name.endswith("[]"):
            fields.setdefault(name.removesuffix("[]"), []).append(text)
        elif isinstance(earlier := fields.get(name), list):
            earlier.append(text)
        else:
            fields[name] = text if earlier is None else [earlier, text]
    return fields


def uploaded(form: FormData, name: str) -> UploadFile:
    """Return the uploaded file. Raises Refused if it is missing or empty."""
    file = form.get(name)
    if not isinstance(file, UploadFile):
        raise Refused(400, f"{name} is missing: send a recording as multipart/form-data.", name)
    if not file.size:
        raise Refused(400, "The file is empty: record it again.", name, "invalid_file")
    return file
