"""Simple spoken arithmetic: "what is twenty five times four", "15 percent of 80", "the square root of 2"."""

from __future__ import annotations

import re
from decimal import Decimal, DivisionByZero, InvalidOperation, localcontext

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
_ONES += "seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_VALUE = {word: number for number, word in enumerate(_ONES.split())}
_VALUE |= {word: 10 * number for number, word in enumerate(_TENS.split(), 2)}
_SCALE = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_OPERATIONS = {
    "plus": "+", "+": "+", "added": "+", "and": "+",
    "minus": "-", "-": "-", "less": "-",
    "times": "*", "*": "*", "x": "*", "multiplied": "*", "time": "*",
    "divided": "/", "/": "/", "over": "/",
    "percent": "%", "%": "%",
}  # fmt: skip
_ASKED = re.compile(
    r"(?:what (?:is|are|does|do)|how much (?:is|are)|calculate|work out|compute|and what is)\s+(.+)", re.I
)
_ROOT = re.compile(r"(?:the )?square root of (.+)", re.I)
_LARGEST = Decimal(10) ** 15


class NotCalculable(Exception):
    """The question is arithmetic but has no answer; the message says why."""


def calculate(text: str) -> str | None:
    """Return the result in reading form; None if `text` (tidied) asks for no arithmetic.

    Raises:
        NotCalculable: a division by zero, a root of a negative number, or figures too large.
    """
    asked = _ASKED.match(text)
    expression = asked[1] if asked else text
    with localcontext() as context:
        context.prec = 28
        try:
            if root := _ROOT.fullmatch(expression):
                number = _evaluate(_tokens(root[1]))
                return None if number is None else _written(number.sqrt())
            tokens = _tokens(expression)
            if not any(isinstance(token, str) for token in tokens):
                return None
            result = _evaluate(tokens)
        except DivisionByZero as error:
            raise NotCalculable("Nothing can be divided by zero.") from error
        except InvalidOperation as error:
            raise NotCalculable("That has no answer among the ordinary numbers.") from error
    return None if result is None else _written(result)


def _tokens(text: str) -> list[Decimal | str]:
    """Return numbers and operators; an empty list if some word is neither."""
    words = re.sub(r"(\d)\s*([%+*/x-])\s*(?=\d|of\b)", r"\1 \2 ", text.lower()).replace("-", " - ")
    words = re.sub(rf"\b({_TENS.replace(' ', '|')}) - ", r"\1 ", words)
    tokens: list[Decimal | str] = []
    number: list[str] = []
    for word in [*words.split(), ""]:
        if word in _VALUE or word in _SCALE or word in ("point", "a", "half") or re.fullmatch(r"\d+(\.\d+)?", word):
            number.append(word)
            continue
        if word == "and" and number and number[-1] in _SCALE:
            continue
        if number:
            value = _number(number)
            if value is None:
                return []
            tokens.append(value)
            number = []
        if word in _OPERATIONS:
            tokens.append(_OPERATIONS[word])
        elif word == "of" and tokens and not isinstance(tokens[-1], str):
            tokens.append("*")
        elif word not in ("", "by", "to", "of", "equal", "equals", "make", "makes"):
            return []
    return tokens


def _number(words: list[str]) -> Decimal | None:
    """Convert number words: "two hundred five" -> 205, "three point one four" -> 3.14, "half" -> 0.5."""
    if words[-1] == "half":
        return Decimal("0.5")
    if "point" in words:
        point = words.index("point")
        whole = _number(words[:point] or ["zero"])
        digits = "".join(str(_VALUE.get(word, word)) for word in words[point + 1 :])
        return Decimal(f"{whole}.{digits}") if digits.isdigit() else None
    total, group = Decimal(0), Decimal(0)
    for word in words:
        if word in _SCALE:
            group = max(group, Decimal(1)) * _SCALE[word]
            if word != "hundred":
                total, group = total + group, Decimal(0)
        elif word != "a":
            group += Decimal(_VALUE.get(word, word))
    return total + group


def _evaluate(tokens: list[Decimal | str]) -> Decimal | None:
    """Compute, with products before sums; return None if numbers and operators do not alternate."""
    if len(tokens) == 3 and tokens[1] == "%":
        tokens = [tokens[0], "*", tokens[2], "/", Decimal(100)]
    numbers, operators = tokens[::2], tokens[1::2]
    if (
        len(tokens) % 2 == 0
        or any(isinstance(n, str) for n in numbers)
        or not all(isinstance(o, str) for o in operators)
    ):
        return None
    if "%" in operators:
        return None
    terms: list[Decimal] = [Decimal(numbers[0])]
    for operator, operand in zip(operators, (Decimal(number) for number in numbers[1:]), strict=True):
        if operator == "*":
            terms[-1] *= operand
        elif operator == "/":
            terms[-1] /= operand
        else:
            terms.append(operand if operator == "+" else -operand)
    return sum(terms, Decimal(0))


def _written(number: Decimal) -> str:
    if abs(number) > _LARGEST:
        raise NotCalculable("That is more than I can count to.")
    rounded = round(number, 3)
    text = f"{rounded.normalize():,f}"
    return text if rounded == number else f"about {text}"
