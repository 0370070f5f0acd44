"""What was said and the token that lets one in are not in the log, whatever its level."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.web.conftest import served
from tests.web.realtime.test_protocol import send, the, until
from web import logs

TOKEN = "a-token-of-more-than-thirty-two-characters"
WORDS = "marmalade"


pytestmark = pytest.mark.usefixtures("logging_as_before")


async def test_a_talk_with_everything_logged(tmp_path: Path) -> None:
    logs.configure(tmp_path, level="DEBUG", words=False)
    logging.getLogger("web").debug("the log is open")
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": WORDS}]}
    async with served(tmp_path / "data", token=TOKEN) as running:
        async with running.connect(additional_headers={"Authorization": f"Bearer {TOKEN}"}) as socket:
            await the(socket, "session.created")
            await send(socket, "conversation.item.create", item=item)
            await send(socket, "response.create")
            await until(socket, "response.done")
        async with running.client() as client:
            await client.get(f"/talk?token={TOKEN}")
        async with running.connect(f"?token={TOKEN}", additional_headers={"Authorization": f"Bearer {TOKEN}"}):
            pass
    log = (tmp_path / logs.FILE_NAME).read_text(encoding="utf-8")
    assert "the log is open" in log
    assert WORDS not in log
    assert TOKEN not in log


@pytest.mark.parametrize("words", [False, True])
def test_an_exception_that_quotes_what_was_said(tmp_path: Path, words: bool) -> None:
    logs.configure(tmp_path, level="DEBUG", words=words)
    said = " ".join([WORDS, "is not a number"])
    try:
        try:
            raise KeyError(said)
        except KeyError as error:
            raise ValueError(said) from error
    except ValueError:
        logging.getLogger("pipeline").exception("a task failed")
    log = (tmp_path / logs.FILE_NAME).read_text(encoding="utf-8")
    assert "ValueError" in log and "KeyError" in log and "test_words_in_logs.py" in log
    assert (WORDS in log) is words
