"""Errors that a user can cause, and how every command of this repository ends on them."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType


class UserError(Exception):
    """A job failed for a reason that the user can mend: one line, exit status 1, no traceback."""

    exit_status = 1
    told = False  # another process of the job says it already


class UsageError(UserError):
    """The command was given something it cannot work with: one line, exit status 2."""

    exit_status = 2


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a command as Ctrl-C does, with its leftovers tidied up."""


# Names a file for the exit status of a job that failed on a fault of its user: the launcher of several processes sets
# it, because starting them again would only have them say so again.
GIVE_UP = "GAITSET_GIVE_UP"


def run_command(main: Callable[[], int | None]) -> None:
    """Run `main` and end the process: status 0 (or what it returns), 1 or 2 with one line, 130 on Ctrl-C, 143 on
    SIGTERM, 141 when nobody reads the output any more.

    What the system refuses (a full disk, a folder that may not be written to, no memory) is one line and status 1.
    Any other exception is a fault of ours and keeps its traceback.
    """
    give_up = os.environ.get(GIVE_UP)
    if give_up and Path(give_up).exists():
        sys.exit(int(Path(give_up).read_text()))  # a restart after that line
    try:
        # One of several processes may wait within a library that lets no Python run: it ends as the system ends it.
        if os.environ.get("WORLD_SIZE", "1") == "1":
            signal.signal(signal.SIGTERM, _terminate)
        if isinstance(sys.stdout, io.TextIOWrapper):  # names may be in a language that the terminal's encoding lacks
            sys.stdout.reconfigure(errors="backslashreplace")
        threading.excepthook = _thread_failed
        status = main() or 0
        sys.stdout.flush()
    except UserError as error:
        if give_up:
            Path(give_up).write_text(str(error.exit_status))
        status = error.exit_status
        if not error.told:
            _say(f"error: {error}")
    except BrokenPipeError:  # who reads the output, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141  # 128 + SIGPIPE, as shells count
    except OSError as error:
        status = 1
        _say(f"error: {os_error_line(error)}")
    except MemoryError:
        status = 1
        _say("error: out of memory; use a smaller batch or fewer processes, or free some")
    except Terminated:
        status = 143
        _say("terminated")
    except KeyboardInterrupt:
        status = 130
        _say("interrupted")
    sys.exit(status)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """TensorBoard writes in a thread; what the system refuses it there is raised again, and told, at the next write."""
    if not issubclass(failure.exc_type, OSError):
        threading.__excepthook__(failure)


def os_error_line(error: OSError) -> str:
    """What the system refused, and of which file."""
    reason = error.strerror or str(error) or type(error).__name__
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
    return f"{name}: {reason}" if name is not None else reason


# Control characters, line ends, and what stands for bytes that are no UTF-8.
NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def one_line(text: str) -> str:
    """`text` with such characters written out: names of files may hold any, and what a library says several lines."""
    return NO_TEXT.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def _say(line: str) -> None:
    print(one_line(line), file=sys.stderr)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # tidying up must not be interrupted by more of the same
    raise Terminated
