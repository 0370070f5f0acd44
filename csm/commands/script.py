"""Scripts of dialogues: first which voice each character has, then who says what.

# A comment.
Anna = anna
Ben = recordings/ben

Anna: Have you heard?
Ben: Not a word.
    An indented line continues the one before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..errors import CsmError
from ..prompt import speakable

__all__ = ["Line", "Script", "ScriptError"]

_VOICE = re.compile(r"([^:=]+?)\s*=\s*(\S.*?)\s*")
_LINE = re.compile(r"([^:=]+?)\s*:\s*(.*?)\s*")


class ScriptError(CsmError):
    """A script cannot be read. The message says which line, and what was expected there."""


@dataclass(frozen=True)
class Line:
    """What somebody says, and its line number in the script."""

    number: int
    character: str
    text: str


@dataclass
class Script:
    """`voices` maps characters that have a voice to its name; `characters` are all, in order of appearance."""

    voices: dict[str, str] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    @property
    def characters(self) -> list[str]:
        return list(dict.fromkeys([*self.voices, *(line.character for line in self.lines)]))

    @classmethod
    def parse(cls, text: str) -> Script:
        """Parse a script. Raises ScriptError for an invalid line, a voice given twice, or nothing to speak."""
        script = cls()
        for number, written in enumerate(text.lstrip("\ufeff").splitlines(), start=1):
            content = written.strip()
            if not content or content.startswith("#"):
                continue
            if written[0].isspace() and script.lines:
                last = script.lines.pop()
                script.lines.append(Line(last.number, last.character, f"{last.text} {content}".strip()))
            elif said := _LINE.fullmatch(content):
                script.lines.append(Line(number, said[1], said[2]))
            elif (voice := _VOICE.fullmatch(content)) and voice[1] not in script.voices:
                script.voices[voice[1]] = voice[2]
            elif voice:
                raise ScriptError(f"Line {number}: {voice[1]} already has the voice {script.voices[voice[1]]}.")
            else:
                raise ScriptError(f'Line {number} should be "Name: words" or "Name = voice", and is {content!r}.')
        script._check()
        return script

    def _check(self) -> None:
        if not self.lines:
            raise ScriptError('Nobody says anything in the script. Write lines such as "Anna: Have you heard?".')
        for line in self.lines:
            try:
                speakable(line.text)
            except ValueError as error:
                raise ScriptError(f"Line {line.number}: {line.character} cannot say this. {error}") from error
