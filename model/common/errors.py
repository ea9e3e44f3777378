"""Errors that a user can cause, and the messages and exit statuses with which all commands report errors."""

import hashlib
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType


class UserError(Exception):
    """A job failed for a reason that the user can fix. The error is reported in one line, with exit status 1."""

    exit_status = 1
    already_reported = False  # whether another process of the job reports the error


class UsageError(UserError):
    """The arguments of a command are wrong. The error is reported in one line, with exit status 2."""

    exit_status = 2


class Terminated(KeyboardInterrupt):
    """SIGTERM was received. Like the exception after Ctrl-C, this exception lets a command remove temporary files."""


@contextmanager
def os_errors_as(problem: str, advice: str = "") -> Iterator[None]:
    """Convert an OSError to a UserError `<problem> (<reason>); <advice>`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{problem} ({error.strerror or error})" + (f"; {advice}" if advice else "")) from error


def some_names(names: Iterable[str], most: int = 6) -> str:
    """Return names as text for a message: sorted, without duplicates, and with at most `most` names."""
    names = sorted(set(names))
    return (", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")) or "none"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


# Environment variable with the path of a file. The launcher of several processes sets the variable, and a process that
# ends with a UserError writes its exit status to the file. The launcher then does not restart the processes, because
# the error would occur again.
GIVE_UP = "GAITSET_GIVE_UP"


def give_up(status: int, line: str = "") -> bool:
    """Record a user error for the launcher of several processes, if there is one.

    Returns:
        True if this process must print `line`; False if another process of the job prints the same line.
    """
    recorded = os.environ.get(GIVE_UP)
    if not recorded:
        return True
    Path(recorded).write_text(str(status))
    if not line:
        return False
    # The launcher terminates all processes as soon as one process has ended. This process must print its line first.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        Path(f"{recorded}-{hashlib.blake2b(line.encode(), digest_size=8).hexdigest()}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def report_missing_packages() -> None:
    """If an import fails because a package is not installed, report the package in one line.

    Every command calls this function before it imports packages.
    """
    previous = sys.excepthook

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        name = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and name not in ("", "model", *sys.stdlib_module_names):
            _print_error(
                f"error: {sys.executable} has no package {error.name}; install the packages into .venv with `bash "
                "test/run_tests.sh --setup_only`, and activate it with `. .venv/bin/activate`"
            )
        else:
            previous(kind, error, trace)

    sys.excepthook = report


def run_command(main: Callable[[], int | None]) -> None:
    """Run `main` and exit.

    The exit status is the return value of `main` or 0, 1 after a UserError, 2 after a UsageError, 130 after Ctrl-C, 143
    after SIGTERM, and 141 if the output is a closed pipe. Errors of the operating system (full disk, permission denied,
    out of memory) are reported in one line, with status 1. All other exceptions are bugs and keep their traceback.
    """
    recorded = os.environ.get(GIVE_UP)
    if recorded and Path(recorded).exists():
        sys.exit(int(Path(recorded).read_text()))  # another process of the job has reported a user error
    try:
        # One of several processes can wait in a library that does not return to Python. Then no Python handler runs,
        # but the default handler of SIGTERM ends the process. Only a single process therefore gets a Python handler.
        if os.environ.get("WORLD_SIZE", "").strip() in ("", "1"):
            signal.signal(signal.SIGTERM, _terminate)
        if isinstance(sys.stdout, io.TextIOWrapper):  # escape characters that the encoding of the terminal lacks
            sys.stdout.reconfigure(errors="backslashreplace")
        threading.excepthook = _thread_failed
        status = main() or 0
        sys.stdout.flush()
    except UserError as error:
        line = "" if error.already_reported else f"error: {error}"
        status = error.exit_status
        if give_up(status, line) and line:
            _print_error(line)
    except BrokenPipeError:  # the reader, for example `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141  # 128 + SIGPIPE, as in shells
    except (OSError, MemoryError) as error:
        status, no_memory = 1, "out of memory; use a smaller batch or fewer processes, or close other programs"
        _print_error(f"error: {os_error_line(error) if isinstance(error, OSError) else no_memory}")
    except KeyboardInterrupt as error:
        status, line = (143, "terminated") if isinstance(error, Terminated) else (130, "interrupted")
        _print_error(line)
    sys.exit(status)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """Print no OSErrors of threads. TensorBoard writes in a thread, and raises the error again at the next write."""
    if not issubclass(failure.exc_type, OSError):
        threading.__excepthook__(failure)


def os_error_line(error: OSError) -> str:
    """Return the file and the reason of an OSError as one line."""
    reason = error.strerror or str(error) or type(error).__name__
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
    return f"{name}: {reason}" if name is not None else reason


# Control characters, line ends, and surrogates. Python represents bytes that are not UTF-8 as surrogates.
NOT_PRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def one_line(text: str) -> str:
    """Escape control characters and line ends in `text`, for example in file names or messages of libraries."""
    return NOT_PRINTABLE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its type if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _print_error(line: str) -> None:
    # Use a single write. `print` writes the line end separately, and another process could write between the two parts.
    sys.stderr.write(f"{one_line(line)}\n")


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # do not interrupt the cleanup
    raise Terminated
