"""What a turn's words are while they are being understood."""

from __future__ import annotations

import numpy as np

from pipeline.audio import Samples
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
