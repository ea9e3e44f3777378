"""What every command says, and how: plain lines, warnings that begin with `warning: `, bars on a terminal.

Levels: INFO for what one may like to know, WARNING for what may be wrong, RESULT for what the command was run for.
`--quiet` leaves INFO and bars out.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

RESULT = logging.WARNING + 5
T = TypeVar("T")


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return f"warning: {line}" if record.levelno == logging.WARNING else line


class LogLines(logging.StreamHandler):
    """Says so once, and goes on, when lines cannot be written: a full disk there should not end days of training."""

    said = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, the library's name
        if not self.said:
            self.said = True
            print(f"warning: log lines cannot be written ({sys.exc_info()[1]}); going on without them", file=sys.stderr)


def set_up_logging(quiet: bool, main_process: bool = True) -> None:
    """Lines on standard output; other processes than the first are heard only when they fail."""
    handler = LogLines(sys.stdout)
    handler.setFormatter(_Lines("%(message)s"))
    level = logging.ERROR if not main_process else logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=level, handlers=[handler], force=True)


def progress_bar(
    things: Iterable[T] | None = None, *, total: int | None = None, unit: str, what: str, quiet: bool, first: int = 0,
    stays: bool = False,
) -> tqdm[T]:  # fmt: skip
    """A bar that says what is done, how fast, and how long it will take; on standard error, and only on a terminal.

    total: of `things` where they have no length, or of what `update` counts; first: done before.
    stays: the bar is left standing when it is full.
    """
    return tqdm(
        things, total=total, unit=f" {unit}", desc=what, disable=True if quiet else None, initial=first, leave=stays,
        dynamic_ncols=True,
    )  # fmt: skip
