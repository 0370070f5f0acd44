"""Tool calls, from the language model's request until the result is in the history. Each gets exactly one result.

The owner's tools run here, after the user's consent if they need it. A client runs its own tools; their results are
waited for. Both waits have a limit.
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
"""How long one of the owner's tools may take."""
CLIENT_S = 120.0
"""How long a client's tool may take; the client may have to ask its own user."""
ANSWER_S = 60.0
"""How long the user may take to answer yes or no."""
FILLER_S = 2.5
"""While a tool runs, a silence of this length is filled, once."""

DECLINED = "The user did not allow it."
UNANSWERED = "The user has not said whether this is allowed, so it was not done."
LATE = "It has not answered within {:.0f} seconds."
BROKEN = "It failed; Parley's log has the reason."
CALLED_OFF = "The user cancelled it."
LEFT = "The conversation ended before there was a result."


@dataclass(eq=False, slots=True)
class ConsentQuestion:
    """The question to the user whether a call may be made."""

    call: ToolCall
    text: str
    """What is spoken to ask it."""
    request: Request
    """What the spoken question should be like."""
    put: bool = False
    answer: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(eq=False, slots=True)
class Errand:
    call: ToolCall
    turn: int
    revision: int
    request: Request
    """What the reply to its result should be like."""
    quiet: bool
    """Nothing was said before the call, so a silence may be filled."""
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
        """`fill` fills a silence; `changed` is called when there is a result, or a question to ask."""
        self.question: ConsentQuestion | None = None
        """The question that waits for a yes or no."""
        self.owed: dict[str, Errand] = {}
        """Errands whose results no reply has reported yet, by call id."""
        self._scope = scope
        self._history = history
        self._toolbox = toolbox
        self._fill = fill
        self._changed = changed
        self._open: dict[str, Errand] = {}
        self._one_question = asyncio.Lock()

    @property
    def running(self) -> bool:
        """Whether one of the owner's tools is running."""
        return any(errand.runs for errand in self._open.values())

    @property
    def open(self) -> bool:
        """Whether a result is still to come."""
        return bool(self._open)

    @property
    def news(self) -> Errand | None:
        """A result that no reply has reported, once all calls of the same turn have their results."""
        turns = {errand.turn for errand in self._open.values()}
        return next((errand for errand in self.owed.values() if errand.turn not in turns), None)

    def begin(self, calls: Sequence[ToolCall], turn: int, revision: int, request: Request, *, quiet: bool) -> None:
        """Start the calls that a reply asked for. `quiet`: the reply said nothing before them."""
        request = replace(request, id="", tool_choice="none" if request.tool_choice == "none" else "auto")
        for call in calls:
            errand = Errand(call, turn, revision, request, quiet, self._scope.clock())
            self._open[call.id] = errand
            errand.task = self._scope.spawn(self._run(errand) if call.own else self._wait_for_client(errand))

    def settled(self, call_id: str) -> None:
        """Close a client's call, whose result the client has put into the history itself."""
        if (errand := self._open.pop(call_id, None)) is not None and errand.task is not None:
            errand.task.cancel()

    def answer(self, call_id: str, allowed: bool) -> bool:
        """Pass on the user's yes or no; return False if the call does not wait for one."""
        asked = self.question
        if asked is None or asked.call.id != call_id or asked.answer.done():
            return False
        asked.answer.set_result(allowed)
        return True

    def told(self, calls: frozenset[str]) -> None:
        """Note that a reply has reported the results of these calls."""
        for call_id in calls:
            self.owed.pop(call_id, None)

    def drop(self, turn: int) -> None:
        """Drop the calls of a withdrawn turn."""
        for errand in [each for each in self._open.values() if each.turn == turn]:
            self._end(errand)

    def call_off(self) -> None:
        """Cancel the owner's tools that are running, because the user wants that."""
        for errand in [each for each in self._open.values() if each.call.own]:
            self._end(errand, CALLED_OFF)
            self._tell(errand, "refused", CALLED_OFF)

    def close(self) -> None:
        """Give every open call its last result, because the conversation ends."""
        for errand in list(self._open.values()):
            self._end(errand, LEFT)

    def _end(self, errand: Errand, result: str = "") -> None:
        del self._open[errand.call.id]
        if errand.task is not None:
            errand.task.cancel()
        if result:
            self._history.answered(errand.call.id, result)

    def _land(self, errand: Errand, result: str, state: ToolState) -> None:
        """Record the call's one result. A call that already has one, or was withdrawn, is ignored."""
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
        """Run one of the owner's tools."""
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
        """Ask the user, one question at a time; return why the call may not be made, or None if it may."""
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
        """Fill the silence, if it lasts long while the body runs."""
        filling = self._scope.spawn(self._fill_later(errand))
        try:
            yield
        finally:
            filling.cancel()

    async def _fill_later(self, errand: Errand) -> None:
        await asyncio.sleep(FILLER_S)
        if errand.quiet:
            self._fill(replace(errand.request, kept=False))
