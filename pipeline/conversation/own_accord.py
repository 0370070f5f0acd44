"""What a conversation says and does unprompted: tool calls, the questions before them, and announcements."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from pipeline.conversation.answering import fixed
from pipeline.conversation.errands import Errands
from pipeline.conversation.history import History
from pipeline.conversation.reply_side import ReplySide
from pipeline.conversation.request import Request
from pipeline.conversation.scope import ConversationScope
from pipeline.llm import LanguageModel, UsesTools
from pipeline.tools.calls import Tool
from pipeline.tools.consent import consent
from pipeline.tools.toolbox import Toolbox
from pipeline.turns.record import TurnRecord

FILLERS = ("One moment.", "Let me see.", "I am on it.")
"""Said one after the other while tools take their time."""
MOST_ROUNDS = 5
"""How often in a row the owner's tools may be called for one user turn; the reply after that gets no tools."""


class OwnAccord:
    def __init__(
        self,
        scope: ConversationScope,
        history: History,
        toolbox: Toolbox,
        replies: ReplySide,
        *,
        silent: Callable[[], bool],
        automatic: Callable[[], bool],
        respond: Callable[[Request], None],
        changed: Callable[[], None],
    ) -> None:
        """
        Args:
            silent: returns whether nobody speaks and nothing is about to be said.
            automatic: returns whether the conversation takes its turns by itself.
            respond: makes it reply now, to what is in the history.
            changed: is called when there may be something to say.
        """
        self.errands = Errands(scope, history, toolbox, fill=self._fill, changed=changed)
        self.rounds = 0
        """Replies in a row that called the owner's tools."""
        self._scope = scope
        self._history = history
        self._toolbox = toolbox
        self._replies = replies
        self._silent = silent
        self._automatic = automatic
        self._respond = respond
        self._announcements: deque[tuple[str, Request]] = deque()
        """What to say as soon as nobody speaks."""
        self._fillers = 0
        """Fillers said so far."""

    def tools(self, request: Request, mind: LanguageModel) -> tuple[Tool, ...]:
        """Return the owner's tools that may be called.

        A client's tool hides an owner's tool of the same name. If the client demands a call, or gives a history of its
        own, there are none.
        """
        if not (isinstance(mind, UsesTools) and mind.uses_tools) or self.rounds >= MOST_ROUNDS:
            return ()
        if request.history is not None or request.tool_choice not in ("auto", "none"):
            return ()
        names = {tool.name for tool in request.tools}
        return tuple(tool for tool in self._toolbox.tools() if tool.name not in names)

    def announce(self, text: str, request: Request) -> None:
        self._announcements.append((text, request))

    def say_next(self) -> None:
        """Say what waits, once nobody speaks: a question first, then tool results, then an announcement."""
        if not self._silent():
            return
        asked, news = self.errands.question, self.errands.news
        if asked is not None and not asked.put:
            asked.put = True
            self._say(asked.text, asked.request)
        elif news is not None and (news.call.own or self._automatic()):
            self._history.as_news(self.errands.owed)
            self._respond(news.request)
        elif self._announcements:
            self._say(*self._announcements.popleft())

    def answered(self, record: TurnRecord, said: str) -> bool:
        """Whether the turn was a yes or no to the open question; then it is neither answered nor remembered."""
        asked = self.errands.question
        if asked is None or (allowed := consent(said)) is None:
            return False
        if (reply := self._replies.of(record)) is not None:
            self._replies.waste(reply)
        record.user = said
        self.errands.answer(asked.call.id, allowed)
        self._scope.close_record(record, "completed", "an answer to a question")
        return True

    def allow(self, call_id: str, allowed: bool) -> bool:
        """Pass on the user's yes or no to a call; return False if no call with this id waits for one."""
        answered = self.errands.answer(call_id, allowed)
        if answered and (reply := self._replies.current) is not None and not reply.request.kept:
            self._replies.cancel("the user answered")  # the rest of the question is not needed
        return answered

    def _fill(self, request: Request) -> None:
        """Fill the silence while a tool takes its time."""
        if self._silent() and self._automatic():
            self._say(FILLERS[self._fillers % len(FILLERS)], request)
            self._fillers += 1

    def _say(self, text: str, request: Request) -> None:
        request = replace(request, id="")
        self._replies.start(self._scope.new_record(), fixed(text), release=True, request=request)
