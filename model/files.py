"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        if durable:
            _force_to_disk(part)
        part.replace(path)
        if durable and os.name == "posix":
            _force_to_disk(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """The same for a folder: what stood at `path` before is removed once the new one is complete."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    part.mkdir(parents=True)
    try:
        yield part
        if path.exists():
            path.replace(old)
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what a process that was killed while writing left in `folder`."""
    for part in folder.glob(f".*{PART}"):
        shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)


def write_json(path: Path | str, value: Any, durable: bool = False) -> None:
    with whole_file(path, durable) as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Raises UserError when the file is absent or is no JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
