"""The judges of turns and interruptions, each alone."""

from __future__ import annotations

import pytest

from pipeline.turns.interruption import InterruptionJudge, Intrusion
from pipeline.turns.judges import FirstOf, Habits, Meaning, Pause, SilenceLimit, SpeechDetector, hint
from tests.support import intrusions


def detect(probabilities: list[float]) -> list[bool]:
    detector = SpeechDetector(0.5)
    speaking = []
    for probability in probabilities:
        detector.update(probability)
        speaking.append(detector.speaking)
    return speaking


def test_one_frame_is_a_click_and_two_are_speech() -> None:
    assert detect([0.9, 0.1, 0.9, 0.9]) == [False, False, False, True]


def test_speech_lasts_through_a_dip_and_through_the_hysteresis() -> None:
    assert detect([0.9, 0.9, 0.1, 0.1, 0.9])[-1]
    assert detect([0.9, 0.9, 0.4, 0.4, 0.4, 0.4, 0.4])[-1], "0.4 is above the release"
    assert not detect([0.9, 0.9, 0.1, 0.1, 0.1])[-1]


def test_silence_is_counted_from_the_last_frame_of_speech() -> None:
    detector = SpeechDetector(0.5)
    for probability in [0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9]:
        detector.update(probability)
    assert detector.silence_frames == 5, "a single frame after a silence does not end it"


@pytest.mark.parametrize(
    ("finished", "transcript", "silence", "ends"),
    [
        (0.95, "what time is it", 192, False),
        (0.95, "what time is it", 200, True),
        (0.02, "and then we", 1000, False),
        (0.02, "and then we", 1600, True),
        (0.25, "i went there", 1150, False),
        (0.25, "i went there", 1200, True),
        (0.6, "i went there", 500, False),
        (0.9, "i went there and", 250, False),
        (0.7, "did you go?", 210, True),
        (None, "what time is it", 5000, False),
    ],
)
def test_the_surer_the_sooner(finished: float | None, transcript: str, silence: float, ends: bool) -> None:
    judge = Meaning(shortest_ms=200, longest_ms=1600)
    assert (judge.verdict(Pause(silence, 1000, transcript, finished)) is not None) == ends


def test_the_first_judge_to_speak_ends_the_turn() -> None:
    judge = FirstOf([Meaning(200, 1600), SilenceLimit(500)])
    assert judge.verdict(Pause(499, 1000)) is None
    assert judge.verdict(Pause(500, 1000)) == "500 ms of silence"


@pytest.mark.parametrize(("words", "sign"), [("I went to the", -1), ("is it um,", -1), ("is it?", 1), ("it is", 0)])
def test_words_are_a_hint(words: str, sign: int) -> None:
    value = hint(words)
    assert (value > 0) - (value < 0) == sign


def test_habits_give_time_to_those_who_were_cut_in_on() -> None:
    habits = Habits()
    habits.cut_in()
    assert habits.extra_ms == 100
    for _ in range(10):
        habits.went_well()
    assert habits.extra_ms == 0
    assert habits.longest(1600) == 1600
    habits.went_on(2000)
    assert habits.longest(1600) == 2500
    habits.went_on(9000)
    assert habits.longest(1600) == 3200


@pytest.mark.parametrize(
    ("speech", "silence", "transcript", "final", "kind"),
    [
        (150, 0, "", False, None),
        (150, 250, "", True, "backchannel"),
        (150, 250, "", False, None),
        (300, 250, "mm-hmm", True, "backchannel"),
        (500, 250, "yeah right", True, "backchannel"),
        (300, 0, "stop", False, "command"),
        (300, 0, "wait a moment", False, "command"),
        (300, 0, "hold on", False, "command"),
        (600, 0, "but what about", False, "interruption"),
        (300, 250, "no", True, "interruption"),
        (600, 250, "you", True, "backchannel"),
        (380, 250, "oh key", True, "backchannel"),
        (100, 250, "no", True, "backchannel"),
        (900, 0, "", False, "interruption"),
        (500, 0, "stopping", False, None),
    ],
)
def test_what_is_an_interruption(speech: float, silence: float, transcript: str, final: bool, kind: str | None) -> None:
    ruling = InterruptionJudge().ruling(Intrusion(speech, silence, transcript, final))
    assert (ruling.kind if ruling else None) == kind


def kind(transcript: str, speech: float, **known: bool) -> str:
    """What is ruled once the intruder is silent and understood."""
    ruling = InterruptionJudge().ruling(Intrusion(speech, 250, transcript, final=True, **known))
    assert ruling is not None
    return ruling.kind


@pytest.mark.parametrize("speech", [300, 700, 1500])
@pytest.mark.parametrize("transcript", intrusions.TAKING)
def test_who_wants_the_turn_gets_it(transcript: str, speech: float) -> None:
    assert kind(transcript, speech) in ("command", "interruption")


@pytest.mark.parametrize("speech", [300, 700, 1500])
@pytest.mark.parametrize("transcript", intrusions.ASSENTING)
def test_who_assents_is_talked_over(transcript: str, speech: float) -> None:
    assert kind(transcript, speech) == "backchannel"


@pytest.mark.parametrize(
    "transcript", ["okay wait", "Charlie, stop!", "oh yeah, hold on", "I said be quiet", "no no no"]
)
def test_a_command_is_obeyed_before_it_is_over(transcript: str) -> None:
    ruling = InterruptionJudge().ruling(Intrusion(200, 0, transcript))
    assert ruling is not None
    assert ruling.kind == "command"


def test_who_had_not_finished_says_no_command_in_mid_sentence() -> None:
    assert kind("at the bus stop", 500, reacting=False) == "continuation"
    assert kind("okay stop", 500, reacting=False) == "command"


def test_assent_without_end_takes_the_turn() -> None:
    assert kind("yeah yeah yeah yeah yeah yeah yeah yeah", 1700) == "interruption"
