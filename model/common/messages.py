"""Set up the log lines and progress bars of all commands.

The levels of log lines are INFO for progress, WARNING for possible problems (printed with the prefix `warning: `), and
RESULT for the result of the command. `--quiet` hides the lines of level INFO and the progress bars.
"""

import logging
import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

RESULT = logging.WARNING + 5
WRITE_ERROR = "warning: log lines cannot be written ({}); continuing without them"
T = TypeVar("T")


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return f"warning: {line}" if record.levelno == logging.WARNING else line


class LogLines(logging.StreamHandler):
    """Print log lines. If they cannot be written, warn once and continue: a full disk should not end a training."""

    warned = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, name of the library
        if not self.warned:
            self.warned = True
            print(WRITE_ERROR.format(sys.exc_info()[1]), file=sys.stderr)


def set_up_logging(quiet: bool, main_process: bool = True) -> None:
    """Log to standard output. Processes other than rank 0 log errors only."""
    handler = LogLines(sys.stdout)
    handler.setFormatter(_Lines("%(message)s"))
    level = logging.ERROR if not main_process else logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=level, handlers=[handler], force=True)


def progress_bar(
    items: Iterable[T] | None = None, *, total: int | None = None, unit: str, what: str, first: int = 0,
    quiet: bool = False,
) -> "tqdm[T]":  # fmt: skip
    """Return a progress bar on standard error. The bar is shown only on a terminal, and only if INFO is not hidden.

    Args:
        items: iterable to wrap.
        total: number of items, if `items` has no length, or the sum of all calls of `update`.
        first: number of items that are already done.
    """
    hidden = quiet or not logging.getLogger().isEnabledFor(logging.INFO)
    return tqdm(
        items, total=total, unit=f" {unit}", desc=what, disable=True if hidden else None, initial=first, leave=False,
        dynamic_ncols=True,
    )  # fmt: skip
