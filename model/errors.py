"""Errors that a user can cause, and how every command of this repository ends on them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """A job failed for a reason that the user can mend: one line, exit status 1, no traceback."""

    exit_status = 1
    told = False  # another process of the job says it already


class UsageError(UserError):
    """The command was given something it cannot work with: one line, exit status 2."""

    exit_status = 2


def run_command(main: Callable[[], int | None]) -> None:
    """Run `main` and end the process: status 0 (or what it returns), 1 or 2 with one line, 130 on Ctrl-C,
    141 when nobody reads the output any more.

    Any other exception is a fault of ours and keeps its traceback.
    """
    try:
        status = main() or 0
        sys.stdout.flush()
    except UserError as error:
        if not error.told:
            print(f"error: {error}", file=sys.stderr)
        status = error.exit_status
    except BrokenPipeError:  # who reads the output, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141  # 128 + SIGPIPE, as shells count
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)
