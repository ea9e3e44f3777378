"""Files that appear whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.common.errors import UserError, os_error_line

PART = ".part"  # ends the name of what is still being written
OLD = ".old"  # ... and of a folder that has just been replaced


@contextmanager
def whole_file(path: Path | str, durable: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; on leaving without an error it takes `path`'s place.

    An error, or the end of the process, leaves what stood at `path` as it was; what ended processes left of earlier
    tries goes. `durable` also forces the bytes and the new name to the disk, so that they survive a power cut.
    """
    path = _named(path)
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers_of(path)
        try:
            # Made here, and only if nothing of that name is there: in a folder that others may write to, a link
            # laid in wait would otherwise decide where the bytes go.
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            yield part
            if durable:
                _force_to_disk(part, os.O_RDWR)
            part.replace(path)
            if durable and os.name == "posix":
                _force_to_disk(path.parent, os.O_RDONLY)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path | str, durable: bool = False) -> Iterator[Path]:
    """The same for a folder: what stood at `path` before is removed once the new one is complete.

    Where the system can, the two change places at once, and otherwise by two renamings, between which nothing stands
    at `path`.
    """
    path = _named(path)
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    old = path.with_name(f".{path.name}.{os.getpid()}{OLD}")
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers_of(path)
        part.mkdir()
        try:
            yield part
            if durable:
                for written in (*part.iterdir(), part):
                    _force_to_disk(written, os.O_RDONLY)
            if not path.exists():
                part.replace(path)
            elif not _exchange(part, path):
                path.replace(old)
                part.replace(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change names in one step; False where this system or file system has no such step."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def is_plain_name(name: str) -> bool:
    """Whether a file of this name stands in the folder that it is put in, and is seen there."""
    return bool(name) and not name.startswith(".") and not re.search(r"[/\\\0]", name)


def is_file(path: Path) -> bool:
    """Whether there is a file; not for a name, out of some file, that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _named(path: Path | str) -> Path:
    path = Path(path)
    if path.name in ("", ".."):
        raise UserError(f"{path}: cannot be written: it names a place, not something in it")
    return path


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What the system refuses while `path` is written is the user's to mend: one line, no traceback.

    A full disk or a folder that may not be written to is told of `path`; what is refused of any other file, for
    example of one that is read meanwhile, of that file.
    """
    try:
        yield
    except BrokenPipeError:  # of what is printed meanwhile, to somebody who has seen enough
        raise
    except OSError as error:
        if error.filename is not None and not _serves(error.filename, path):
            raise UserError(os_error_line(error)) from error
        # Calls on open files name none: only what tells of writing alone is sure not to have come from reading. What
        # has no number is of a library that was writing: what is read here is read by the system's own calls.
        sure = error.filename is not None or error.errno is None or error.errno in _NO_ROOM
        fault = "cannot be written" if sure else "failed while it was written"
        raise UserError(f"{path}: {fault} ({error.strerror or error})") from error


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def _serves(name: str | bytes | int, path: Path) -> bool:
    """Whether `name` is `path`, a folder that it is in, or something of what is to take its place."""
    if isinstance(name, int):  # an open file of which no more is known
        return True
    parts, asked_parts = path.absolute().parts, Path(os.fsdecode(name)).absolute().parts
    if parts[: len(asked_parts)] == asked_parts or asked_parts[: len(parts)] == parts:
        return True
    same_folder = asked_parts[: len(parts) - 1] == parts[:-1]
    return same_folder and re.match(rf"\.{re.escape(path.name)}\.\d+\.", asked_parts[len(parts) - 1]) is not None


def remove_leftovers(folder: Path, stem: str = "", spare_living: bool = False) -> None:
    """Delete what processes that were killed while writing `stem`... left in `folder`.

    spare_living: leave the parts of processes that live, for folders that several jobs write to. (Where one job
    writes at a time, such a process is an orphan about to end, or a number that has been given again.)
    """
    for name, process, leftover in _leftovers(folder, ".*"):
        if name.startswith(stem) and not (spare_living and _is_alive(process)):
            _remove(folder / name, leftover)


def _remove_leftovers_of(path: Path) -> None:
    """The same for what ended processes left of `path` alone, and what this one's number left before it."""
    for name, process, leftover in _leftovers(path.parent, f".{glob.escape(path.name)}.*"):
        if name == path.name and not _is_alive(process):
            _remove(path, leftover)


def _leftovers(folder: Path, pattern: str) -> Iterator[tuple[str, str, Path]]:
    """Name of what was being written, number of the process, and what it left."""
    for leftover in folder.glob(pattern):
        match = re.fullmatch(rf"\.(.+)\.([0-9]+)({re.escape(PART)}|{re.escape(OLD)})", leftover.name, re.DOTALL)
        if match:
            yield match[1], match[2], leftover


def _remove(path: Path, leftover: Path) -> None:
    if leftover.name.endswith(OLD) and not path.exists():
        leftover.replace(path)  # the new one had not come yet: this is the last whole one
    elif leftover.is_dir() and not leftover.is_symlink():
        _remove_folder(leftover)
    else:
        leftover.unlink(missing_ok=True)


def _remove_folder(folder: Path, patience: float = 2.0) -> None:
    """Delete a folder to which an orphan may be adding files in its last moments."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return shutil.rmtree(folder)
        except FileNotFoundError:
            return None
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _is_alive(process: str) -> bool:
    if int(process) == os.getpid():
        return False
    if os.name != "posix":
        return True  # there is no harmless way to ask
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def write_json(path: Path | str, value: Any, durable: bool = False, sealed: bool = False) -> None:
    """`sealed` puts a digest of the rest first, by which `read_json` tells a file that was changed or damaged."""
    text = json_text(value)
    with whole_file(path, durable) as part:
        part.write_text(seal(text) if sealed else text, encoding="utf-8", newline="\n")


# A list of nothing but numbers, as json.dumps lays it out. No string holds the line break after the bracket.
_NUMBERS = re.compile(r"\[\n\s*((?:[-+0-9.eE]+|null|NaN)(?:,\n\s*(?:[-+0-9.eE]+|null|NaN))*)\n\s*\]")


def json_text(value: Any) -> str:
    """JSON for people and programs: indented, but a row of a table, a list of numbers, in one line."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return _NUMBERS.sub(lambda row: "[" + re.sub(r",\s+", ", ", row[1]) + "]", text) + "\n"


def seal(text: str) -> str:
    """A JSON object as text, with the digest of that text as its first entry."""
    return f'{{\n "{_SEAL}": "{_digest(text)}",{text[1:]}'


_SEAL = "sha256_of_the_rest"
_SEALED = re.compile(rf'\{{\n "{_SEAL}": "([0-9a-f]{{64}})",(.*)', re.DOTALL)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_json(path: Path | str, sealed: bool = False) -> Any:
    """Raises UserError when the file is absent or is no JSON; `sealed`: or not as `write_json` left it."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:  # an editor may have put a mark in front
            text = file.read()
        if sealed:
            match = _SEALED.fullmatch(text)
            if match is None or _digest("{" + match[2]) != match[1]:
                raise UserError(
                    f"{path}: was changed or damaged since it was written, or is of an older version; make it anew"
                )
            text = "{" + match[2]
        return json.loads(text)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({os_error_line(error)})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error


def _force_to_disk(path: Path, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
