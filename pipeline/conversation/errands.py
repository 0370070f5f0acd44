"""Tool calls, from the language model's request until the result is in the history: exactly one result for each.

The owner's tools run here, after a yes where they ask for one; a client's are waited for. Neither waits for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from pipeline.conversation.events import CallGivenUp, ToolState, ToolUsed
from pipeline.conversation.history import History
from pipeline.conversation.request import Request
from pipeline.conversation.scope import ConversationScope
from pipeline.tools.calls import ToolCall
from pipeline.tools.results import bounded
from pipeline.tools.toolbox import Toolbox, ToolFailed
from pipeline.tools.wording import question

log = logging.getLogger(__name__)

RUN_S = 60.0
"""How long one of the owner's tools may take …"""
CLIENT_S = 120.0
"""… and a client's, which may have to ask its own user."""
ANSWER_S = 60.0
"""How long the user may take to say yes or no."""
FILLER_S = 2.5
"""A silence of so long while a tool runs is filled, once."""

DECLINED = "The user did not allow it."
UNANSWERED = "The user has not said whether this is allowed, so it was not done."
LATE = "It has not answered within {:.0f} seconds."
BROKEN = "It failed; Parley's log has the reason."
CALLED_OFF = "The user cancelled it."
LEFT = "The conversation ended before there was a result."


@dataclass(eq=False, slots=True)
class ConsentQuestion:
    """Whether a call may be made."""

    call: ToolCall
    text: str
    """To be spoken."""
    request: Request
    """How it is to be put."""
    put: bool = False
    answer: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(eq=False, slots=True)
class Errand:
    call: ToolCall
    turn: int
    revision: int
    request: Request
    """What the reply to its result is to be like."""
    quiet: bool
    """Nothing was said before it, so that a silence may be filled."""
    began: float
    task: asyncio.Task[None] | None = None
    runs: bool = False


class Errands:
    def __init__(
        self,
        scope: ConversationScope,
        history: History,
        toolbox: Toolbox,
        *,
        fill: Callable[[Request], None],
        changed: Callable[[], None],
    ) -> None:
        """`fill` fills a silence; `changed` is told of results, and of questions to be put."""
        self.question: ConsentQuestion | None = None
        """The one that waits for a yes or no."""
        self.owed: dict[str, Errand] = {}
        """Results that no reply has told of yet, by their calls' ids."""
        self._scope = scope
        self._history = history
        self._toolbox = toolbox
        self._fill = fill
        self._changed = changed
        self._open: dict[str, Errand] = {}
        self._one_question = asyncio.Lock()

    @property
    def running(self) -> bool:
        """Whether one of the owner's tools is at work."""
        return any(errand.runs for errand in self._open.values())

    @property
    def open(self) -> bool:
        """Whether a result is still to come."""
        return bool(self._open)

    @property
    def news(self) -> Errand | None:
        """A result that no reply has told of, once all that was asked for at the same time have come."""
        turns = {errand.turn for errand in self._open.values()}
        return next((errand for errand in self.owed.values() if errand.turn not in turns), None)

    def begin(self, calls: Sequence[ToolCall], turn: int, revision: int, request: Request, *, quiet: bool) -> None:
        """What a reply asked for. `quiet`: it said nothing before."""
        request = replace(request, id="", tool_choice="none" if request.tool_choice == "none" else "auto")
        for call in calls:
            errand = Errand(call, turn, revision, request, quiet, self._scope.clock())
            self._open[call.id] = errand
            errand.task = self._scope.spawn(self._run(errand) if call.own else self._wait_for_client(errand))

    def settled(self, call_id: str) -> None:
        """The client has brought its result, which is history by the client's own doing."""
        if (errand := self._open.pop(call_id, None)) is not None and errand.task is not None:
            errand.task.cancel()

    def answer(self, call_id: str, allowed: bool) -> bool:
        """The user's yes or no; False where that call asks for none."""
        asked = self.question
        if asked is None or asked.call.id != call_id or asked.answer.done():
            return False
        asked.answer.set_result(allowed)
        return True

    def told(self, calls: frozenset[str]) -> None:
        """A reply has told of these results."""
        for call_id in calls:
            self.owed.pop(call_id, None)

    def drop(self, turn: int) -> None:
        """The turn never was, and so are its calls."""
        for errand in [each for each in self._open.values() if each.turn == turn]:
            self._end(errand)

    def call_off(self) -> None:
        """The user wants no more of what the owner's tools are doing."""
        for errand in [each for each in self._open.values() if each.call.own]:
            self._end(errand, CALLED_OFF)
            self._tell(errand, "refused", CALLED_OFF)

    def close(self) -> None:
        """The conversation ends: whatever is open gets no other result."""
        for errand in list(self._open.values()):
            self._end(errand, LEFT)

    def _end(self, errand: Errand, result: str = "") -> None:
        del self._open[errand.call.id]
        if errand.task is not None:
            errand.task.cancel()
        if result:
            self._history.answered(errand.call.id, result)

    def _land(self, errand: Errand, result: str, state: ToolState) -> None:
        """Its one result. Nothing comes of a call that has one already, or that was taken back."""
        if self._open.pop(errand.call.id, None) is None or not self._history.answered(errand.call.id, result):
            return
        self.owed[errand.call.id] = errand
        if errand.call.own:
            self._tell(errand, state, result)
        else:
            self._scope.outbox.post(CallGivenUp(errand.turn, errand.revision, errand.call.id, result))
        self._changed()

    def _tell(self, errand: Errand, state: ToolState, result: str = "") -> None:
        seconds = self._scope.clock() - errand.began if result else 0.0
        self._scope.outbox.post(ToolUsed(errand.turn, errand.revision, errand.call, state, result, seconds))

    async def _wait_for_client(self, errand: Errand) -> None:
        with self._filled(errand):
            await asyncio.sleep(CLIENT_S)
        self._land(errand, LATE.format(CLIENT_S), "failed")

    async def _run(self, errand: Errand) -> None:
        """One of the owner's tools."""
        if self._toolbox.asks(errand.call.name) and (why := await self._refused(errand)) is not None:
            self._land(errand, why, "refused")
            return
        errand.began, errand.runs = self._scope.clock(), True
        self._tell(errand, "running")
        self._changed()
        try:
            with self._filled(errand):
                async with asyncio.timeout(RUN_S):
                    result = await self._toolbox.call(errand.call, self._scope.name)
        except TimeoutError:
            self._land(errand, LATE.format(RUN_S), "failed")
        except ToolFailed as error:
            self._land(errand, bounded(str(error)), "failed")
        except Exception:
            log.exception("a tool failed")
            self._land(errand, BROKEN, "failed")
        else:
            self._land(errand, bounded(result) or "It gave back nothing.", "done")
        finally:
            errand.runs = False

    async def _refused(self, errand: Errand) -> str | None:
        """Ask the user, one question at a time; why it may not be done, or None where it may."""
        async with self._one_question:
            self.question = asked = ConsentQuestion(
                errand.call, question(errand.call), replace(errand.request, kept=False)
            )
            self._tell(errand, "asking")
            self._changed()
            try:
                async with asyncio.timeout(ANSWER_S):
                    return None if await asked.answer else DECLINED
            except TimeoutError:
                return UNANSWERED
            finally:
                self.question = None

    @contextmanager
    def _filled(self, errand: Errand) -> Iterator[None]:
        """A silence that lasts long meanwhile is filled."""
        filling = self._scope.spawn(self._fill_later(errand))
        try:
            yield
        finally:
            filling.cancel()

    async def _fill_later(self, errand: Errand) -> None:
        await asyncio.sleep(FILLER_S)
        if errand.quiet:
            self._fill(replace(errand.request, kept=False))
