"""One machine as it was measured, as a network of queues: what it does with more talks than it was measured with.

Every process of Parley (`busy` in load.py's file) serves what waits for it in the order in which it came, one piece at
a time, and the processes that have work share the cores evenly, each on at most one core, as Linux's scheduler does.
Work comes from everything that load.py's users do:

- every 20 ms, each talk's block of sound costs the users' process and the server a moment;
- while somebody speaks, PocketSphinx decodes each 60 ms of it. The words are final when what is left then is decoded;
- a pause is judged by smart-turn, while the words are finished, the memory recalls and the voice makes the first sound;
- the rest of a reply is made while it is heard.

All times and amounts of work come from the smallest number of talks in the file, ideally one, where nothing waits for
anything else. Waiting for silence, and the way of the sound to the ear, are not work, and take as long in a crowd.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import simpy

from benchmarks.capacity import quantile
from benchmarks.queues import Answered, Process, Server

BLOCK_S, GATHERED_S = 0.02, 0.06
"""The microphone's blocks (simulated_user.py), and the sound of one call to the recogniser (listening.py)."""
FRAME_S = 0.032
"""Silero's frame: a pause ends a turn one frame after it was noticed, if the turn model is sure."""
TURNS_TO_A_WORKER = 2
"""With this many turns at each recogniser another one is started, up to one a core (pocketsphinx.py)."""
JUDGED_AT_ONCE = 2
"""Threads of the turn model (turns/model.py)."""
NAMES = {"server": "server", "ears": "pocketsphinx", "turns": "smart-turn", "mind": "memory", "voice": "espeak"}
"""The processes of the offline profile; its language model is rules in the server."""
SURE = 200
"""Samples of the measured turns from which the interval of a quantile is read."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One measured turn that was alone: amounts of work in seconds, and waits that no load prolongs."""

    noticed_s: float
    """From the end of speech until the pause is noticed: silence."""
    finish: float
    """Decoding what is left of the turn."""
    more_s: float
    """Silence that the turn model wanted beyond one more frame."""
    mind: float
    voice: float
    way_s: float
    """From the first sound and the decision to the user's ear."""

    @classmethod
    def measured(cls, steps: Mapping[str, float], judging: float) -> Turn:
        """Args: steps: seconds from the end of speech until each; judging: what the turn model computes."""
        noticed, understood, decided = (steps[name] for name in ("noticed", "understood", "decided"))
        clause, sound = max(steps["first_clause"], understood), max(steps["first_sound"], steps["first_clause"])
        earliest = noticed + max(FRAME_S, judging)
        return cls(
            noticed,
            max(0.0, understood - noticed),
            max(0.0, decided - earliest),
            clause - understood,
            sound - clause,
            max(0.0, steps["heard"] - max(decided, sound)),
        )


@dataclass(frozen=True, slots=True)
class Machine:
    cores: int
    think_s: tuple[float, float]
    speech_s: Sequence[float]
    reply_s: Sequence[float]
    turns: Sequence[Turn]
    judging: float
    """Seconds of work of the turn model for a turn."""
    block: Mapping[str, float]
    """Seconds of work of the users' process and of the server, for each block of a talk."""
    hearing: float
    """Seconds of work of the recogniser for each second of speech."""
    after: Mapping[str, float]
    """Seconds of work of the mind's and the voice's process for a turn, beyond what its answer waits for."""

    def simulated(self, talks: int, seconds: float, elsewhere: float = 0.0, seed: int = 1) -> Answered:
        """Args: elsewhere: cores that other programs keep busy."""
        env, answered = simpy.Environment(), Answered()
        crowd = _Crowd(self, env, max(0.1, self.cores - elsewhere))
        for number in range(talks):
            chance = random.Random(1000 * seed + number)
            env.process(crowd.blocks(chance))
            env.process(crowd.talk(chance, answered))
        env.run(until=seconds)
        return answered


class _Crowd:
    """The processes of a machine, and what its talks ask of them."""

    def __init__(self, machine: Machine, env: simpy.Environment, free: float) -> None:
        self._machine, self._env = machine, env
        self._cores = Server(env, lambda pieces: min(1.0, free / pieces))
        self._users, self._server, self._mind, self._voice = (simpy.Resource(env) for _ in range(4))
        self._judge = simpy.Resource(env, JUDGED_AT_ONCE)
        self._talkers = {simpy.Resource(env): 0}
        """Those that each recogniser hears."""

    def _work(self, process: simpy.Resource, seconds: float) -> Process:
        with process.request() as turn:
            yield turn
            yield self._cores.serve(seconds)

    def _beside(self, process: simpy.Resource, seconds: float) -> None:
        """Work that nobody waits for."""
        if seconds > 0:
            self._env.process(self._work(process, seconds))

    def blocks(self, chance: random.Random) -> Process:
        """Send a talk's microphone block after block."""
        yield self._env.timeout(chance.uniform(0, BLOCK_S))
        while True:
            self._env.process(self._block())
            yield self._env.timeout(BLOCK_S)

    def _block(self) -> Process:
        yield from self._work(self._users, self._machine.block["users"])
        yield from self._work(self._server, self._machine.block["server"])

    def _hop(self) -> Process:
        """Wait for the server's loop, which has no work of its own with this that is not in its blocks."""
        yield from self._work(self._server, 0.0)

    def talk(self, chance: random.Random, answered: Answered) -> Process:
        """Simulate one user, forever."""
        env, machine = self._env, self._machine
        while True:
            yield env.timeout(chance.uniform(*machine.think_s))
            turn, speech_s = chance.choice(machine.turns), chance.choice(machine.speech_s)
            ears = self._recogniser()
            heard = env.process(self._heard(ears, speech_s))
            yield env.timeout(speech_s)
            ended = env.now
            yield env.timeout(turn.noticed_s)
            yield from self._hop()
            yield env.process(self._decided(turn)) & env.process(self._made(turn, ears, heard))
            self._talkers[ears] -= 1
            yield from self._hop()
            yield env.timeout(turn.way_s)
            answered.turns.append((env.now, env.now - ended))
            self._beside(self._mind, machine.after["mind"])
            self._beside(self._voice, machine.after["voice"])
            yield env.timeout(chance.choice(machine.reply_s))

    def _recogniser(self) -> simpy.Resource:
        """Give a talker the recogniser with the fewest; start another one once all have enough, as WorkerPool does."""
        least = min(self._talkers, key=lambda each: self._talkers[each])
        self._talkers[least] += 1
        if len(self._talkers) < self._machine.cores and min(self._talkers.values()) >= TURNS_TO_A_WORKER:
            self._talkers[simpy.Resource(self._env)] = 0
        return least

    def _heard(self, ears: simpy.Resource, speech_s: float) -> Process:
        """Decode the speech as it comes; what waited meanwhile is decoded in one call."""
        decoded, began = 0.0, self._env.now
        while decoded < speech_s:
            ready = min(speech_s, decoded + GATHERED_S) - (self._env.now - began)
            yield self._env.timeout(max(0.0, ready))
            there = min(speech_s, self._env.now - began)
            yield from self._work(ears, self._machine.hearing * (there - decoded))
            decoded = there

    def _decided(self, turn: Turn) -> Process:
        machine, noticed = self._machine, self._env.now
        yield from self._work(self._judge, machine.judging)
        yield from self._hop()
        yield self._env.timeout(max(0.0, noticed + FRAME_S - self._env.now) + turn.more_s)

    def _made(self, turn: Turn, ears: simpy.Resource, heard: simpy.Event) -> Process:
        yield heard
        yield from self._work(ears, turn.finish)
        yield from self._work(self._mind, turn.mind)
        yield from self._work(self._voice, turn.voice)


def machine_of(told: Mapping[str, Any]) -> Machine:
    """Read load.py's file. Raises ValueError if it has no turn with all steps."""
    levels = merged(told["levels"])
    alone = levels[min(levels)]
    busy = {name: alone["busy"].get(process, 0.0) for name, process in NAMES.items()}
    whole = [steps for steps in alone["steps"] if {*STEPS} <= steps.keys()]
    if not whole:
        raise ValueError("No turn in this file has all of its steps: measure again with --json.")
    answers, blocks = len(alone["steps"]), alone["seconds"] * alone["talks"] / BLOCK_S
    judging = busy["turns"] / answers
    turns = [Turn.measured(steps, judging) for steps in whole]
    speech = sum(alone["speech_s"])

    def besides(name: str, work: Sequence[float]) -> float:
        return max(0.0, busy[name] - answers * statistics.mean(work))

    return Machine(
        told["cores"],
        tuple(told["habits"]["think_s"]),
        alone["speech_s"],
        alone["reply_s"],
        turns,
        judging,
        {"users": alone["users_busy"] / blocks, "server": busy["server"] / blocks},
        besides("ears", [turn.finish for turn in turns]) / speech,
        {
            "mind": besides("mind", [turn.mind for turn in turns]) / answers,
            "voice": besides("voice", [turn.voice for turn in turns]) / answers,
        },
    )


STEPS = ("noticed", "understood", "decided", "first_clause", "first_sound", "heard")


def merged(levels: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """Put the pieces of each number of talks together: lists are joined, amounts added."""
    together: dict[int, dict[str, Any]] = {}
    for level in levels:
        so_far = together.setdefault(level["talks"], {"talks": level["talks"]})
        for name, value in level.items():
            if name == "busy":
                busy = so_far.setdefault("busy", {})
                busy.update({process: busy.get(process, 0.0) + seconds for process, seconds in value.items()})
            elif name != "talks":
                so_far[name] = so_far[name] + value if name in so_far else value
    return dict(sorted(together.items()))


def interval(values: Sequence[float], share: float, seed: int = 1) -> tuple[float, float]:
    """Return where the quantile lies with 90 % certainty, by the bootstrap: the same number drawn with replacement."""
    chance = random.Random(seed)
    drawn = [quantile(chance.choices(values, k=len(values)), share) for _ in range(SURE)]
    return quantile(drawn, 0.05), quantile(drawn, 0.95)


def beside(told: Mapping[str, Any], seconds: float = 600.0) -> str:
    """The prediction for every measured number of talks."""
    machine = machine_of(told)
    lines = [
        told["machine"],
        "",
        "| talks | turns | median: measured (90 % interval) | predicted ms | | p90: measured (90 % interval) "
        "| predicted ms | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for talks, level in merged(told["levels"]).items():
        if not level["delays"]:
            continue
        predicted = machine.simulated(talks, seconds, level["elsewhere"] / level["seconds"]).within(30.0, seconds)
        cells = [str(talks), str(len(level["delays"]))]
        for share in (0.5, 0.9):
            there, here = quantile(level["delays"], share), quantile(predicted, share)
            low, high = interval(level["delays"], share)
            cells += [
                f"{1000 * there:.0f} ({1000 * low:.0f} to {1000 * high:.0f})",
                f"{1000 * here:.0f}",
                f"{round(100 * (here / there - 1)):+d} %",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
