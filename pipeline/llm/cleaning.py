"""Extracts the reply from a model's stream: one layer between every language model and the conversation.

It leaves out reasoning (reasoning.py) and what is meant for machines: tool calls written as text, bare JSON, a chat
template's control tokens, and the label "Assistant:". The reply ends at a control token after words, at the label of
another speaker, at a loop, or at its maximum length.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from config.text import whole_characters
from pipeline.llm import Truncated
from pipeline.llm.reasoning import Reasoning, parts
from pipeline.tools.calls import Tool, ToolCall
from pipeline.tools.written import written_calls

LONGEST = 20_000
"""Most characters of a reply, about twenty minutes of speech; only a model that does not stop writes more."""
LONGEST_RAW = 400_000
"""The same, including the reasoning."""

_CONTROL = r"<\|[^|<>\s]{1,40}\|>|<｜[^<>｜]{1,40}｜>|</?s>|<(?:start|end)_of_turn>|<[be]os>|\[/?INST\]"
_OPENS = re.compile(
    r"(?:<\|(?:im_start|start|start_header_id|assistant|message|begin_of_text|start_of_role)\|>|<start_of_turn>|<s>|<bos>|"
    r"\[/INST\])(?:(?:assistant|model)\b(?:<\|(?:end_header_id|end_of_role)\|>)?)?\s*"
)
"""What a template puts before a reply; some servers leave it in the text."""
_ROLE_BEGUN = re.compile(
    "(?:"
    + "|".join(role[:size] for role in ("assistant", "model") for size in range(len(role) + 1))
    + ")(?:<[^<>]{0,40})?"
)
_TOOL = (
    r"<(?P<tag>tool_calls?|function_calls?|tool_code|tool_response|invoke|function)(?:[=\s][^<>]{0,80})?>|"
    r"\[TOOL_(?:CALLS|RESULTS)\]"
)
_LINE = r"(?:(?<=\n)|(?<=[.!?…\"”] )|(?<=[.!?…\"”]  ))[ \t]*(?:\*\*|#{1,4} ?)?"
_OTHERS = "User|Human|Instruction"
_OWN = "Assistant|AI|Bot|Response|Answer"
_LABELS = tuple(f"{label}:" for label in f"{_OTHERS}|{_OWN}".split("|"))
_MARK = re.compile(
    rf"(?P<control>{_CONTROL})|{_TOOL}|{_LINE}(?:(?P<other>{_OTHERS})|(?P<own>{_OWN}))(?:\*\*)?:(?:\*\*)?[ \t]*|"
    r"(?<=\n)[ \t]*(?P<json>[\[{])(?=\s*[\"{])"
)
_BEGUN = re.compile(r"<[^<>\s]{0,60}\Z|<(?:tool|function|invoke)[^<>]{0,90}\Z|\[/?[A-Z_]{0,14}\Z|\n[ \t]*[\[{]\s*\Z")
"""The end of a text that may be the beginning of a mark."""
_SEEN = 3
"""Characters before a mark that show whether it begins a line or follows a sentence."""


_JSON, _REST = "json", "rest"


class Cleaning:
    """Takes pieces cut anywhere, and gives back those parts that are the reply."""

    def __init__(self) -> None:
        self.over = False
        """Whether nothing more will come out, so that the model may be stopped."""
        self._reasoning = Reasoning()
        self._loop = Loop()
        self._half = ""
        """The first half of a character (a surrogate) whose second half has not come."""
        self._held = ""
        self._before = "\n"
        """The text right before `_held`, which may already be said; a reply begins a line."""
        self._leaving_out: str | None = None
        """What ends the passage being left out: a closing tag, _JSON for the end of the JSON, or _REST for nothing."""
        self._said = self._raw = 0
        """Characters said so far, and characters fed so far."""
        self.left_out: list[str] = []
        """Passages for machines, each with its opening mark: possibly tool calls written as text."""

    def feed(self, piece: str) -> str:
        """Take a piece; return what may be said now."""
        self._raw += len(piece)
        self.over = self.over or self._raw > LONGEST_RAW
        if self.over:
            return ""
        piece, self._half = self._half + piece, ""
        if piece and "\ud800" <= piece[-1] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        said = ""
        for part in parts(whole_characters(piece)):
            self._held += self._reasoning.feed(part)
            said += self._pass(final=False)
        return said

    def finish(self) -> str:
        if self.over:
            return ""
        self._held += self._reasoning.finish()
        rest = self._pass(final=True)
        if self._leaving_out is not None:
            self._leave_out(self._held)
        self.over = True
        return rest

    def _pass(self, *, final: bool) -> str:
        said = ""
        while not self.over:
            if self._leaving_out is not None:
                if not self._left_out(self._leaving_out):
                    break
                continue
            begin = len(self._before)
            mark = _MARK.search(self._before + self._held, begin)
            if mark is None:
                keep = 0 if final else self._begun()
                free, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
                said += self._let(free, said)
                break
            before, text, after = self._held[: mark.start() - begin], mark[0], self._held[mark.end() - begin :]
            leading = bool(mark["control"]) and not self._said + len(said) and not before.strip()
            if not final and (_ROLE_BEGUN.fullmatch(after) if leading else mark["own"] and not after.strip("* ")):
                break  # the rest of the mark may still follow
            said += self._let(before, said)
            self._held = text + after
            if leading:
                opening = _OPENS.match(self._held)
                self._held, self._before = self._held[opening.end() if opening else len(text) :], "\n"
                continue
            self._held = self._held[text.index(mark["json"]) if mark["json"] else len(text) :]
            if mark["control"] or mark["other"]:
                self.over = True
            elif mark["json"]:
                self._leaving_out = _JSON
                self.left_out.append("")
            elif mark["own"] is None:
                self._leaving_out = f"</{mark['tag']}>" if mark["tag"] else _REST
                self.left_out.append(text)
        self._said += len(said)
        return said

    def _left_out(self, until: str) -> bool:
        """Drop the passage's part of the text; return whether the passage has ended."""
        end: int | None
        if until == _JSON:
            end = end_of_json(self._held[:LONGEST])
        else:
            at = self._held.find(until) if until != _REST else -1
            end = None if at < 0 else at + len(until)
        if end is None:
            kept = 0 if until == _JSON else len(self._held) - len(until)
            if kept > 0:
                self._leave_out(self._held[:kept])
                self._held = self._held[kept:]
            return False
        self._leave_out(self._held[:end])
        self._held, self._leaving_out = "\n" + self._held[end:].lstrip(), None
        return True

    def _leave_out(self, text: str) -> None:
        if len(self.left_out[-1]) < LONGEST:
            self.left_out[-1] += text

    def _let(self, text: str, said: str) -> str:
        """Return the text up to a loop or the maximum length. A reply does not begin with white space."""
        self._before = (self._before + text)[-_SEEN:]
        before = self._said + len(said)
        text = text[: LONGEST - before] if before else text.lstrip()
        kept = self._loop.before(text)
        self.over = len(kept) < len(text) or before + len(kept) >= LONGEST
        return kept

    def _begun(self) -> int:
        """Return how many of the last characters may be the beginning of a mark."""
        recent = (self._before + self._held)[-120:]
        begun = _BEGUN.search(recent)
        keep = len(recent) - begun.start() if begun else 0
        *before, line = re.split(r"\n|(?<=[.!?…\"”]) {1,2}", recent)
        label = line.lstrip(" \t*#")
        if before and len(line) < 40 and any(each.startswith(label) for each in _LABELS):
            keep = max(keep, len(line))
        return min(keep, len(self._held))


class Loop:
    """Detects repetition: a phrase of four or more words three times, a shorter one more often."""

    LONGEST_PHRASE = 24

    def __init__(self) -> None:
        self._words: list[str] = []
        self._partial = ""
        self._alike = [0] * (self.LONGEST_PHRASE + 1)
        """For each phrase length: how many words in a row equal the word that many places before them."""

    def before(self, text: str) -> str:
        """Return the text up to the word at which a loop is certain; all of it if there is none."""
        for match in re.finditer(r"\S+|\s+", text):
            if not match[0].isspace():
                self._partial += match[0]
            elif self._partial:
                word, self._partial = self._partial, ""
                if self._takes(word):
                    return text[: match.start()]
        return text

    def _takes(self, word: str) -> bool:
        word = re.sub(r"\W", "", word).lower() or word
        self._words = [*self._words[-self.LONGEST_PHRASE :], word]
        for length in range(1, len(self._words)):
            same = self._words[-1 - length] == word
            self._alike[length] = self._alike[length] + 1 if same else 0
            times = 2 if length >= 4 else 4 if length > 1 else 7
            if self._alike[length] >= times * length:
                return True
        return False


def end_of_json(text: str) -> int | None:
    """Return where the JSON object or list at the beginning of a text ends; None if it has not ended."""
    depth, quoted, escaped = 0, False, False
    for at, character in enumerate(text):
        if quoted:
            quoted = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            quoted = True
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
            if depth <= 0:
                return at + 1
    return None


async def cleaned(
    pieces: AsyncGenerator[str | ToolCall | Truncated, None], tools: Sequence[Tool] = ()
) -> AsyncGenerator[str | ToolCall | Truncated, None]:
    """Yield only the reply from a model's stream; the model is stopped at the end of the reply.

    If there are `tools`, a tool call written as text is yielded as a ToolCall.
    """
    cleaning, others = Cleaning(), list[ToolCall | Truncated]()
    async with aclosing(pieces):
        async for piece in pieces:
            if not isinstance(piece, str):
                others.append(piece)
            elif text := cleaning.feed(piece):
                yield text
            if cleaning.over:
                break
    if rest := cleaning.finish():
        yield rest
    if tools and not any(isinstance(other, ToolCall) for other in others):
        for passage in cleaning.left_out:
            for call in written_calls(passage):
                yield call
    for other in others:
        yield other
