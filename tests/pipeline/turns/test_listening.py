"""What a turn's words are while they are being understood."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from pipeline.audio import Samples
from pipeline.engine import EngineError
from pipeline.stt import Transcript
from pipeline.turns.listening import Listening, UserTurn
from pipeline.turns.record import TurnRecord


class Hears:
    """A hearing whose partial transcript is behind its final one."""

    async def feed(self, samples: Samples) -> Transcript | None:
        return Transcript("And what is the")

    async def finish(self) -> Transcript:
        return Transcript("And what is the weather?", 24)

    async def close(self) -> None: ...


async def test_the_final_words_are_a_turns_words_until_speech_goes_on() -> None:
    """By them it is judged whether the speaker had finished: nobody ends in "the", and a question is an end."""
    turn: UserTurn

    def partial(transcript: Transcript) -> None:
        turn.partial = transcript.text

    turn = UserTurn(TurnRecord("test", 1), 0, Listening(Hears(), partial))
    turn.feed(np.zeros(1024, np.float32), speech=True, now=1024)
    final = turn.finish()
    assert turn.transcript == ""
    await final
    assert turn.transcript == "And what is the weather?"
    turn.goes_on()
    assert turn.transcript == "And what is the"
    await turn.listening.close()


class HearsNobody(Hears):
    """Has no place, and knows nothing of a turn that it did not take."""

    def __init__(self) -> None:
        self.fed = 0

    async def feed(self, samples: Samples) -> Transcript | None:
        self.fed += 1
        raise EngineError("It is listening to too many people." if self.fed == 1 else "It was restarted.")


async def test_the_first_thing_that_went_wrong_is_why_a_turn_was_not_understood() -> None:
    hearing = HearsNobody()
    listening = Listening(hearing, lambda partial: None)
    for _ in range(3):
        listening.feed(np.zeros(1024, np.float32))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    with pytest.raises(EngineError, match="too many people"):
        await listening.finish()
    assert hearing.fed == 1
    await listening.close()


class HearsNothingForeseen(Hears):
    async def feed(self, samples: Samples) -> Transcript | None:
        raise RuntimeError("nobody foresaw this")


async def test_a_fault_that_nobody_foresaw_is_raised_and_is_no_cancellation() -> None:
    """A task that is cancelled ends without a word, and the turn would never be answered."""
    listening = Listening(HearsNothingForeseen(), lambda partial: None)
    listening.feed(np.zeros(1024, np.float32))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="foresaw"):
            await listening.finish()
    await listening.close()
