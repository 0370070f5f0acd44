"""What is written down, and what is not."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from pathlib import Path

import pytest

from pipeline.turns.record import TurnRecord
from web import logs
from web.turn_log import TurnLog

pytestmark = pytest.mark.usefixtures("logging_as_before")


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("words", [False, True])
def test_words_are_written_only_when_asked_for(tmp_path: Path, words: bool) -> None:
    logs.configure(tmp_path, level="INFO", words=words)
    logs.configure(tmp_path, level="INFO", words=words)  # again: nothing is written twice
    logging.getLogger("pipeline").info("a turn ended", extra={"turn": 7, "conversation": "c", "words": "my secret"})
    (line,) = lines(tmp_path / "parley.log")
    assert (line["turn"], line["conversation"], line["message"]) == (7, "c", "a turn ended")
    assert ("my secret" in json.dumps(line)) is words


def test_an_exception_is_one_line_of_json_and_a_warning_reaches_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(tmp_path, level="INFO", words=False)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("web").exception("it failed")
    (line,) = lines(tmp_path / "parley.log")
    assert "ValueError" in str(line["exception"])
    logging.getLogger("web").info("not for people")
    assert "it failed" in (told := capsys.readouterr().err)
    assert "not for people" not in told


def test_a_log_that_cannot_be_written_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(tmp_path, level="INFO", words=False)
    (tmp_path / "parley.log").mkdir()
    for _ in range(3):
        logging.getLogger("web").info("hello")
    assert capsys.readouterr().err.count("cannot be written") == 1


def record(turn: int, words: str) -> TurnRecord:
    marks = {"speech_ended": 1.0, "first_heard": 1.0 + turn / 10}
    return TurnRecord("c", turn, marks=marks, user=words, reply=words, heard=words)


@pytest.mark.parametrize("words", [False, True])
async def test_records_reach_the_disk_without_words_and_outlive_a_full_disk(tmp_path: Path, words: bool) -> None:
    log = TurnLog(tmp_path, lambda: words)
    (tmp_path / "turns.jsonl").mkdir()  # nothing can be appended to a folder
    writing = asyncio.create_task(log.write())
    log.add(record(1, "my secret"))
    async with asyncio.timeout(60):
        await log.written()
    (tmp_path / "turns.jsonl").rmdir()
    for turn in (2, 3):
        log.add(record(turn, "my secret"))
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    kept = (tmp_path / "turns.jsonl").read_text()
    assert [json.loads(line)["turn"] for line in kept.splitlines()] == [2, 3]
    assert ("my secret" in kept) is words
    assert [each.turn for each in log.last(2)] == [3, 2]
    assert log.medians() == pytest.approx({"speech_ended": 0, "first_heard": 0.2})


async def test_what_was_said_leaves_logs_and_records_with_the_memory_of_it(tmp_path: Path) -> None:
    logs.configure(tmp_path, level="INFO", words=True)
    turns = TurnLog(tmp_path, lambda: True)
    writing = asyncio.create_task(turns.write())
    for name, secret in (("first", "violet"), ("second", "crimson")):
        turns.add(TurnRecord(name, 1, at="2026-03-02T09:00:00+00:00", user=secret, heard=secret, reply=secret))
        try:
            raise ValueError(secret)
        except ValueError:
            logging.getLogger("web").exception("trouble", extra={"conversation": name})
    await turns.written()
    kept = [tmp_path / "turns.jsonl", tmp_path / "parley.log"]
    assert all({"violet", "crimson"} <= set(re.findall(r"violet|crimson", file.read_text())) for file in kept)

    turns.forget(conversation="first")
    logs.forget(tmp_path, conversation="first")
    for file in kept:
        assert "violet" not in file.read_text()
        assert "crimson" in file.read_text()
    assert [record["user"] for record in turns.of("first")] == [""], "nor does the export of a talk have it"

    turns.forget(everything=True)
    logs.forget(tmp_path, everything=True)
    logging.getLogger("web").info("it goes on", extra={"conversation": "third"})
    assert [record["user"] for record in lines(kept[0])] == ["6 characters", "7 characters"]
    assert "crimson" not in kept[1].read_text()
    assert [line["message"] for line in lines(kept[1])][-2:] == ["trouble", "it goes on"]
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
