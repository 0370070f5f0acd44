"""Text made fit to be said: Markdown, emoji, addresses, times, dates, numbers, units, code and lists, in words.

`speakable` works through a table of small steps, each a pattern and what to say for it. The words for numbers come from
num2words. What comes out holds letters, spaces and punctuation only, and coming through again changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from num2words import num2words

Step = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]

CODE = "Here comes some code, which you can read in the transcript."

_MONTHS = "January February March April May June July August September October November December".split()
_MONTH = "|".join(f"{month}|{month[:3]}\\.?" for month in _MONTHS)
_UNITS = {
    "km/h": "kilometre per hour", "m/s": "metre per second", "mph": "mile per hour", "kWh": "kilowatt hour",
    "km": "kilometre", "cm": "centimetre", "mm": "millimetre", "m": "metre", "ft": "foot", "mi": "mile",
    "kg": "kilogram", "mg": "milligram", "g": "gram", "lb": "pound", "lbs": "pound", "oz": "ounce", "t": "tonne",
    "ml": "millilitre", "mL": "millilitre", "l": "litre", "L": "litre",
    "ms": "millisecond", "s": "second", "sec": "second", "min": "minute", "h": "hour", "hr": "hour", "hrs": "hour",
    "GHz": "gigahertz", "MHz": "megahertz", "kHz": "kilohertz", "Hz": "hertz", "dB": "decibel",
    "TB": "terabyte", "GB": "gigabyte", "MB": "megabyte", "KB": "kilobyte", "kB": "kilobyte",
    "kW": "kilowatt", "W": "watt", "V": "volt", "mA": "milliampere", "A": "ampere",
    "°C": "degree Celsius", "°F": "degree Fahrenheit", "°": "degree", "ºC": "degree Celsius",
}  # fmt: skip
_PLURALS = {
    "foot": "feet",
    "hertz": "hertz",
    "gigahertz": "gigahertz",
    "megahertz": "megahertz",
    "kilohertz": "kilohertz",
}
_MONEY = {
    "$": ("dollar", "cent"),
    "€": ("euro", "cent"),
    "£": ("pound", "penny"),
    "¥": ("yen", "sen"),
    "₹": ("rupee", "paisa"),
}
_FRACTIONS = {"½": "one half", "⅓": "one third", "⅔": "two thirds", "¼": "one quarter", "¾": "three quarters"}
_SHORT = {
    "e.g.": "for example", "i.e.": "that is", "etc.": "et cetera", "vs.": "versus", "approx.": "approximately",
    "Dr.": "Doctor", "Mr.": "Mister", "Mrs.": "Missis", "Ms.": "Miss", "Prof.": "Professor",
    "w/o": "without", "w/": "with",
}  # fmt: skip
_SIGNS = {
    "&": "and", "+": "plus", "=": "equals", "×": "times", "÷": "divided by", "≈": "about", "~": "about", "≤": "at most",
    "≥": "at least", "<": "less than", ">": "greater than", "@": "at", "%": "percent",
    "→": "to", "⇒": "so", "±": "plus or minus",
    "°": "degrees", "§": "section", "©": "copyright", "™": "", "®": "", "№": "number", "−": "minus",
}  # fmt: skip
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"


def speakable(text: str) -> str:
    """`text` as it is to be said aloud, in one line; empty when nothing in it can be said."""
    for pattern, replacement in _STEPS:
        text = pattern.sub(replacement, text)
    text = "".join(character if _sayable(character) else " " for character in text)
    return _punctuated(text)


def number_words(number: str) -> str:
    """ "1,250" -> "one thousand, two hundred and fifty"; a number too long to be grasped is said digit by digit."""
    plain = number.replace(",", "")
    whole = plain.partition(".")[0]
    if len(whole) > 12 or (len(whole) > 1 and whole.startswith("0")):
        return " ".join("point" if digit == "." else num2words(int(digit)) for digit in plain)
    if "." not in plain:
        return str(num2words(int(plain)))
    digits = " ".join(str(num2words(int(digit))) for digit in plain.partition(".")[2])
    return f"{num2words(int(whole))} point {digits}"


def year_words(year: str) -> str:
    """ "1984" -> "nineteen eighty-four", "2005" -> "two thousand and five", "2026" -> "twenty twenty-six"."""
    return str(num2words(int(year), to="year"))


def _ordinal(number: str) -> str:
    return str(num2words(int(number), to="ordinal"))


def _address(match: re.Match[str]) -> str:
    """Only the host is said; nobody wants to hear a path."""
    address = match[0].rstrip(".,;:!?)")
    host = re.sub(r"^(?:[a-z]+://)?(?:www\.)?|[/?#:].*", "", re.sub(r"^[a-z]+://", "", address, flags=re.I), flags=re.I)
    return _dotted(host) + match[0][len(address) :]


def _dotted(name: str) -> str:
    return re.sub(r"[._-]", lambda sign: {".": " dot ", "_": " underscore ", "-": " dash "}[sign[0]], name)


def _email(match: re.Match[str]) -> str:
    return f"{_dotted(match[1])} at {_dotted(match[2])}"


def _clock(match: re.Match[str]) -> str:
    hour, minute = int(match["hour"]), int(match["minute"])
    half = match["half"]
    part = f" {half[0].lower()}.m." if half else " p.m." if hour > 12 else " a.m." if hour == 0 else ""
    minutes = "" if minute == 0 else f" oh {num2words(minute)}" if minute < 10 else f" {num2words(minute)}"
    words = str(num2words((hour - 1) % 12 + 1)) + (minutes or ("" if part else " o'clock")) + part
    return words + ("." if part and match["stop"] and not match["half"] else "")


def _half_of_day(match: re.Match[str]) -> str:
    return f"{number_words(match[1])} {match[2].lower()}.m."


def _duration(match: re.Match[str]) -> str:
    parts = zip(match.groups(), ("hour", "minute", "second"), strict=True)
    return " ".join(_counted(str(int(number)), unit) for number, unit in parts)


def _counted(number: str, unit: str) -> str:
    first, _, rest = unit.partition(" ")
    if number not in ("1", "one"):
        first = (
            _PLURALS.get(first, first + "s") if not rest or first in ("degree", "kilometre", "metre", "mile") else first
        )
        if first == "kilowatt":
            rest += "s"
    return f"{number_words(number)} {first} {rest}".rstrip()


def _measure(match: re.Match[str]) -> str:
    return _counted(match[1], _UNITS[match[2]])


def _money(match: re.Match[str]) -> str:
    name, small = _MONEY[match[1]]
    whole, _, cents = match[2].replace(",", "").partition(".")
    if match[3]:
        return f"{number_words(match[2])} {match[3]} {name}s"
    plural = name if name == "yen" else name if int(whole) == 1 else f"{name}s"
    words = f"{number_words(whole)} {plural}"
    if len(cents) == 2 and int(cents):
        smalls = {"penny": "pence"}.get(small, f"{small}s")
        words += f" and {number_words(str(int(cents)))} {small if int(cents) == 1 else smalls}"
    elif cents and int(cents):
        return f"{number_words(match[2])} {name}s"
    return words


def _iso_date(match: re.Match[str]) -> str:
    year, month, day = match.groups()
    if not 1 <= int(month) <= 12 or not 1 <= int(day) <= 31:
        return match[0]
    return f"{_MONTHS[int(month) - 1]} {_ordinal(day)}, {year_words(year)}"


def _month_name(short: str) -> str:
    return next(month for month in _MONTHS if month[:3] == short[:3])


def _month_day(match: re.Match[str]) -> str:
    if not 1 <= int(match[2]) <= 31:
        return match[0]
    year = f", {year_words(match[3])}" if match[3] else ""
    return f"{_month_name(match[1])} {_ordinal(match[2])}{year}"


def _day_month(match: re.Match[str]) -> str:
    if not 1 <= int(match[1]) <= 31:
        return match[0]
    year = f", {year_words(match[3])}" if match[3] else ""
    return f"the {_ordinal(match[1])} of {_month_name(match[2])}{year}"


def _decade(match: re.Match[str]) -> str:
    words = year_words(match[1]) if len(match[1]) == 4 else str(num2words(int(match[1])))
    return words[:-1] + "ies" if words.endswith("y") else words + "s"


def _range(match: re.Match[str]) -> str:
    return f"{match[1]} to {match[2]}"


def _fraction(match: re.Match[str]) -> str:
    above, below = int(match[1]), int(match[2])
    if below not in range(2, 21) or above not in range(1, below):
        return f"{number_words(match[1])} over {number_words(match[2])}"
    name = {2: "half", 4: "quarter"}.get(below, _ordinal(match[2]))
    return f"{num2words(above)} {name if above == 1 else name + 's'}"


def _version(match: re.Match[str]) -> str:
    return " point ".join(number_words(part) for part in match[0].split("."))


def _cells(match: re.Match[str]) -> str:
    cells = [cell.strip() for cell in match[0].strip().strip("|").split("|")]
    return ", ".join(cell for cell in cells if cell) + "."


def _sayable(character: str) -> bool:
    return character.isalpha() or unicodedata.category(character).startswith("M") or character in " \n.,;:?!'-"


def _punctuated(text: str) -> str:
    """Even out what the steps left: one space, one mark, no mark without a word before it, every line ended."""
    lines = []
    for line in text.split("\n"):
        line = re.sub(r"\s+", " ", line).strip()
        line = re.sub(r"(?<![^\W\d_])['-]|(?<![^\W\d_][s])'(?![^\W\d_])|(?<=\s)['-]+(?=\s)|-(?=\s|$)", " ", line)
        line = re.sub(r"\s+([.,;:?!])", r"\1", re.sub(r"\s+", " ", line))
        line = re.sub(r"[.,;:]*([?!])[.,;:?!]*", r"\1", line)
        line = re.sub(r"\.{4,}", "...", line)
        line = re.sub(r"[,;:]+(?=[.,;:])|(?<=\.)[,;:](?=\s*$)", "", line)
        line = re.sub(r"^[\s.,;:?!'-]+", "", line).rstrip(" ,;:-")
        if any(character.isalpha() for character in line):
            lines.append(line)
    ended = [line if line[-1] in ".?!" or place == len(lines) - 1 else f"{line}." for place, line in enumerate(lines)]
    return " ".join(ended)


def _steps(*table: tuple[str, str | Callable[[re.Match[str]], str]]) -> tuple[Step, ...]:
    return tuple((re.compile(pattern, re.MULTILINE), replacement) for pattern, replacement in table)


def _one_of(words: dict[str, str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_STEPS: tuple[Step, ...] = _steps(
    (r"[\u2018\u2019\u02bc\u0060\u00b4](?=\w)(?<=\w.)", "'"),
    (r"[\u2018\u2019]", "'"),
    (r"[\u201c\u201d\u00ab\u00bb]", '"'),
    (r"\u2026", "..."),
    (r"[\u00a0\u202f\u2009\t\r]", " "),
    # Markdown
    (r"(?s)(```|~~~).*?(?:\1|\Z)", f"\n{CODE}\n"),
    (r"!?\[([^\]\n]*)\]\([^)\s]*(?: \"[^\"]*\")?\)", r"\1"),
    (r"<(https?://[^>\s]+)>", r"\1"),
    (r"</?[A-Za-z][^<>\n]{0,100}>", " "),
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
    (r"\b([\w.+-]+)@([\w-]+(?:\.[\w-]+)+)\b", _email),
    (r"(?i)\b(?:https?|ftp)://[^\s<>\"]+|\bwww\.[^\s<>\"]+", _address),
    (r"(?i)\b[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:com|org|net|io|dev|ai|edu|gov|co\.uk)\b(?:/[^\s<>\"]*)?", _address),
    # Times and dates
    (r"\b(\d{1,2}):([0-5]\d):([0-5]\d)\b", _duration),
    (r"\b(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?!\d)(?: ?(?P<half>[AaPp])\.?[Mm]\b\.?)?(?P<stop>\.(?=\s*$))?",
     lambda m: _clock(m)),
    (r"\b(\d{1,2}) ?([AaPp])\.?[Mm]\b\.?", _half_of_day),
    (r"\b(\d{4})-(\d{2})-(\d{2})\b", _iso_date),
    (rf"\b({_MONTH}) (\d{{1,2}})(?:st|nd|rd|th)?\b(?!:|\.\d)(?:,? (\d{{4}})\b)?", _month_day),
    (rf"\b(?:the )?(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({_MONTH})\b(?:,? (\d{{4}})\b)?", _day_month),
    (r"(?i)(?<=\bin )(1[1-9]\d\d|20\d\d)\b(?![.,]?\d| [a-z]+s\b)", lambda m: year_words(m[1])),
    (r"(?i)(?<=\bsince |\bafter |\bunder )(1[1-9]\d\d|20\d\d)\b(?![.,]?\d)", lambda m: year_words(m[1])),
    (r"(?<=year |from |ntil |fore )(1[1-9]\d\d|20\d\d)\b(?![.,]?\d)", lambda m: year_words(m[1])),
    (r"\b((?:1[1-9]|20)\d0|[1-9]0)'?s\b", _decade),
    # Numbers
    (r"(?<![\w.)])[-−](?=[$€£¥₹]?\d)", "minus "),
    (rf"([$€£¥₹]) ?({_NUMBER})(?: (million|billion|thousand|trillion)\b)?", _money),
    (r"\b\d+(?:\.\d+){2,}\b", _version),
    (r"(?<=\d) ?[–—] ?(?=[$€£¥₹]?\d)|(?<=\b\d)-(?=\d{1,4}\b(?!-))|(?<=\b\d\d)-(?=\d{1,4}\b(?!-))", " to "),
    (r"(?<![\w.,/])(\d{1,3})/(\d{1,3})(?![\w/])", _fraction),
    (rf"({_one_of(_FRACTIONS)})", lambda m: f" {_FRACTIONS[m[1]]} "),
    (rf"({_NUMBER}) ?({_one_of(_UNITS)})(?![\w/°])", _measure),
    (r"\b(\d+)(?:st|nd|rd|th)\b", lambda m: _ordinal(m[1]) if len(m[1]) < 10 else number_words(m[1])),
    (r"#(?=\d)", "number "),
    (rf"({_NUMBER}) ?%", lambda m: f"{number_words(m[1])} percent"),
    (r"\+(?=\d{6,})", "plus "),
    (r"(?<=\d)[xX*](?=\d)", " times "),
    (_NUMBER, lambda m: f" {number_words(m[0])} "),
    (r"\d", lambda m: f" {unicodedata.digit(m[0], 0)} ".replace(m[0], "")),
    # Short forms and signs
    (rf"(?<!\w)({_one_of(_SHORT)})(?!\w)", lambda m: _SHORT[m[1]]),
    (r"(?<=\w)(?:\(\)|::|->|_+)(?=\w|\s|$|[.,;:?!])", " "),
    (r"[–—]|(?<=\s)--?(?=\s)|(?<=\w)--(?=\w)", ", "),
    (r"[()\[\]{}]", ", "),
    (r"(?<=\w)/(?=\w)", " "),
    (r'"', " "),
    (rf"([{re.escape(''.join(_SIGNS))}])", lambda m: f" {_SIGNS[m[1]]} "),
)  # fmt: skip
