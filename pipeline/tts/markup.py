"""Text meant for reading, not hearing: Markdown, HTML, LaTeX, citations, stage directions, kaomoji, addresses.

`MARKUP` is a table of steps for pipeline/tts/speakable.py; each leaves what can be said, or nothing.
"""

from __future__ import annotations

import html
import re

from num2words import num2words

from pipeline.tts.numbers import Step, steps

CODE = "Here comes some code, which you can read in the transcript."

BLOCKS = re.compile(r"(?s)(?:(```|~~~).*?(?:\1|\Z)\s*)+")
"""Blocks of code, which may be many lines long; several in a row count as one."""

_SOUNDS = (
    r"laugh(?:s|ing|ter)?|chuckl(?:es?|ing)|giggl(?:es?|ing)|sigh(?:s|ing)?|smil(?:es?|ing)|grin(?:s|ning)?|"
    r"nod(?:s|ding)?|wink(?:s|ing)?|whisper(?:s|ing)?|paus(?:es?|ing)|cough(?:s|ing)?|gasp(?:s|ing)?|groan(?:s|ing)?|"
    r"yawn(?:s|ing)?|sniff(?:s|les|ling|ing)?|sob(?:s|bing)?|shrug(?:s|ging)?|hum(?:s|ming)|exhal(?:es?|ing)|"
    r"inhal(?:es?|ing)|breath(?:es|ing)|clear(?:s|ing) (?:his |her |their |my |its )?throat|long pause|"
    r"softly|quietly|gently|excitedly|cheerfully|sarcastically|sadly|thoughtfully|applause|music|silence"
)
"""Stage directions in any kind of brackets."""
_GESTURES = (
    r"looks?|leans?|tilts?|raises?|rolls?|waves?|thinks?|blush(?:es|ing)?|frowns?|claps?|hesitates?|bows?|shakes?|"
    r"turns?|scratches|stares?|gestures?|stretches|sings?|singing|thinking|crying|cries|hugs?"
)
"""Stage directions that only their asterisks distinguish from ordinary words."""
_KAOMOJI = (
    r"¯\\?\\?_\(ツ\)_/¯|[(（](?=[^()（）A-Za-z0-9\n]{2,12}[)）])(?=[^()（）\n]*[^\w\s.,;:!?'\"()（）-])[^()（）A-Za-z0-9\n]{2,12}[)）]\S{0,6}|"
    r"(?<!\w)(?:\^_+\^|T_T|>_<|-_-|o_O|O_o|:'?-?[()DPpOo|/3]|;-?[()]|=\)|<3|xD|XD)(?!\w)"
)  # fmt: skip
_ENDINGS = r"com|org|net|io|dev|ai|edu|gov|co\.uk"
_GREEK = r"\\(alpha|beta|gamma|delta|epsilon|theta|lambda|mu|pi|rho|sigma|tau|phi|omega|Delta|Sigma|Omega)\b"


def _cells(match: re.Match[str]) -> str:
    cells = [cell.strip() for cell in match[0].strip().strip("|").split("|")]
    return ", ".join(cell for cell in cells if cell) + "."


def _address(match: re.Match[str]) -> str:
    """Say only the host, because nobody wants to hear a path."""
    address = match[0].rstrip(".,;:!?)")
    host = re.sub(r"^(?:[a-z]+://)?(?:www\.)?|[/?#:].*", "", re.sub(r"^[a-z]+://", "", address, flags=re.I), flags=re.I)
    return _dotted(host) + match[0][len(address) :]


def _dotted(name: str) -> str:
    return re.sub(r"[._-]", lambda sign: {".": " dot ", "_": " underscore ", "-": " dash "}[sign[0]], name)


def _email(match: re.Match[str]) -> str:
    return f"{_dotted(match[1])} at {_dotted(match[2])}"


def _over(match: re.Match[str]) -> str:
    above, below = match[1], match[2]
    return f"{above}/{below}" if above.isdigit() and below.isdigit() else f"{above} over {below}"


MARKUP: tuple[Step, ...] = steps(
    # Emoticons and symbols
    (r"(?<=\bI )[❤♥](?= )", "love"),
    (_KAOMOJI, " "),
    (rf"(?i)\*{{1,2}}(?:{_SOUNDS}|{_GESTURES})\b[^*\n]{{0,60}}\*{{1,2}}", " "),
    (rf"(?i)\[(?:{_SOUNDS})(?: [a-z ]{{1,40}})?\]|\((?:{_SOUNDS})(?: [a-z ]{{1,40}})?\)", " "),
    # LaTeX
    (r"\\[()\[\]]|\$\$", " "),
    (r"\$(?=[^$\n]{1,80}\$(?!\d))(?=[^$\n]*[\\^_={}])([^$\n]{1,80})\$", r"\1"),
    (r"\\[dt]?frac\{([^{}\n]{1,40})\}\{([^{}\n]{1,40})\}", _over),
    (r"\\sqrt\{([^{}\n]{1,40})\}", r"√\1"),
    (r"\\(?:text|mathrm|mathbf)\{([^{}\n]{0,80})\}", r"\1"),
    (r"\\(?:times|cdot)\b", "×"),
    (r"\\div\b", "÷"),
    (r"\\pm\b", "±"),
    (r"\\leq?\b", "≤"),
    (r"\\geq?\b", "≥"),
    (r"\\neq?\b", "≠"),
    (r"\\approx\b", "≈"),
    (r"\\infty\b", "∞"),
    (_GREEK, r" \1 "),
    # Citations
    (r" ?(?:\[(?:\d{1,3}|\^\w{1,20})(?:[,–-] ?\d{1,3})*\](?!\())+|【[^】\n]{0,60}】", ""),
    # Markdown and HTML
    (r"!?\[([^\]\n]{0,500})\]\([^)\s]{0,2000}(?: \"[^\"\n]{0,200}\")?\)", r"\1"),
    (r"<(https?://[^>\s]+)>", r"\1"),
    (r"</?[A-Za-z][^<>\n]{0,100}>", " "),
    (r"&(?:#\d{1,6}|#x[\da-fA-F]{1,5}|[A-Za-z]{2,8});", lambda m: html.unescape(m[0])),
    (r"^\s*\|?[\s:|-]*-{3,}[\s:|-]*$", ""),
    (r"^\s*\|.*\|\s*$", _cells),
    (r"^\s*(?:[*_-]\s*){3,}$", ""),
    (r"^\s*#{1,6}\s+", ""),
    (r"^\s*>+\s?", ""),
    (r"^\s*[-*+•◦▪]\s+(?:\[[ xX]\]\s+)?", ""),
    (r"^\s*(\d{1,2})[.)]\s+(?=\S)", lambda m: f"{num2words(int(m[1]))}: "),
    (r"`([^`\n]+)`", r"\1"),
    (r"(?<!\w)(\*{1,3}|_{1,3}|~~)(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2"),
    # Addresses
    (r"\b([\w.+-]{1,64})@([\w-]+(?:\.[\w-]+)+)\b", _email),
    (r"(?i)\b(?:https?|ftp)://[^\s<>\"]+|\bwww\.[^\s<>\"]+", _address),
    (rf"(?i)(?<![\w.-])[a-z0-9-]{{1,63}}(?:\.[a-z0-9-]{{1,63}}){{0,5}}\.(?:{_ENDINGS})\b(?:/[^\s<>\"]*)?", _address),
)  # fmt: skip
