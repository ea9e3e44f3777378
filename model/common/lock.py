"""One job at a time writes to an output: a lock that tells whose it is, and that ends with its owner."""

from __future__ import annotations

import errno
import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from model.common.errors import UserError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

log = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)  # of file systems that know none
_LOOK_AGAIN = 0.5  # seconds


@contextmanager
def locked(lock: Path, output: Path | str, wait: bool = False) -> Iterator[None]:
    """Hold `lock`, a file that is there only meanwhile, while something writes `output`.

    The system lets it go when its owner ends in whatever way, so a file that was left behind holds nobody up. Where
    the file system knows no locks, the owner's number on this machine decides; one on another machine counts as alive.
    Raises UserError that names the owner and since when when another job has it, unless `wait`.
    """
    told = False
    while (held := _take(lock, output)) is None:
        owner = _owner(lock)
        if not wait:
            raise UserError(
                f"{output}: another job is writing there, {owner}; let it end, or give another output "
                f"(only if it is certain that none is: delete {lock})"
            )
        if not told:
            log.warning("waiting for %s, which another job is writing, %s", output, owner)
            told = True
        time.sleep(_LOOK_AGAIN)
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink(missing_ok=True)
        os.close(held)


def _take(lock: Path, output: Path | str) -> int | None:
    """The open lock file, with our name in it; None when another has it."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
            kept = False
            try:
                if not _is_free(descriptor, lock):
                    return None
                with suppress(FileNotFoundError):  # its owner may have ended, and deleted it, in between
                    kept = os.path.samestat(os.fstat(descriptor), lock.stat())
                if kept:
                    with suppress(OSError):  # a full disk: it is held all the same, and what comes next will tell
                        _sign(descriptor, output)
                    return descriptor
            finally:
                if not kept:
                    os.close(descriptor)
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
    content = _read(lock)
    if not content:
        return True
    if content.get("host") != socket.gethostname() or os.name != "posix":  # there is no harmless way to ask
        return False
    with suppress(ProcessLookupError, KeyError, ValueError, TypeError, OverflowError):
        number = int(content["pid"])
        with suppress(PermissionError):
            os.kill(number, 0)
        return number == os.getpid()
    return True


def _sign(descriptor: int, output: Path | str) -> None:
    before = os.read(descriptor, 1 << 16)
    if before:
        log.info("%s: taken over from a job that ended early (%s)", output, _described(_parsed(before)))
    owner = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": time.time(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:500],
    }
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps(owner).encode())


def _owner(lock: Path) -> str:
    return _described(_read(lock))


def _described(owner: dict) -> str:
    try:
        age = max(0, round(time.time() - float(owner["since"])))
        ago = f"{age} s" if age < 120 else f"{age // 60} min" if age < 7200 else f"{age // 3600} h"
        return f"process {owner['pid']} on {owner['host']}, since {ago} ago: {owner['command']}"
    except (KeyError, TypeError, ValueError, OverflowError):
        return "which has not said who it is"


def _read(lock: Path) -> dict:
    try:
        return _parsed(lock.read_bytes())
    except OSError:
        return {}


def _parsed(content: bytes) -> dict:
    try:
        owner = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}
