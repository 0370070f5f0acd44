"""Numbers in words: cardinals, ordinals, years, digits; money, measures, fractions, serial numbers and arithmetic.

`NUMBERS` is a table of steps for pipeline/tts/speakable.py. The words come from num2words.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from num2words import num2words

Step = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]

NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
DASH = r"[-–—−]"
YEAR = r"(?:1[1-9]\d\d|20\d\d)"

_UNITS = {
    "km/h": "kilometre per hour", "m/s": "metre per second", "mph": "mile per hour", "kWh": "kilowatt hour",
    "km²": "square kilometre", "m²": "square metre", "cm²": "square centimetre", "ft²": "square foot",
    "m³": "cubic metre", "cm³": "cubic centimetre",
    "km": "kilometre", "cm": "centimetre", "mm": "millimetre", "m": "metre", "ft": "foot", "mi": "mile",
    "kg": "kilogram", "mg": "milligram", "g": "gram", "lb": "pound", "lbs": "pound", "oz": "ounce", "t": "tonne",
    "ml": "millilitre", "mL": "millilitre", "l": "litre", "L": "litre",
    "ms": "millisecond", "s": "second", "sec": "second", "min": "minute", "h": "hour", "hr": "hour", "hrs": "hour",
    "GHz": "gigahertz", "MHz": "megahertz", "kHz": "kilohertz", "Hz": "hertz", "dB": "decibel",
    "TB": "terabyte", "GB": "gigabyte", "MB": "megabyte", "KB": "kilobyte", "kB": "kilobyte",
    "kW": "kilowatt", "W": "watt", "V": "volt", "mA": "milliampere", "A": "ampere",
    "°C": "degree Celsius", "°F": "degree Fahrenheit", "°": "degree", "ºC": "degree Celsius",
}  # fmt: skip
_MONEY = {
    "$": ("dollar", "cent"),
    "€": ("euro", "cent"),
    "£": ("pound", "penny"),
    "¥": ("yen", "sen"),
    "₹": ("rupee", "paisa"),
    "USD": ("US dollar", "cent"),
    "EUR": ("euro", "cent"),
    "GBP": ("pound", "penny"),
    "CHF": ("Swiss franc", "centime"),
}
_COUNTRIES = {
    "US": "US", "A": "Australian", "AU": "Australian", "C": "Canadian", "CA": "Canadian", "NZ": "New Zealand",
    "HK": "Hong Kong", "S": "Singapore",
}  # fmt: skip
_SCALES = {
    "k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "t": "trillion",
    "tn": "trillion", "thousand": "thousand", "million": "million", "billion": "billion", "trillion": "trillion",
}  # fmt: skip
_SCALE = r"(?:(?:k|K|mn|m|M|bn|b|B|tn|T)\b| (?:thousand|million|billion|trillion)\b)"
_AMOUNT = r"(?:\d(?:[\d.,]*\d)?|\.\d+)"
_CURRENCY = r"[$€£¥₹]"
_SIGN = rf"(?P<country>\b(?:US|AU|CA|NZ|HK|A|C|S))?(?P<sign>{_CURRENCY})"
_FRACTIONS = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅛": "1/8"}
_IDIOMS = {"24/7": "twenty-four seven", "50/50": "fifty-fifty", "20/20": "twenty-twenty", "9/11": "nine eleven"}
_POWERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_LOW = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")

_PLACES = (
    "seat|gate|row|platform|flat|apartment|apt|unit|room|block|terminal|bus|line|route|size|section|exit|figure|fig|"
    "table|chapter|flight|bay|door|lot|suite|track|zone|class|grade|box|item|step|part|option|question|exercise|"
    "building|house|number|level|floor|stop"
)
"""Words after which a number with a letter is a name: seat 14A has nothing to do with amperes."""
_CODES = (
    "pin|code|passcode|password|otp|isbn|iban|serial|account|confirmation|reference|ref|tracking|zip|postcode|"
    "extension|ext"
)
"""Words after which digits are said one by one."""
_LEADING = r"((?:(?: (?:is|was|number|no\.?|code|now)\b)?[:#.]?){1,3} ?)"
_HOTLINES = "911|112|999|988|111|116|101|311|411|110|118|119"
COUNTED_THINGS = r"(?! (?!was\b|is\b|has\b|its\b|this\b|as\b|does\b)[a-z]+s\b)"
"""Rejects a plural noun that follows: "in 2000 cases" and "the code is 200 lines" are quantities."""


def number_words(number: str) -> str:
    """ "1,250" -> "one thousand, two hundred and fifty"; a number too long to grasp is said digit by digit."""
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


def ordinal(number: str) -> str:
    return str(num2words(int(number), to="ordinal"))


def digit_words(written: str) -> str:
    """Say digit by digit, with a pause where the text has one: "555-1234" -> "five five five, one two three four"."""
    groups = re.findall(r"\d+|[A-Za-z]+", written)
    said = (" ".join(num2words(int(d)) if d.isdigit() else d for d in group) for group in groups)
    return ("plus " if written.lstrip().startswith("+") else "") + ", ".join(said)


def counted(number: str, unit: str) -> str:
    """ "2", "kilometre per hour" -> "two kilometres per hour"."""
    return f"{number_words(number)} {unit if number in ('1', 'one') else _plural(unit)}"


def _plural(words: str) -> str:
    if words.startswith("degree"):
        return words.replace("degree", "degrees", 1)
    first, per, rest = words.partition(" per ")
    if first.endswith("foot"):
        first = first.removesuffix("foot") + "feet"
    elif first.endswith("y") and first != "penny":
        first = first[:-1] + "ies"
    elif first == "penny":
        first = "pence"
    elif not first.endswith("hertz") and first not in ("yen", "sen"):
        first += "es" if first.endswith("x") else "s"
    return first + per + rest


def _measure(match: re.Match[str]) -> str:
    return counted(match[1], _UNITS[match[2]])


def _amount(written: str, sign: str) -> str:
    """Normalize an amount to English format: "€1.200,50" is 1,200.50, and "3,50 €" is 3.50."""
    if re.fullmatch(r"\d+,\d{1,2}", written) or (sign in "€EUR" and re.fullmatch(r"\d{1,3}(\.\d{3})+(,\d+)?", written)):
        written = written.replace(".", "").replace(",", ".")
    return ("0" if written.startswith(".") else "") + written.replace(",", "")


def _money(match: re.Match[str]) -> str:
    sign = match["sign"]
    name, small = _MONEY[sign]
    if country := match.groupdict().get("country"):
        name = f"{_COUNTRIES[country]} {name}"
    amount, scale = _amount(match["amount"], sign), match["scale"]
    if to := match.groupdict().get("to"):
        lower = number_words(amount) + (f" {_scale(match['first'])}" if match["first"] else "")
        upper = number_words(_amount(to, sign)) + (f" {_scale(scale)}" if scale else "")
        return f"{lower} to {upper} {_plural(name)}"
    if scale:
        return f"{number_words(amount)} {_scale(scale)} {_plural(name)}"
    whole, _, cents = amount.partition(".")
    if len(cents) != 2 and cents.strip("0"):
        return f"{number_words(amount)} {_plural(name)}"
    parts = [] if not int(whole) and cents.strip("0") else [counted(whole, name)]
    if cents.strip("0"):
        parts.append(counted(str(int(cents)), small))
    return " and ".join(parts)


def _scale(written: str) -> str:
    return _SCALES[written.strip().lower()]


def _fraction(match: re.Match[str]) -> str:
    above, below = int(match[1]), int(match[2])
    if below not in range(2, 21) or above not in range(1, below):
        return f"{number_words(match[1])} over {number_words(match[2])}"
    return f"{num2words(above)} {_part(above, below)}"


def _mixed(match: re.Match[str]) -> str:
    """ "2 1/2" -> "two and a half"."""
    above, below = int(match[2]), int(match[3])
    if below not in range(2, 21) or above not in range(1, below):
        return match[0]
    count = "a" if above == 1 else num2words(above)
    count = "an" if count == "a" and below in (8, 11, 18) else count
    return f"{number_words(match[1])} and {count} {_part(above, below)}"


def _part(above: int, below: int) -> str:
    name = {2: "half", 4: "quarter"}.get(below, ordinal(str(below)))
    return name if above == 1 else f"{name}s" if name != "half" else "halves"


def _range(match: re.Match[str]) -> str:
    """Read two numbers with a dash between them as a range, a difference, or no quantity at all."""
    low, dash, high = match[1], match[2], match[3]
    if re.fullmatch(YEAR, low) and re.fullmatch(YEAR, high) and dash.strip() == dash:
        return f"{year_words(low)} to {year_words(high)}"
    if re.fullmatch(YEAR, low) and len(high) == 2:
        return f"{year_words(low)} to {high}"
    if dash in (" - ", " − ") and float(high) < float(low):
        return f"{low} minus {high}"
    if dash == "-" and len(low) == 3 and len(high) == 4:
        return digit_words(match[0])
    return f"{low} to {high}"


def _equation(match: re.Match[str]) -> str:
    said = re.sub(r"(?<=[\d)]) ?[-−–] ?", " minus ", match[0])
    said = re.sub(r"(?<=[\d)]) ?[*x·] ?", " times ", said)
    return re.sub(r"(?<=[\d)]) ?/ ?", " divided by ", said)


def _power(match: re.Match[str]) -> str:
    exponent = match[2].translate(_POWERS).strip("(){}").replace("-", "minus ")
    return f"{match[1]} " + {"2": "squared", "3": "cubed"}.get(exponent, f"to the power of {exponent}")


def _named(match: re.Match[str]) -> str:
    return f"{match[1]}{number_words(match[2])} {match[3]}"


def _serial_words(number: str) -> str:
    """ "737" -> "seven thirty-seven", as people say model numbers."""
    if len(number) in (3, 4) and number[-2:-1] not in "0":
        return f"{num2words(int(number[:-2]))} {num2words(int(number[-2:]))}"
    return number_words(number)


def _serials(match: re.Match[str]) -> str:
    return f" {_plural(_serial_words(match[1]))}"


def _version(match: re.Match[str]) -> str:
    return " point ".join(number_words(part) for part in match[0].split("."))


def steps(*table: tuple[str, str | Callable[[re.Match[str]], str]]) -> tuple[Step, ...]:
    return tuple((re.compile(pattern, re.MULTILINE), replacement) for pattern, replacement in table)


def one_of(words: dict[str, str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


IDENTIFIERS: tuple[Step, ...] = steps(
    (rf"(?i)\b({_CODES}){_LEADING}(\d[\d -]{{0,30}}\d)\b(?!\w|[.,]\d)"
     + COUNTED_THINGS, lambda m: f"{m[1]}{m[2]}{digit_words(m[3])}"),
    (r"(?i)\b(dial|call|phone|ring|text) (\d{3})\b(?![.,]?\d| \w|-)", lambda m: f"{m[1]} {digit_words(m[2])}"),
    (rf"(?i)\b(dial|call|phone|ring|text) ({_HOTLINES})\b(?![.,]?\d|-)" + COUNTED_THINGS,
     lambda m: f"{m[1]} {digit_words(m[2])}"),
    (r"(?<![\w-])(?:\+?\d{1,3}[ .-])?(?:\(\d{2,4}\) ?|\d{3}[-.])\d{3}[-.]\d{4}(?![\w-])", lambda m: digit_words(m[0])),
    (r"\+\d[\d ()-]{6,24}\d\b", lambda m: digit_words(m[0])),
    (r"(?<![\w-])\d{1,5}(?:-\d{1,7}){2,}(?![\w-])", lambda m: digit_words(m[0])),
)  # fmt: skip
"""Numbers that are not quantities, such as phone numbers and codes. Applied after dates, before quantities."""

NUMBERS: tuple[Step, ...] = steps(
    (r"(?<![\w.,)])\.(?=\d)", "0."),
    (rf"({one_of(_FRACTIONS)})", lambda m: f" {_FRACTIONS[m[1]]} "),
    # Names with numbers
    (rf"(?i)(\b(?:{_PLACES})s?\.? )(\d+)([a-z])\b", _named),
    (r"(\b\w*[a-z][A-Z]\w* )(\d+)([a-z])\b", _named),
    (r"(\b)(\d{1,4})(A)\b(?! (?:fuse|circuit|breaker|charger|current|supply|socket|plug))", _named),
    (r"(?<=[A-Za-z])(\d{1,4})s\b", _serials),
    (r"(?<![\w.,])(\d{2,3}[1-9])s\b", _serials),
    (rf"(?<=[%$€£¥]) ?{DASH} ?(?=\d)|(?<=\dst|\dnd|\drd|\dth) ?{DASH} ?(?=\d)", " to "),
    (r"(?<![\w.)])[-−](?=[$€£¥₹]?\d)", "minus "),
    # Money
    (rf"{_SIGN} ?(?P<amount>{_AMOUNT})(?P<first>{_SCALE})? ?{DASH}"
     rf" ?{_CURRENCY}?(?P<to>{_AMOUNT})(?P<scale>{_SCALE})?", _money),
    (rf"{_SIGN} ?(?P<amount>{_AMOUNT})(?P<scale>{_SCALE})?",
     _money),
    (rf"(?<![\w.,])(?P<amount>{_AMOUNT})(?P<scale>{_SCALE})? ?(?P<sign>[$€£¥₹]|(?:USD|EUR|GBP|CHF)\b)", _money),
    (r"(?<=[a-z])/(?=(?:month|year|week|day|night|hour|minute|second|person|kilo|kg|unit|user|piece)\b)", " per "),
    # Arithmetic
    (rf"{NUMBER}(?: ?(?:[-+−–*x·/×÷]) ?{NUMBER}){{1,8}}(?= ?=)", _equation),
    (r"(\w|\))[\^](\(?-?\w{1,6}\)?|\{-?\w{1,6}\})", _power),
    (rf"(?<![\w.,])({NUMBER}) ?({one_of(_UNITS)})(?![\w/°²³])", _measure),
    (r"(\w|\))([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)", _power),
    (r"[₀₁₂₃₄₅₆₇₈₉]+", lambda m: f" {m[0].translate(_LOW)}"),
    (r"√ ?", " the square root of "),
    (r"(?<=\d) \* (?=\d)", " times "),
    (r"(?<=\d) / (?=\d)", " divided by "),
    # Ranges, fractions, the rest
    (r"(?<![\w.,])\d{1,3}(?:\.\d{3}){2,6}(?![\w.]|,\d)|(?<![\w.,])\d{1,3}(?: \d{3}){2,6}(?![\w,]|\.\d| \d)",
     lambda m: re.sub(r"\D", "", m[0])),
    (r"\b\d+(?:\.\d+){2,}\b", _version),
    (r"(?<![\w.,/])(\d+(?:\.\d+)?)/(10|100)(?![\w/])|(?<![\w.,/])(\d+\.\d+)/(\d+)(?![\w/])",
     lambda m: f"{m[1] or m[3]} out of {m[2] or m[4]}"),
    (r"(?<![\w.,])(\d)' ?(\d{1,2})(?:\"|'')", r"\1 foot \2"),
    (rf"(?<![\w.,/-])(\d+(?:\.\d+)?)( ?{DASH} ?)(\d+(?:\.\d+)?)(?![\w-]|[.,]\d)", _range),
    (r"(?<=\d) ?[–—] ?(?=\d)|(?<=\b\d)-(?=\d{1,4}\b(?!-))|(?<=\b\d\d)-(?=\d{1,4}\b(?!-))", " to "),
    (rf"(?<![\w.,/])({one_of(_IDIOMS)})(?![\w/])", lambda m: _IDIOMS[m[1]]),
    (r"(?<![\w.,/])(\d{1,4})[ -]+(\d{1,2})/(\d{1,2})(?![\w/])", _mixed),
    (r"(?<![\w.,/])(\d{1,3})/(\d{1,3})(?![\w/])", _fraction),
    (r"\b(\d+)(?:st|nd|rd|th)\b", lambda m: ordinal(m[1]) if len(m[1]) < 10 else number_words(m[1])),
    (r"#(?=\d)", "number "),
    (rf"({NUMBER}) ?%", lambda m: f"{number_words(m[1])} percent"),
    (r"(?<=\d)[xX*](?=\d)|(?<=\d)x(?= (?:faster|slower|more|less|as|bigger|smaller)\b)", " times "),
    (NUMBER, lambda m: f" {number_words(m[0])} "),
)  # fmt: skip
