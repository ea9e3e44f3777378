"""Partitions: creation, reading of all supported formats, and errors. `test_array_pickle.py` tests harmful files."""

import json

import numpy as np
import pytest

from model.common.errors import UserError
from model.data.index import SequenceIndex
from model.data.partition import Partition, make_partition, read_partition, resolve_partition, write_partition

UNUSED = Partition((), ())
CASIA_B = [f"{i:03d}" for i in range(1, 125)]


def test_casia_b_is_split_as_published():
    partition = make_partition(CASIA_B, "CASIA-B", 73)
    assert (len(partition.train), len(partition.test)) == (73, 50)
    assert partition.train[:5] == ("001", "002", "003", "004", "006")  # 005 is incomplete
    assert partition.test[0] == "075" and partition.test[-1] == "124"


@pytest.mark.parametrize(
    ("subjects", "train", "test"),
    [
        (["1", "2", "10", "11"], ("1", "2"), ("10", "11")),
        (["p10", "p9", "anna", "p1"], ("anna", "p1"), ("p9", "p10")),
        (["010", "002", "011", "001"], ("001", "002"), ("010", "011")),
    ],
)
def test_subjects_are_split_in_natural_order(tmp_path, subjects, train, test):
    for given in (subjects, subjects[::-1]):
        index = SequenceIndex.from_lengths(given, ["nm-01"] * 4, ["000"] * 4, [1] * 4)
        assert tuple(index.subjects) == train + test
        assert make_partition(index.subjects, "Synthetic", 2) == Partition(train, test)
        assert resolve_partition("all", tmp_path / "p.json", given, UNUSED) == Partition((), train + test)


def test_shuffling_keeps_all_subjects_and_does_not_depend_on_their_order():
    made = make_partition(CASIA_B, "Synthetic", 60, True)
    assert made == make_partition(CASIA_B[::-1], "Synthetic", 60, True) != make_partition(CASIA_B, "Synthetic", 60)
    assert sorted(made.train + made.test) == CASIA_B  # with 005, which is excluded only from CASIA-B


def test_write_and_read_in_the_format_of_opengait(tmp_path):
    write_partition(tmp_path / "p.json", Partition(("a", "b"), ("c",)))
    assert json.loads((tmp_path / "p.json").read_text()) == {"TRAIN_SET": ["a", "b"], "TEST_SET": ["c"]}
    assert read_partition(tmp_path / "p.json") == Partition(("a", "b"), ("c",))


@pytest.mark.parametrize("test", [["074"], ["074", "075"]], ids=["ragged", "even"])
def test_files_of_the_original_tool_are_converted(tmp_path, test):
    lists = [["001", "002"], test]
    array = np.array(lists) if len(test) == 2 else np.array(lists, dtype=object)
    np.save(tmp_path / "p.npy", array, allow_pickle=True)
    assert read_partition(tmp_path / "p.npy") == Partition(("001", "002"), tuple(test))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("code", [0x110000, 0xFFFFFFFF, 0xD800, 0xDFFF])
def test_npy_with_invalid_text_is_rejected(tmp_path, order, code):
    """For such text, NumPy raises a SystemError or returns strings that cannot be encoded."""
    array = np.array([["001", "002"], ["003", "004"]]).astype(f"{order}U3")
    np.save(tmp_path / "p.npy", array)
    assert read_partition(tmp_path / "p.npy") == Partition(("001", "002"), ("003", "004"))
    array.view(f"{order}u4")[1, 2] = code
    np.save(tmp_path / "p.npy", array)
    with pytest.raises(UserError, match=r"p\.npy: not a partition of the original GaitSet code"):
        read_partition(tmp_path / "p.npy")


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<U3', 'fortran_order': False, 'shape': (2, 1000000000000)}", b"{'descr': '<U3', 'shape': (2,",
        b"{'descr': '<U3', 'fortran_order': True, 'shape': (2, 1)}", b"{'descr': 'O', 'fortran_order': 3, 'shape': 5}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1)}", b"[" * 5000,
        b"__import__('os').system('false')", b"\0",
    ],
    ids=lambda header: repr(header[:40]),
)  # fmt: skip
def test_npy_with_a_damaged_header_is_rejected(tmp_path, header):
    (tmp_path / "p.npy").write_bytes(b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + bytes(24))
    with pytest.raises(UserError, match=r"p\.npy: not a partition of the original GaitSet code") as caught:
        read_partition(tmp_path / "p.npy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "shape"), [("<U0", (2, 10**9)), ("|S0", (2, 1)), ("<U3", (10**9, 0)), ("<U3", (2, 0))]
)
def test_npy_without_text_is_rejected_before_its_lists_fill_the_memory(tmp_path, dtype, shape):
    header = str({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    (tmp_path / "p.npy").write_bytes(b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(UserError, match=r"p\.npy: not a partition of the original GaitSet code .*contains no text"):
        read_partition(tmp_path / "p.npy")


@pytest.mark.parametrize("content", ['{"TRAIN_SET": []}', "[1]", '{"TRAIN_SET": [1], "TEST_SET": []}', "no json"])
def test_invalid_partition_files_are_rejected(tmp_path, content):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(UserError, match=r"p\.json"):
        read_partition(tmp_path / "p.json")


def test_the_default_file_is_created_once_and_kept(tmp_path):
    standard = tmp_path / "partition" / "p.json"
    made = resolve_partition(None, standard, ["a", "b"], Partition(("a",), ("b",)))
    assert resolve_partition(None, standard, ["a", "b"], Partition(("b",), ("a",))) == made
    with pytest.raises(UserError, match=r"p\.json.*\(b\).*delete the file"):
        resolve_partition(None, standard, ["a"], UNUSED)


@pytest.mark.parametrize(
    ("place", "advice"),
    [
        ("mine.json", "correct the file, or omit --partition to split the subjects by --pid_num"),
        ("work/partition/other.json", "delete the file and omit --partition"),
        ("work/partition/../../mine.json", "correct the file"),
    ],
)
def test_only_files_that_the_program_created_may_be_deleted(tmp_path, place, advice):
    standard, given = tmp_path / "work/partition/p.json", tmp_path / place
    standard.parent.mkdir(parents=True)
    write_partition(given, Partition(("a",), ("zoe",)))
    message = rf"1 subject not in the data \(zoe\); the data have 2 subjects \(a, b\); {advice}"
    with pytest.raises(UserError, match=message) as error:
        resolve_partition(str(given), standard, ["a", "b"], UNUSED)
    assert ("delete" in str(error.value)) == advice.startswith("delete")


def test_new_subjects_cause_a_warning(tmp_path, caplog):
    standard = tmp_path / "p.json"
    write_partition(standard, Partition(("a",), ("b",)))
    resolve_partition(None, standard, ["a", "b", "c"], Partition(("a", "b"), ("c",)))
    assert "does not contain 1 subject of the data (c)" in caplog.text


def test_a_subject_in_both_sets_is_rejected(tmp_path):
    write_partition(tmp_path / "p.json", Partition(("a", "b"), ("b",)))
    with pytest.raises(UserError, match=r"1 subject in both the training and the test set \(b\); remove"):
        resolve_partition(str(tmp_path / "p.json"), tmp_path / "s.json", ["a", "b"], UNUSED)


def test_a_partition_of_the_original_tool_at_the_default_path_is_converted(tmp_path):
    np.save(tmp_path / "p.npy", np.array([["b"], ["a", "c"]], dtype=object), allow_pickle=True)
    partition = resolve_partition(None, tmp_path / "p.json", ["a", "b", "c"], Partition(("a",), ("b", "c")))
    assert partition == Partition(("b",), ("a", "c")) == read_partition(tmp_path / "p.json")
