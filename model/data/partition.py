"""Split the subjects into a training set and a test set, and select the sequences of each set from a store."""

import io
import logging
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np

from model.common.errors import UserError, counted, first_line
from model.common.json_files import write_json
from model.common.natural_order import natural_key
from model.common.rules import text
from model.common.schema import check, read_checked
from model.data.array_pickle import read_array
from model.data.raw.silhouette import BadImage, read_regular_file
from model.data.store import SilhouetteStore

log = logging.getLogger(__name__)

INCOMPLETE = {"CASIA-B": {"005"}}  # subjects with incomplete data, excluded from both sets as in the paper


@dataclass(frozen=True)
class Partition:
    """Subjects for training and subjects for testing."""

    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Data:
    """The store of all sequences, and its parts for training and testing.

    `resident`: training keeps the frames in device memory if they fit.
    """

    store: SilhouetteStore
    partition: Partition
    resident: bool = True

    @property
    def train(self) -> SilhouetteStore:
        return self._part(self.partition.train, "training")

    @property
    def test(self) -> SilhouetteStore:
        return self._part(self.partition.test, "test")

    def _part(self, subjects: tuple[str, ...], name: str) -> SilhouetteStore:
        index = self.store.index.of_subjects(subjects)
        if not len(index):
            raise UserError(
                f"{self.store.path}: no {name} sequences: the partition assigns {len(subjects)} of "
                f"{len(self.store.index.subjects)} subjects to {name}; choose another number "
                "of training subjects with --pid_num, or give a file that lists the subjects with --partition"
            )
        return SilhouetteStore(self.store.path, index, self.store.frames)


def partition_path(work_path: Path, dataset: str, pid_num: int, pid_shuffle: bool) -> Path:
    """Return the path of the default partition file."""
    return work_path / "partition" / f"{dataset}_{pid_num}_{pid_shuffle}.json"


def make_partition(subjects: Sequence[str], dataset: str, pid_num: int, pid_shuffle: bool = False) -> Partition:
    """Use the first `pid_num` subjects, in natural order or shuffled, for training, and the others for testing."""
    usable = sorted(set(subjects) - INCOMPLETE.get(dataset, set()), key=natural_key)
    if pid_shuffle:
        random.Random(0).shuffle(usable)
    return Partition(tuple(usable[:pid_num]), tuple(usable[pid_num:]))


def read_partition(path: Path) -> Partition:
    """Read {"TRAIN_SET": [...], "TEST_SET": [...]} (also OpenGait's format) or a .npy file of the original code.

    The original code is AbnerHqC/GaitSet.
    """
    if path.suffix == ".npy":
        return _read_ragged(path)
    schema, expected = {"TRAIN_SET": [str], "TEST_SET": [str]}, '{"TRAIN_SET": ["001", ...], "TEST_SET": [...]}'
    content = read_checked(path, schema, "not a partition", f"expected {expected}")
    return Partition(*(tuple(content[key]) for key in schema))


def write_partition(path: Path, partition: Partition) -> None:
    write_json(path, {"TRAIN_SET": list(partition.train), "TEST_SET": list(partition.test)})


def check_partition_file(given: str | None) -> None:
    """Raise UserError if the file that a user gave cannot be read as a partition. None and `all` are valid."""
    if given not in (None, "all"):
        read_partition(Path(given))


def resolve_partition(given: str | None, default: Path, present: Sequence[str], made: Partition) -> Partition:
    """Return the partition that a command uses, checked against the subjects of the data.

    Args:
        given: `all` (all subjects are test subjects), a file, or None for the file `default`.
        default: the default file. If it does not exist, it is created with the partition in the .npy file of the same
            name, or with the partition `made` if there is no such file.
        present: subjects of the data.

    Raises:
        UserError: if a subject is in both sets, or is not in the data.
    """
    if given == "all":
        return Partition((), tuple(sorted(present, key=natural_key)))
    path = Path(given) if given else default
    if not given and not path.exists():
        original = path.with_suffix(".npy")  # written by the original code
        write_partition(path, read_partition(original) if original.exists() else made)
    partition = read_partition(path)
    both = sorted({*partition.train} & {*partition.test}, key=natural_key)
    if both:
        found = f"{counted(len(both), 'subject')} in both the training and the test set ({', '.join(both[:5])})"
        raise UserError(f"{path}: {found}; remove each of these subjects from one set")
    unknown = sorted({*partition.train, *partition.test} - set(present), key=natural_key)
    if unknown:
        found = f"{counted(len(unknown), 'subject')} not in the data ({', '.join(unknown[:5])})"
        names = f"{', '.join(list(present)[:5])}{', ...' * (len(present) > 5)}"
        expected = f"the data have {counted(len(present), 'subject')} ({names})"
        raise UserError(f"{path}: {found}; {expected}; {_remedy(path, given is not None, default)}")
    unnamed = sorted({*made.train, *made.test} - {*partition.train, *partition.test}, key=natural_key)
    if unnamed and not given:
        log.warning(
            "%s does not contain %s of the data (%s), so their sequences are not used; delete the file to create it "
            "again with all subjects", path, counted(len(unnamed), "subject"), ", ".join(unnamed[:5]),
        )  # fmt: skip
    return partition


def _remedy(path: Path, given: bool, default: Path) -> str:
    """Return advice for a partition file that does not fit the data.

    The advice is to delete the file only if the program has created it.
    """
    if not given:
        return "delete the file to create it for these data, or give another file with --partition"
    if path.resolve().parent == default.resolve().parent:
        return "delete the file and omit --partition to create it for these data"
    return "correct the file, or omit --partition to split the subjects by --pid_num"


MAX_BYTES = 1 << 26  # maximum size of a partition file of the original code
# NumPy raises one of these errors for a damaged header, depending on the damage.
_DAMAGE = (ValueError, TypeError, KeyError, SyntaxError, TokenError, OverflowError, MemoryError, RecursionError)


def _read_ragged(path: Path) -> Partition:
    """Read a .npy file with two lists of subjects.

    NumPy stores two lists of equal length as an array of text, and other lists as a pickle. The pickle is not executed
    (see `array_pickle`).
    """
    try:
        content = read_regular_file(path, MAX_BYTES)
        file = io.BytesIO(content)
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        if dtype.hasobject:
            parts = read_array(file.read())
        else:
            # Empty strings take no bytes in the file, but a list of very many empty strings would fill the memory.
            if not math.prod(shape) * dtype.itemsize:
                raise ValueError(f"its array of shape {list(shape)} and type {dtype} contains no text")
            array = np.load(io.BytesIO(content), allow_pickle=False)
            # NumPy does not check the characters.
            if array.dtype.kind == "U" and (array.view(array.dtype.str[0] + "u4") > 0x10FFFF).any():
                raise ValueError("it contains characters that are not Unicode")
            parts = (array.astype(str) if array.dtype.kind == "S" else array).tolist()
        train, test = check(parts, [[text((bool, "a name"))]])
    except BadImage as error:
        raise UserError(str(error)) from None
    except _DAMAGE as error:
        raise UserError(f"{path}: not a partition of the original GaitSet code ({first_line(error)[:200]})") from error
    return Partition(tuple(train), tuple(test))
