"""Natural order of names: numbers inside names are compared by value."""

import re


def natural_key(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """Return a sort key with 2 before 10, so that the order of frames and subjects does not depend on zero padding.

    The name itself is the last part of the key because 1 and 01 have equal values.
    """
    parts = re.split(r"([0-9]+)", name)  # not \d, which also matches digits that int() does not accept
    return [(0, int(part)) if part.isascii() and part.isdecimal() else (1, part) for part in parts if part], name
