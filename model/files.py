"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.errors import UserError

PART = ".part"  # ends the name of what is still being written


@contextmanager
def whole_file(path: Path | str, durable: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; on leaving without an error it takes `path`'s place.

    An error, or the end of the process, leaves what stood at `path` as it was.
    `durable` also forces the bytes and the new name to the disk, so that they survive a power cut.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            if durable:
                _force_to_disk(part, os.O_RDWR)
            part.replace(path)
            if durable and os.name == "posix":
                _force_to_disk(path.parent, os.O_RDONLY)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """The same for a folder: what stood at `path` before is removed once the new one is complete."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed and had the same number
    with _told(path):
        part.mkdir(parents=True)
        try:
            yield part
            if path.exists():
                path.replace(old)
            part.replace(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """A full disk or a folder that may not be written to is the user's to mend: one line, no traceback."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


def remove_leftovers(folder: Path, stem: str = "", spare_living: bool = False) -> None:
    """Delete what processes that were killed while writing `stem`... left in `folder`.

    spare_living: leave the parts of processes that live, for folders that several jobs write to. (Where one job
    writes at a time, such a process is an orphan about to end, or a number that has been given again.)
    """
    for part in folder.glob(f".*{PART}"):
        name, _, process = part.name.removeprefix(".").removesuffix(PART).rpartition(".")
        if name.startswith(stem) and not (spare_living and _is_alive(process)):
            _remove_folder(part) if part.is_dir() else part.unlink(missing_ok=True)


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
    if not process.isdigit() or int(process) == os.getpid():
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


def write_json(path: Path | str, value: Any, durable: bool = False) -> None:
    with whole_file(path, durable) as part:
        part.write_text(json_text(value), encoding="utf-8")


# A list of nothing but numbers, as json.dumps lays it out. No string holds the line break after the bracket.
_NUMBERS = re.compile(r"\[\n\s*((?:[-+0-9.eE]+|null|NaN)(?:,\n\s*(?:[-+0-9.eE]+|null|NaN))*)\n\s*\]")


def json_text(value: Any) -> str:
    """JSON for people and programs: indented, but a row of a table, a list of numbers, in one line."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return _NUMBERS.sub(lambda row: "[" + re.sub(r",\s+", ", ", row[1]) + "]", text) + "\n"


def read_json(path: Path | str) -> Any:
    """Raises UserError when the file is absent or is no JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error


def _force_to_disk(path: Path, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
