"""One machine as it was measured, as a network of queues: what it does with more talks than it was measured with.

Every process of Parley (`busy` in load.py's file) serves what waits for it in the order in which it came, one piece at
a time, and the processes that have work share the cores evenly, each on at most one core, as Linux's scheduler does.
Work comes from everything that load.py's users do:

- every 20 ms, each talk's block of sound costs the users' process and the server a moment;
- while somebody speaks, PocketSphinx decodes each 60 ms of it. The words are final when what is left then is decoded;
- a pause is judged by smart-turn, while the words are finished, the memory recalls and the voice makes the first sound;
- the rest of a reply is made while it is heard.

All times and amounts of work come from the smallest number of talks in the file, ideally one, where nothing waits for
anything else; the next number only tells what the processes compute for nobody. Waiting for silence, and the way of the
sound to the ear, are not work, and take as long in a crowd.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import simpy

from benchmarks.capacity import quantile
from benchmarks.load import STEPS
from benchmarks.queues import Answered, Line, Process, Server

BLOCK_S, GATHERED_S = 0.02, 0.06
"""The microphone's blocks (simulated_user.py), and the sound of one call to the recogniser (turns/listening.py)."""
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

    def of(self, share: float) -> Turn:
        """Return the same turn with this share of the work."""
        return replace(self, finish=share * self.finish, mind=share * self.mind, voice=share * self.voice)


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
    idle: float
    """Cores that the processes keep busy however many talk."""
    hearing: float
    """Seconds of work of the recogniser for each second of speech."""
    after: Mapping[str, float]
    """Seconds of work of the mind's and the voice's process for a turn, beyond what its answer waits for."""

    def simulated(self, talks: int, seconds: float, elsewhere: float = 0.0, seed: int = 1) -> Answered:
        """Args: elsewhere: cores that other programs keep busy."""
        env, answered = simpy.Environment(), Answered()
        crowd = _Crowd(self, env, max(0.1, self.cores - elsewhere - self.idle))
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
        self._users, self._server, self._mind, self._voice = (Line(env, self._cores) for _ in range(4))
        self._judge = Line(env, self._cores, JUDGED_AT_ONCE)
        self._talkers = {Line(env, self._cores): 0}
        """Those that each recogniser hears."""

    def blocks(self, chance: random.Random) -> Process:
        """Send a talk's microphone block after block."""
        yield self._env.timeout(chance.uniform(0, BLOCK_S))
        while True:
            self._env.process(self._block())
            yield self._env.timeout(BLOCK_S)

    def _block(self) -> Process:
        yield from self._users.work(self._machine.block["users"])
        yield from self._server.work(self._machine.block["server"])

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
            yield from self._server.work(0.0)  # behind what waits in its loop
            yield env.process(self._decided(turn)) & env.process(self._made(turn, ears, heard))
            self._talkers[ears] -= 1
            yield from self._server.work(0.0)
            yield env.timeout(turn.way_s)
            answered.turns.append((env.now, env.now - ended))
            env.process(self._mind.work(machine.after["mind"]))
            env.process(self._voice.work(machine.after["voice"]))
            yield env.timeout(chance.choice(machine.reply_s))

    def _recogniser(self) -> Line:
        """Give a talker the recogniser with the fewest; start another one once all have enough, as WorkerPool does."""
        least = min(self._talkers, key=lambda each: self._talkers[each])
        self._talkers[least] += 1
        if len(self._talkers) < self._machine.cores and min(self._talkers.values()) >= TURNS_TO_A_WORKER:
            self._talkers[Line(self._env, self._cores)] = 0
        return least

    def _heard(self, ears: Line, speech_s: float) -> Process:
        """Decode the speech as it comes; what waited meanwhile is decoded in one call."""
        decoded, began = 0.0, self._env.now
        while decoded < speech_s:
            gathered = min(speech_s, decoded + GATHERED_S)
            yield self._env.timeout(max(0.0, began + gathered - self._env.now))
            there = min(speech_s, max(gathered, self._env.now - began))  # a rounded clock may stand just before
            yield from ears.work(self._machine.hearing * (there - decoded))
            decoded = there

    def _decided(self, turn: Turn) -> Process:
        noticed = self._env.now
        yield from self._judge.work(self._machine.judging)
        yield from self._server.work(0.0)
        yield self._env.timeout(max(0.0, noticed + FRAME_S - self._env.now) + turn.more_s)

    def _made(self, turn: Turn, ears: Line, heard: simpy.Event) -> Process:
        yield heard
        yield from ears.work(turn.finish)
        yield from self._mind.work(turn.mind)
        yield from self._voice.work(turn.voice)


def machine_of(told: Mapping[str, Any]) -> Machine:
    """Read load.py's file. Raises ValueError if it has no turn with all steps."""
    levels = merged(told["levels"])
    alone = levels[min(levels)]
    idle = for_nobody(levels)
    busy = {
        name: alone["busy"].get(process, 0.0) - idle.get(process, 0.0) * alone["seconds"]
        for name, process in NAMES.items()
    }
    whole = [steps for steps in alone["steps"] if {*MEASURED} <= steps.keys()]
    if not whole:
        raise ValueError("No turn in this file has all of its steps: measure again with --json.")
    answers, blocks = len(alone["steps"]), alone["seconds"] * alone["talks"] / BLOCK_S
    judging = busy["turns"] / answers
    turns = [Turn.measured(steps, judging) for steps in whole]
    speech = sum(alone["speech_s"])

    def besides(name: str, work: Sequence[float]) -> float:
        return max(0.0, float(busy[name]) - answers * statistics.mean(work))

    machine = Machine(
        told["cores"],
        tuple(told["habits"]["think_s"]),
        alone["speech_s"],
        alone["reply_s"],
        turns,
        judging,
        {"users": alone["users_busy"] / blocks, "server": busy["server"] / blocks},
        sum(idle.values()),
        besides("ears", [turn.finish for turn in turns]) / speech,
        {
            "mind": besides("mind", [turn.mind for turn in turns]) / answers,
            "voice": besides("voice", [turn.voice for turn in turns]) / answers,
        },
    )
    return calibrated(machine, alone)


def for_nobody(levels: Mapping[int, Mapping[str, Any]]) -> dict[str, float]:
    """Return the cores that each process keeps busy whoever talks, by a line through the two smallest numbers of talks.

    Without it, what the first talk costs (a process that has just begun, work once a second) would count again for each
    further one. One number of talks alone cannot tell.
    """
    (few, less), *more = list(levels.items())[:2]
    if not more:
        return {}
    ((many, greater),) = more
    idle = dict[str, float]()
    for name, seconds in less["busy"].items():
        at_few, at_many = seconds / less["seconds"], greater["busy"].get(name, 0.0) / greater["seconds"]
        idle[name] = min(at_few, max(0.0, (many * at_few - few * at_many) / (many - few)))
    return idle


def calibrated(machine: Machine, alone: Mapping[str, Any], seconds: float = 600.0) -> Machine:
    """Return the machine whose simulation of the smallest number of talks takes as long as the measurement.

    What a step took there includes waiting, for other talks and for other programs on the machine; its work is less by
    the same share for all steps. Only the median of this one number of talks is used.
    """
    wanted, elsewhere = statistics.median(alone["delays"]), alone["elsewhere"] / alone["seconds"]
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        share = (low + high) / 2
        tried = replace(machine, turns=[turn.of(share) for turn in machine.turns])
        took = statistics.median(tried.simulated(alone["talks"], seconds, elsewhere).within(10.0, seconds))
        low, high = (low, share) if took > wanted else (share, high)
    return replace(machine, turns=[turn.of(high) for turn in machine.turns])


HALVINGS = 4
"""Steps of the bisection: the share is known to a sixteenth."""
MEASURED = (*STEPS, "heard")
"""What a whole turn has in load.py's file."""


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
