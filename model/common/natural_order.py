"""Sort names in natural order, which compares the numbers inside names by value."""

import re


def natural_key(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """Return a sort key that puts 2 before 10, so that the order of frames and subjects needs no zero padding.

    The name itself is the last part of the key, because names such as 1 and 01 have equal values.
    """
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part)) if part.isascii() and part.isdecimal() else (1, part) for part in parts if part], name
