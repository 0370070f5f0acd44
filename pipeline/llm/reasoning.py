"""Removes a model's reasoning from its stream: what it writes before its answer is neither said nor remembered.

The marks are those of published models: <think> (DeepSeek, Qwen), <seed:think> (Seed-OSS), [THINK] (Mistral), ◁think▷
(Kimi), <|START_THINKING|> (Cohere), <|begin_of_thought|> (Sky-T1), <|channel>thought (Gemma), and OpenAI's Harmony,
whose channels other than `final` are not for the user (github.com/openai/harmony).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

AT_ONCE = 2_000
"""Characters of a piece that are looked at together: each mark found costs as much time as the text that is left."""

_NAMES = (
    r"(?:\w{1,12}:)?(?:think|thinking|thoughts?|reasoning|reason|reflection|analysis|scratchpad|inner_monologue|"
    r"inner_thoughts|longcat_think)"
)
_PAIRS = (
    (rf"<({_NAMES})>", "</{}>"),
    (r"\[(think)\]", "[/{}]"),
    (r"◁(think)▷", "◁/{}▷"),
    (r"<\|(think|thinking)\|>", "<|/{}|>"),
    (r"<\|begin_of_(thought|thinking)\|>", "<|end_of_{}|>"),
    (r"<\|start_(thinking)\|>", "<|end_{}|>"),
    (r"<(unused)94>", "<{}95>"),
    (r"<\|(channel)>thought", "<{}|>"),
)
"""What opens reasoning, and what closes it; upper and lower case are equal."""
_OPENING = tuple((re.compile(opening, re.IGNORECASE), closing) for opening, closing in _PAIRS)
_CLOSING = re.compile(rf"</{_NAMES}>|\[/think\]|◁/think▷", re.IGNORECASE)
"""A closing mark whose opening mark was in the prompt."""
_CHANNEL = re.compile(
    r"(?:<\|start\|>[\w.]{0,40})?<\|channel\|>\s*(\w{1,20})[^<]{0,120}(?:<\|constrain\|>[^<]{0,40})?<\|message\|>"
)
_END_OF_CHANNEL = re.compile(r"<\|(?:end|return|call)\|>")
_UNMARKED = re.compile(r"\Aanalysis(?=[A-Z])")
"""Harmony from a server that drops its marks: "analysisThe user greets me.assistantfinalHello."."""
_END_OF_UNMARKED = re.compile("assistantfinal")
_BEGUN = re.compile(
    r"(?:<\|start\|>[\w.]{0,40})?(?:<\|channel\|>[^<]{0,120})?(?:<\|constrain\|>[^<]{0,40})?"
    r"(?:<[|/\w:]{0,24}|\[/?[A-Za-z]{0,6}|◁/?\w{0,6})?\Z"
)
"""The end of a text that may be the beginning of a mark; at most _FARTHEST characters."""
_FARTHEST = 320


class Reasoning:
    """The filter. It takes pieces cut anywhere, and gives back those parts that may be said.

    A closing mark without its opening mark, as from templates that open it in the prompt, is left out too.
    """

    def __init__(self, inside: str | None = None) -> None:
        """`inside` is the mark that the prompt has already opened."""
        self.inside = inside
        """The mark of the reasoning that is being written."""
        self.opened: str | None = None
        """The mark that the prompt must have opened, because the first mark to come closed it."""
        self._held = ""
        self._end = None if inside is None else _end_of(inside)
        self._fresh = inside is None
        """Whether nothing was said and no mark has come yet."""
        self._marked = inside is not None

    def feed(self, piece: str) -> str:
        """Take a piece; return what may be said now."""
        return "".join(map(self._feed, parts(piece)))

    def _feed(self, part: str) -> str:
        self._held += part
        said = []
        while (found := self._next()) is not None:
            match, self._end = found
            if self.inside is None:
                said.append(self._held[: match.start()])
            self.inside = match[0] if self._end else None
            self._held, self._fresh, self._marked = self._held[match.end() :], False, True
        keep = self._begun()
        free, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        self._fresh = self._fresh and not free
        return "".join(said) + ("" if self.inside else free)

    def finish(self) -> str:
        return "" if self.inside else self._held

    def _begun(self) -> int:
        """Return how many of the last characters may be the beginning of a mark."""
        if self._fresh and "analysis".startswith(self._held):
            return len(self._held)
        if self._end is _END_OF_UNMARKED:
            return min(len(self._held), len("assistantfinal") - 1)
        recent = self._held[-_FARTHEST:]
        begun = _BEGUN.search(recent)
        return len(recent) - begun.start() if begun else 0

    def _next(self) -> tuple[re.Match[str], re.Pattern[str] | None] | None:
        """Return the next mark that matters here, and the pattern that ends the reasoning it begins, if any."""
        if self._end is not None:
            match = self._end.search(self._held)
            return (match, None) if match else None
        found: list[tuple[re.Match[str], re.Pattern[str] | None]] = []
        for opening, _ in _OPENING:
            if match := opening.search(self._held):
                found.append((match, _end_of(match[0])))
        if match := _CHANNEL.search(self._held):
            found.append((match, None if match[1].lower() == "final" else _END_OF_CHANNEL))
        if self._fresh and (match := _UNMARKED.match(self._held)):
            found.append((match, _END_OF_UNMARKED))
        if match := _CLOSING.search(self._held):
            found.append((match, None))
        first = min(found, default=None, key=lambda each: each[0].start())
        if first is not None and not self._marked and first[0].re is _CLOSING:
            self.opened = first[0][0].replace("/", "", 1)
        return first


def parts(piece: str) -> Iterator[str]:
    """Cut a long piece of a reply, so that the time it takes grows no faster than its length."""
    return (piece[at : at + AT_ONCE] for at in range(0, len(piece), AT_ONCE))


def _end_of(mark: str) -> re.Pattern[str]:
    match, closing = next((found, closing) for opening, closing in _OPENING if (found := opening.match(mark)))
    return re.compile(re.escape(closing.format(match[1])), re.IGNORECASE)


def open_mark(prompt: str) -> str | None:
    """Return the reasoning mark that a rendered prompt leaves open at its end, as some templates do; else None."""
    end = prompt.rstrip()[-40:]
    matches = (match for opening, _ in _OPENING for match in opening.finditer(end))
    return next((match[0] for match in matches if match.end() == len(end)), None)


def is_mark(token: str) -> bool:
    """Whether a token of a vocabulary is a mark of reasoning, or of Harmony's channels."""
    patterns = (*(opening for opening, _ in _OPENING), _CLOSING, re.compile(r"<\|(?:end|start|channel|message)\|>"))
    return token[:1] in ("<", "[", "◁") and any(pattern.fullmatch(token) for pattern in patterns)
