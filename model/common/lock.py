"""Lock files, which allow only one job at a time to write an output and name the job that owns the lock."""

import errno
import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from model.common.errors import UserError
from model.common.files import is_alive
from model.common.schema import parse_checked

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

log = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)  # errors of file systems without locks
_RETRY_SECONDS = 0.5


@contextmanager
def locked(lock: Path, output: Path | str, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `lock` while the block writes `output`. The file is deleted at the end.

    The operating system releases the lock when its owner ends, so the lock file of a dead process blocks nobody. On a
    file system without locks, the lock is held if the process number in the file belongs to a running process; an owner
    on a different machine counts as running. If another job holds the lock, wait for the end of that job if `wait` is
    true. Otherwise raise UserError with the process, age and command of that job.
    """
    warned = False
    while (descriptor := _acquire(lock, output)) is None:
        if not _read(lock):
            time.sleep(_RETRY_SECONDS / 5)  # the owner may have just acquired the lock and be about to write its name
        owner = _describe(_read(lock))
        if not wait:
            raise UserError(
                f"{output}: another job is writing there, {owner}; wait until it ends or use another output "
                f"(only if you are sure that no job is running: delete {lock})"
            )
        if not warned:
            log.warning("waiting for %s, which another job is writing, %s", output, owner)
            warned = True
        time.sleep(_RETRY_SECONDS)
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(lock: Path, output: Path | str) -> int | None:
    """Return the descriptor of the acquired lock file, or None if another job holds it."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
            with ExitStack() as close:
                close.callback(os.close, descriptor)
                if not _is_free(descriptor, lock):
                    return None
                # Try again if the previous owner has deleted the file since it was opened here.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(descriptor), lock.stat()):
                        close.pop_all()
                        with suppress(OSError):  # on a full disk, the lock is held without the name of its owner
                            _write_owner(descriptor, output)
                        return descriptor
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror or error}, at {lock})") from error


def _is_free(descriptor: int, lock: Path) -> bool:
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
    # The file system has no locks.
    owner = _read(lock)
    return not owner or (owner["host"] == socket.gethostname() and not is_alive(owner["pid"]))


def _write_owner(descriptor: int, output: Path | str) -> None:
    if os.fstat(descriptor).st_size:
        log.info("%s: a previous job was interrupted (%s)", output, _describe(_read(descriptor)))
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:500]
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time(), "command": command}
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps(owner).encode())


def _describe(owner: dict) -> str:
    if not owner:
        return "whose process is unknown"
    age = max(0, round(time.time() - owner["since"]))
    ago = f"{age} s" if age < 120 else f"{age // 60} min" if age < 7200 else f"{age // 3600} h"
    return f"process {owner['pid']} on {owner['host']}, started {ago} ago: {owner['command']}"


def _read(lock: Path | int) -> dict:
    """Return the owner that a lock file names, or an empty dict if the file names none.

    `lock` is a path, or a descriptor whose position is the start of the file.
    """
    with suppress(OSError, ValueError):
        content = os.read(lock, 1 << 16) if isinstance(lock, int) else lock.read_bytes()
        return parse_checked(content, {"host": str, "pid": range(1, 1 << 31), "since": float, "command": str})
    return {}
