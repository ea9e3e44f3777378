"""Log lines and progress bars of all commands.

INFO is progress, WARNING a possible problem (printed with `warning: `), and RESULT the result of the command. `--quiet`
hides INFO, and bars are shown only with INFO.
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
    """Warn once if log lines cannot be written, because a full disk should not end a training run."""

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
    """Return a progress bar on standard error. It is shown on a terminal, unless INFO is hidden (see above).

    Args:
        items: iterable to wrap.
        total: number of items if they have no length, or the sum of all `update` calls.
        first: number of items that are already done.
    """
    hidden = quiet or not logging.getLogger().isEnabledFor(logging.INFO)
    return tqdm(
        items, total=total, unit=f" {unit}", desc=what, disable=True if hidden else None, initial=first, leave=False,
        dynamic_ncols=True,
    )  # fmt: skip
