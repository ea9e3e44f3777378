"""Which subjects train and which test."""

from __future__ import annotations

import io
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np

from model.common.errors import UserError
from model.common.files import read_json, write_json
from model.data.array_pickle import read_array
from model.data.raw.silhouette import BadImage, read_regular_file

log = logging.getLogger(__name__)

INCOMPLETE = {"CASIA-B": {"005"}}  # subjects whose data are incomplete: left out of both parts, as published


@dataclass(frozen=True)
class Partition:
    train: tuple[str, ...]
    test: tuple[str, ...]


def partition_path(work_path: Path, dataset: str, pid_num: int, pid_shuffle: bool) -> Path:
    return work_path / "partition" / f"{dataset}_{pid_num}_{pid_shuffle}.json"


def make_partition(
    subjects: Sequence[str], dataset: str, pid_num: int, pid_shuffle: bool = False, seed: int = 0
) -> Partition:
    """The first `pid_num` of the sorted (or, with `pid_shuffle`, shuffled) subjects train, the others test."""
    usable = sorted(set(subjects) - INCOMPLETE.get(dataset, set()))
    if pid_shuffle:
        random.Random(seed).shuffle(usable)
    return Partition(tuple(usable[:pid_num]), tuple(usable[pid_num:]))


def read_partition(path: Path) -> Partition:
    """Read {"TRAIN_SET": [...], "TEST_SET": [...]} (ours and OpenGait's), or a ragged .npy of the original tool."""
    if path.suffix == ".npy":
        return _read_ragged(path)
    content = read_json(path)
    try:
        parts = [content["TRAIN_SET"], content["TEST_SET"]]
    except (KeyError, TypeError):
        parts = []
    if not parts or not all(isinstance(part, list) and all(isinstance(s, str) for s in part) for part in parts):
        raise UserError(f'{path}: no partition; expected {{"TRAIN_SET": ["001", ...], "TEST_SET": [...]}}')
    return Partition(tuple(parts[0]), tuple(parts[1]))


def write_partition(path: Path, partition: Partition) -> None:
    write_json(path, {"TRAIN_SET": list(partition.train), "TEST_SET": list(partition.test)})


def resolve_partition(
    given: str | None, standard: Path, present: Sequence[str], make: Callable[[], Partition]
) -> Partition:
    """The partition a command works with, checked against the subjects of the data.

    given: `all` (every subject is a test subject), a file, or None: then the `standard` file, which is written
    with what `make()` returns when it is not there yet.
    """
    if given == "all":
        return Partition((), tuple(sorted(present)))
    path = Path(given) if given else standard
    if not given and not path.exists():
        original = path.with_suffix(".npy")  # left there by the original tool
        write_partition(path, read_partition(original) if original.exists() else make())
    partition = read_partition(path)
    both = sorted({*partition.train} & {*partition.test})
    if both:
        raise UserError(f"{path}: {len(both)} subjects both train and test ({', '.join(both[:5])})")
    unknown = sorted({*partition.train, *partition.test} - set(present))
    if unknown:
        raise UserError(
            f"{path}: names {len(unknown)} subjects that the data lack ({', '.join(unknown[:5])}); give another "
            "--partition, or delete the file to have it made for these data"
        )
    if not given:
        made = make()
        unnamed = sorted({*made.train, *made.test} - {*partition.train, *partition.test})
        if unnamed:
            log.warning(
                "%s does not name %d subjects of the data (%s), so they neither train nor test; delete the file to "
                "have it made anew",
                path, len(unnamed), ", ".join(unnamed[:5]),
            )  # fmt: skip
    return partition


MOST_BYTES = 1 << 26  # of a partition of the original tool
# What numpy's reading of a damaged header raises depends on where it is damaged.
_DAMAGE = (ValueError, TypeError, KeyError, SyntaxError, TokenError, OverflowError, MemoryError, RecursionError)


def _read_ragged(path: Path) -> Partition:
    """A pair of lists: of equal length an array of text, of unequal length a pickle inside the .npy.

    The pickle is never run, see `array_pickle`.
    """
    try:
        content = read_regular_file(path, MOST_BYTES)
        file = io.BytesIO(content)
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = header(file)
        if dtype.hasobject:
            parts = read_array(file.read())
        else:
            if dtype.kind not in "US" or len(shape) != 2 or by_columns or file.tell() == len(content):
                raise ValueError(f"an array of {dtype} {list(shape)} is no two lists of subjects")
            parts = _text(np.frombuffer(content, dtype, offset=file.tell()).reshape(shape))
        train, test = parts
    except BadImage as error:
        raise UserError(str(error).replace("no such image", "no such file")) from None
    # What numpy's reading of a damaged header raises depends on where it is damaged.
    except (
        ValueError,
        TypeError,
        KeyError,
        SyntaxError,
        TokenError,
        OverflowError,
        MemoryError,
        RecursionError,
    ) as error:
        raise UserError(f"{path}: no partition of the original tool ({_first_line(error)})") from error
    if not all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in (train, test)):
        raise UserError(f"{path}: no partition of the original tool (its two lists hold other things than names)")
    return Partition(tuple(train), tuple(test))


def _text(array: np.ndarray) -> list[list[str]]:
    """An array of text or bytes as lists. Raises ValueError for what is no text, on which numpy itself trips."""
    if array.dtype.kind == "S":
        return array.astype(str).tolist()
    codes = array.view(array.dtype.str[0] + "u4")  # in the array's own byte order
    if (codes > 0x10FFFF).any() or ((codes >= 0xD800) & (codes <= 0xDFFF)).any():
        raise ValueError("it holds what is no text")
    return array.tolist()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
