"""Rules for values of configurations and JSON files: a type, and requirements that a valid value meets."""

import math
from collections.abc import Callable
from typing import Any

from model.common.errors import NOT_PRINTABLE

MAX_INT = 1 << 40


class Rule:
    """The type of valid values (`object` for any type), and requirements that valid values meet.

    Each requirement is a pair of a test function and a description of valid values. A requirement is tested only if the
    value meets all earlier requirements. `choices` lists the valid values if there are only a few.
    """

    def __init__(self, kind: type, *requirements: tuple[Callable[[Any], bool], str], choices: tuple[str, ...] = ()):
        self.kind, self.requirements, self.choices = kind, requirements, choices

    def unmet(self, value: Any) -> str | None:
        """Return the expected type or the first requirement that `value` does not meet, or None if `value` is valid."""
        is_other_bool = isinstance(value, bool) and self.kind not in (bool, object)
        if is_other_bool or not isinstance(value, self.kind):
            return self.kind.__name__
        return next((description for is_valid, description in self.requirements if not is_valid(value)), None)


def is_line(value: Any) -> bool:
    """Return whether `value` is one line of text."""
    return isinstance(value, str) and not NOT_PRINTABLE.search(value)


def text(*requirements: tuple[Callable[[str], bool], str]) -> Rule:
    return Rule(str, (is_line, "one line of text"), *requirements)


def one_of(*names: str) -> Rule:
    return Rule(str, (names.__contains__, f"one of {', '.join(map(repr, names))}"), choices=names)


def between(low: int, high: int = MAX_INT) -> Rule:
    return Rule(int, (lambda value: low <= value <= high, f"from {low} to {high:,}"))


def integers(count: int, first_from: int, high: int) -> Callable[[tuple], bool]:
    """Return a test for tuples of `count` integers from 1 to `high`, where the first is at least `first_from`."""
    valid = range(1, high + 1)
    return lambda values: (
        len(values) == count and all(type(n) is int and n in valid for n in values) and values[0] >= first_from
    )


AT_LEAST_0 = Rule(float, (lambda value: 0 <= value < math.inf, "a number of at least 0"))
POSITIVE = Rule(float, (lambda value: 0 < value < math.inf, "a number above 0"))


def short(value: Any) -> str:
    """Return at most 80 characters of the representation of `value`, or its type if Python cannot represent it.

    Python does not convert integers with thousands of digits to text.
    """
    try:
        text = repr(value)
    except ValueError:
        return f"a {type(value).__name__}"
    return text if len(text) < 80 else f"{text[:80]}..."
