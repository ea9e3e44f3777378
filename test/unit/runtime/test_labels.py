"""Changes of files between --pre_process and --post_process: each change is harmless or an error.

The tests change input files, their list, the manifest or the results. No change may assign a result to a wrong person.
"""

import itertools
import json
import random
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from deployed_chain import COUNT, Chain

from model.common.errors import UserError
from model.common.json_files import read_json, write_json
from model.export.manifest import manifest_path


class CheckedChain(Chain):
    """A chain whose table is compared with the table of unchanged files."""

    def __init__(self, folder, expected):
        super().__init__(folder)
        self.expected = expected
        self.record = folder / "results_record.json"

    def is_right(self, run=False):
        """Return True if the chain gives the expected table, and False if it raises an error of one line."""
        try:
            if run:
                self.run()
            table, embeddings = self.table()
        except UserError as error:
            assert "\n" not in str(error)
            return False
        assert table == self.expected[0]
        np.testing.assert_array_equal(embeddings, self.expected[1])
        return True


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    chain = Chain(tmp_path_factory.mktemp("right"))
    chain.run()
    return chain.table()


@pytest.fixture
def written(tmp_path, expected):
    """A chain whose input files are written, but whose model has not run."""
    return CheckedChain(tmp_path, expected)


@pytest.fixture
def chain(written):
    written.run()
    return written


def permute(files, order):
    for file, content in zip(files, [files[place].read_bytes() for place in order], strict=True):
        file.write_bytes(content)


ORDERS = [order for order in itertools.permutations(range(COUNT)) if order != tuple(range(COUNT))]
SOME = random.Random(0).sample(ORDERS, 20)
PAIRS = [order for order in ORDERS if sum(i != place for i, place in enumerate(order)) == 2]


@pytest.mark.parametrize("order", [*SOME[:3], *PAIRS[:3]], ids=str)
def test_swapped_input_files_before_the_run_are_errors(written, order):
    permute([written.bin(i) for i in range(COUNT)], order)
    assert not written.is_right(run=True)


def test_swapped_results_are_errors(chain):
    files = [chain.result(i) for i in range(COUNT)]
    whole = [file.read_bytes() for file in files]
    for order in (*SOME, *PAIRS):
        for file, place in zip(files, order, strict=True):
            file.write_bytes(whole[place])
        assert not chain.is_right()


def test_swapped_input_files_after_the_run_are_harmless(chain):
    permute([chain.bin(i) for i in range(COUNT)], SOME[0])
    assert chain.is_right()


def test_the_order_of_the_list_does_not_matter(written):
    lines = written.info.read_text().splitlines()
    for order in SOME:
        written.info.write_text("\r\n".join(lines[i] for i in order))
        assert written.is_right(run=True)
    for order in SOME[:5]:  # other numbers for the same files
        written.info.write_text("\n".join(f"{n} {lines[i].split(' ', 1)[1]}" for n, i in enumerate(order)))
        assert written.is_right(run=True)


def test_missing_and_repeated_lines_are_errors(written):
    lines = written.info.read_text().splitlines()
    for place in range(COUNT):
        repeated = f"{COUNT} {lines[place].split(' ', 1)[1]}"
        other_path = lines[place].replace("/0", "/../bins/0")
        for changed, right in (
            (lines[:place] + lines[place + 1 :], False),
            ([*lines, repeated], False),
            ([*lines[:place], other_path, *lines[place + 1 :]], True),
        ):
            written.info.write_text("\n".join(changed))
            assert written.is_right(run=True) is right


DAMAGES = {
    "removed": lambda path, other: path.unlink(),
    "copied over": lambda path, other: path.write_bytes(other.read_bytes()),
    "cut": lambda path, other: path.write_bytes(path.read_bytes()[:-4]),
    "one bit": lambda path, other: path.write_bytes(path.read_bytes()[:-1] + b"\1"),
    "renamed": lambda path, other: other.replace(path),
}


@contextmanager
def damaged(damage, path, other):
    """Call `damage`, which changes one or both files, and restore the files at the end of the block."""
    kept = {file: file.read_bytes() for file in (path, other)}
    damage(path, other)
    yield
    for file, content in kept.items():
        file.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_input_files_are_errors(chain, damage):
    """After the run, the input files are checked only if there is no result record."""
    for one, other in ((0, 1), (5, 2), (3, 4)):
        with damaged(damage, chain.bin(one), chain.bin(other)):
            assert not chain.is_right(run=True)
            assert chain.is_right()
    damage(chain.bin(0), chain.bin(1))
    chain.record.unlink()
    chain.is_right()


@pytest.mark.parametrize("manual", [False, True])
@pytest.mark.parametrize("name", [name for name in DAMAGES if name != "one bit"])
def test_damaged_results_are_errors(chain, name, manual):
    """A manual run of the tool writes no result record."""
    if manual:
        chain.record.unlink()
    for one, other in ((0, 1), (5, 2), (3, 4)):
        with damaged(DAMAGES[name], chain.result(one), chain.result(other)):
            assert not chain.is_right()
    assert chain.is_right()


def test_results_of_replaced_input_files_are_errors(chain):
    """The replaced files have the same names and subjects, and only their frames differ."""
    chain.write(seed=1)
    assert not chain.is_right()
    chain.write(seed=0)
    assert chain.is_right()


def test_manifest_of_other_files_is_an_error(chain, tmp_path):
    other = Chain(tmp_path / "other")
    other.write(seed=1)
    shutil.copy(manifest_path(other.bins), manifest_path(chain.bins))
    assert not chain.is_right()
    assert not chain.is_right(run=True)
    manifest_path(chain.bins).unlink()
    assert not chain.is_right()


def test_swapped_labels_in_the_manifest_are_errors(chain):
    path = manifest_path(chain.bins)
    for one, other in itertools.combinations(range(COUNT), 2):
        content = read_json(path)
        entries = content["entries"]
        entries[one]["subject"], entries[other]["subject"] = entries[other]["subject"], entries[one]["subject"]
        before = path.read_bytes()
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        assert not chain.is_right() or entries[one]["subject"] == entries[other]["subject"]
        path.write_bytes(before)


def test_invalid_record_is_an_error(chain):
    content, whole = read_json(chain.record, sealed=True), chain.record.read_bytes()
    for changed in (whole[: len(whole) // 2], whole.replace(b"0001", b"0002"), json.dumps(content).encode(), b"[]"):
        chain.record.write_bytes(changed)
        assert not chain.is_right()
    for change in ({"format": "x"}, {"bins": [1]}, {"results": {}}, {"results": {"0000": 5}}):
        write_json(chain.record, content | change, sealed=True)
        assert not chain.is_right()
    chain.record.write_bytes(whole)
    assert chain.is_right()


def test_warning_about_results_without_record(chain, caplog):
    chain.record.unlink()
    assert chain.is_right()
    assert "results are assigned to sequences by file name only" in caplog.text
    shutil.rmtree(chain.bins)  # as if only the results were copied from the machine with the chip
    assert chain.is_right()
