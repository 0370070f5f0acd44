"""What of a model's stream is its reply: one layer between every language model and the conversation.

Reasoning is left out (reasoning.py), and so is what is meant for machines: tool calls written as text, bare JSON, a
chat template's control tokens, the label "Assistant:". A control token after words, or the label of the next speaker,
ends the reply; a loop ends it, and so does its length.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from config.text import whole_characters
from pipeline.llm import Truncated
from pipeline.llm.reasoning import Reasoning
from pipeline.tools.calls import Tool, ToolCall
from pipeline.tools.written import written_calls

LONGEST = 20_000
"""Characters of a reply: about twenty minutes of speech. More comes from a model that does not stop."""
LONGEST_RAW = 400_000
"""The same, with the reasoning."""

_CONTROL = r"<\|[^|<>\s]{1,40}\|>|<｜[^<>｜]{1,40}｜>|</?s>|<(?:start|end)_of_turn>|<[be]os>|\[/?INST\]"
_OPENS = re.compile(
    r"(?:<\|(?:im_start|start|start_header_id|assistant|message|begin_of_text|start_of_role)\|>|<start_of_turn>|<s>|<bos>|"
    r"\[/INST\])(?:(?:assistant|model)\b(?:<\|(?:end_header_id|end_of_role)\|>)?)?\s*"
)
"""What a template puts before a reply, and some servers leave in it."""
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
"""Characters before a mark that tell whether it begins a line or follows a sentence."""


_JSON, _REST = "json", "rest"


class Cleaning:
    """Fed with pieces cut anywhere, it gives back what of them is the reply."""

    def __init__(self) -> None:
        self.over = False
        """Nothing more will come out: the model may be stopped."""
        self._reasoning = Reasoning()
        self._loop = Loop()
        self._half = ""
        """The first half of a character whose second has not come."""
        self._held = ""
        self._before = "\n"
        """What came right before it and may be said already; a reply begins a line."""
        self._leaving_out: str | None = None
        """What ends the passage that is being left out: a closing tag, the end of _JSON, or nothing but _REST's."""
        self._said = self._raw = 0
        """Characters."""
        self.left_out: list[str] = []
        """Passages for machines, each with the mark that opens it: calls of tools perhaps, written as text."""

    def feed(self, piece: str) -> str:
        """What may be said of it now."""
        self._raw += len(piece)
        self.over = self.over or self._raw > LONGEST_RAW
        if self.over:
            return ""
        piece, self._half = self._half + piece, ""
        if piece and "\ud800" <= piece[-1] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        self._held += self._reasoning.feed(whole_characters(piece))
        return self._pass(final=False)

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
                break  # what belongs to the mark may follow
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
        """Drops what the passage has of the text; whether it has ended."""
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
        """What of it comes before a loop is seen, and before it is too much; a reply begins with no blank."""
        self._before = (self._before + text)[-_SEEN:]
        before = self._said + len(said)
        text = text[: LONGEST - before] if before else text.lstrip()
        kept = self._loop.before(text)
        self.over = len(kept) < len(text) or before + len(kept) >= LONGEST
        return kept

    def _begun(self) -> int:
        """How many of the last characters may be the beginning of a mark."""
        recent = (self._before + self._held)[-120:]
        begun = _BEGUN.search(recent)
        keep = len(recent) - begun.start() if begun else 0
        *before, line = re.split(r"\n|(?<=[.!?…\"”]) {1,2}", recent)
        label = line.lstrip(" \t*#")
        if before and len(line) < 40 and any(each.startswith(label) for each in _LABELS):
            keep = max(keep, len(line))
        return min(keep, len(self._held))


class Loop:
    """Notices that words repeat: a phrase of four or more three times, a shorter one more often."""

    LONGEST_PHRASE = 24

    def __init__(self) -> None:
        self._words: list[str] = []
        self._partial = ""
        self._alike = [0] * (self.LONGEST_PHRASE + 1)
        """For each length of a phrase: how many words on end are those that stood so far before."""

    def before(self, text: str) -> str:
        """The text up to the word at which a loop is certain; all of it where there is none."""
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
    """Where the object or list at the beginning of a text ends; None while it has not."""
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
    """A model's stream without what is not its reply; the model is stopped where that ends.

    Where there are `tools`, a call of one that is written as text comes as the call that it is.
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
