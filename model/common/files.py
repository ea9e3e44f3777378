"""Write files and folders atomically, name the file in errors, and remove temporary files of dead processes."""

import ctypes
import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from model.common.errors import UserError, os_error_line

PART = ".part"  # suffix of a file or folder that is being written
OLD = ".old"  # suffix of a folder that is being replaced


@contextmanager
def atomic_file(path: Path | str, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path next to `path`, which replaces `path` at the end of the block.

    If the block raises or the process dies, the existing file at `path` is kept. Temporary files that dead processes
    left for the same path are removed. `durable` also flushes the content and the new name to the disk, so that both
    survive a power failure. Raises UserError if `path` cannot be written.
    """
    with _replaced(path) as (path, part):
        try:
            # O_EXCL fails if a link exists. Another user of a shared folder could use a link to redirect the output.
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            yield part
            if durable:
                _flush_to_disk(part, os.O_RDWR)
            part.replace(path)
            if durable and os.name == "posix":
                _flush_to_disk(path.parent, os.O_RDONLY)
        finally:
            part.unlink(missing_ok=True)


def write_file(path: Path | str, content: str | bytes, durable: bool = False) -> None:
    """Write bytes, or text as UTF-8, atomically; see `atomic_file`."""
    content = content.encode() if isinstance(content, str) else content
    with atomic_file(path, durable) as part:
        part.write_bytes(content)


@contextmanager
def atomic_folder(path: Path | str, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that replaces the folder `path` at the end of the block, like `atomic_file`.

    Linux exchanges the two folders in one step. On other systems, `path` does not exist for a short time.
    """
    with _replaced(path) as (path, part):
        old = part.with_suffix(OLD)
        part.mkdir()
        try:
            yield part
            if durable:
                for written in (*part.iterdir(), part):
                    _flush_to_disk(written, os.O_RDONLY)
            if not path.exists():
                part.replace(path)
            elif not _exchange(part, path):
                path.replace(old)
                part.replace(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _replaced(target: Path | str) -> Iterator[tuple[Path, Path]]:
    """Yield `target` and a temporary path for it. The parent folder is created, and old temporary files are removed."""
    path = Path(target)
    if path.name in ("", ".."):
        raise UserError(f"{path}: cannot be written, because the path ends without a name; add a file name")
    with os_errors_as_user_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent, lambda name, process: name == path.name and not is_alive(process))
        yield path, path.with_name(f".{path.name}.{os.getpid()}{PART}")


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step. Return False if the operating system or the file system cannot do this."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if renameat2 is None:
        return False
    at_fdcwd, rename_exchange = -100, 2
    return renameat2(at_fdcwd, os.fsencode(one), at_fdcwd, os.fsencode(other), rename_exchange) == 0


def is_plain_name(name: str) -> bool:
    """Return whether `name` is a file name without a folder that does not start with a dot."""
    return bool(name) and not name.startswith(".") and not re.search(r"[/\\\0]", name)


def is_file(path: Path) -> bool:
    """Return whether `path` is a file. Unlike Path.is_file, return False for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


@contextmanager
def os_errors_as_user_errors(path: Path) -> Iterator[None]:
    """Convert OSErrors that are raised while `path` is written to a UserError.

    If the error belongs to a different file, for example to an input, the message names that file instead of `path`.
    """
    try:
        yield
    except BrokenPipeError:  # raised by printing to a closed pipe, not by writing the file
        raise
    except OSError as error:
        if error.filename is not None and not _belongs_to_target(error.filename, path):
            raise UserError(os_error_line(error)) from error
        # An OSError of a file descriptor has no filename. Then the message says that `path` cannot be written if only a
        # write can cause this errno, or if a library raised the error without an errno.
        is_write_error = error.filename is not None or error.errno is None or error.errno in _WRITE_ERRNOS
        problem = "cannot be written" if is_write_error else "failed while it was written"
        raise UserError(f"{path}: {problem} ({error.strerror or error})") from error


_WRITE_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def _belongs_to_target(name: str | bytes | int, path: Path) -> bool:
    """Return whether `name` is `path`, one of its parent folders, or a temporary file for it."""
    if isinstance(name, int):  # a file descriptor, which names no file
        return True
    target, parts = path.absolute().parts, Path(os.fsdecode(name)).absolute().parts
    if target[: len(parts)] == parts or parts[: len(target)] == target:
        return True
    same_folder = parts[: len(target) - 1] == target[:-1]
    return same_folder and re.match(rf"\.{re.escape(path.name)}\.\d+\.", parts[len(target) - 1]) is not None


def remove_leftovers(folder: Path, stem: str = "", keep_running: bool = False) -> None:
    """Delete temporary files in `folder` whose target names start with `stem`.

    Args:
        keep_running: keep the files of running processes. This is for folders that several jobs write to. If only one
            job writes to the folder, a running process is an orphan that is about to end, or has a reused number.
    """
    _remove_leftovers(folder, lambda name, process: name.startswith(stem) and not (keep_running and is_alive(process)))


def _remove_leftovers(folder: Path, is_useless: Callable[[str, int], bool]) -> None:
    """Delete the temporary files for which `is_useless(name of the target, process number)` is true."""
    for leftover in folder.glob(".*"):
        match = re.fullmatch(rf"\.(.+)\.([0-9]+)({re.escape(PART)}|{re.escape(OLD)})", leftover.name, re.DOTALL)
        if not match or not is_useless(match[1], int(match[2])):
            continue
        if match[3] == OLD and not (folder / match[1]).exists():
            leftover.replace(folder / match[1])  # the process died before the new folder was in place
        elif leftover.is_dir() and not leftover.is_symlink():
            _remove_folder(leftover)
        else:
            leftover.unlink(missing_ok=True)


def _remove_folder(folder: Path) -> None:
    """Delete a folder. Retry for a short time, because an orphan may still add files."""
    deadline = time.monotonic() + 2
    while True:
        try:
            return shutil.rmtree(folder)
        except FileNotFoundError:
            return None
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def is_alive(process: int) -> bool:
    """Return whether a process other than this one is running. Return True on systems without a safe check."""
    if process == os.getpid():
        return False
    try:
        if os.name == "posix":  # on Windows, this call would interrupt the process
            os.kill(process, 0)
    except (ProcessLookupError, PermissionError, OverflowError) as error:
        return not isinstance(error, ProcessLookupError)
    return True


def _flush_to_disk(path: Path, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
