"""Rules: the type of a value and the requirements that it must meet."""

import math
from collections.abc import Callable
from typing import Any

from model.common.errors import NOT_PRINTABLE

MAX_INT = 1 << 40


class Rule:
    """A type, and requirements: pairs of a test and the description of valid values. `object` is any type.

    A requirement is tested only if the value meets those before it. `choices` are the valid values if they are few.
    """

    def __init__(self, kind: type, *requirements: tuple[Callable[[Any], bool], str], choices: tuple[str, ...] = ()):
        self.kind, self.requirements, self.choices = kind, requirements, choices

    def unmet(self, value: Any) -> str | None:
        """Return the first requirement that `value` does not meet; None if it meets all."""
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
    """Return a test for `count` integers from 1 to `high`, the first of them at least `first_from`."""
    valid = range(1, high + 1)
    return lambda values: (
        len(values) == count and all(type(n) is int and n in valid for n in values) and values[0] >= first_from
    )


AT_LEAST_0 = Rule(float, (lambda value: 0 <= value < math.inf, "a number of at least 0"))
POSITIVE = Rule(float, (lambda value: 0 < value < math.inf, "a number above 0"))


def short(value: Any) -> str:
    """Return a short form of `value`, which can be an integer with a million digits."""
    try:
        text = repr(value)
    except ValueError:
        return f"a {type(value).__name__}"
    return text if len(text) < 80 else f"{text[:80]}..."
