"""Changes of the input files, list, manifest or results between --pre_process and --post_process either keep the right
table or are errors. Results are never assigned to another person."""

import itertools
import json
import random
import shutil

import numpy as np
import pytest
from deployed_chain import COUNT, SHAPE, Chain, Model

from model.common.errors import UserError
from model.common.json_files import read_json, write_json
from model.export.manifest import manifest_path, read_info


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    chain = Chain(tmp_path_factory.mktemp("right"))
    chain.run()
    return chain.table()


@pytest.fixture
def chain(tmp_path):
    return Chain(tmp_path)


def permute(files, order):
    contents = [file.read_bytes() for file in files]
    for file, place in zip(files, order, strict=True):
        file.write_bytes(contents[place])


def equal_or_error(chain, expected, run=True):
    """Return True for the expected table and False for an error, which must be one line."""
    try:
        if run:
            chain.run()
        table, embeddings = chain.table()
    except UserError as error:
        assert "\n" not in str(error)
        return False
    assert table == expected[0]
    np.testing.assert_array_equal(embeddings, expected[1])
    return True


ORDERS = [order for order in itertools.permutations(range(COUNT)) if order != tuple(range(COUNT))]
SOME = random.Random(0).sample(ORDERS, 20)
PAIRS = [order for order in ORDERS if sum(i != place for i, place in enumerate(order)) == 2]


def test_unchanged_files(chain, expected):
    assert equal_or_error(chain, expected)


@pytest.mark.parametrize("order", [*SOME[:3], *PAIRS[:3]], ids=str)
def test_swapped_input_files_before_the_run_are_errors(chain, expected, order):
    permute([chain.bin(i) for i in range(COUNT)], order)
    assert not equal_or_error(chain, expected)


def test_swapped_results_are_errors(chain, expected):
    chain.run()
    files = [chain.result(i) for i in range(COUNT)]
    whole = [file.read_bytes() for file in files]
    for order in (*SOME, *PAIRS):
        for file, place in zip(files, order, strict=True):
            file.write_bytes(whole[place])
        assert not equal_or_error(chain, expected, run=False)


def test_swapped_input_files_after_the_run_are_harmless(chain, expected):
    chain.run()
    permute([chain.bin(i) for i in range(COUNT)], SOME[0])
    assert equal_or_error(chain, expected, run=False)


def test_the_order_of_the_list_does_not_matter(chain, expected):
    lines = chain.info.read_text().splitlines()
    for order in SOME:
        chain.info.write_text("\r\n".join(lines[i] for i in order))
        assert equal_or_error(chain, expected)
    for order in SOME[:5]:  # other numbers for the same files
        chain.info.write_text("\n".join(f"{n} {lines[i].split(' ', 1)[1]}" for n, i in enumerate(order)))
        assert equal_or_error(chain, expected)


def test_missing_and_repeated_lines_are_errors(chain, expected):
    lines = chain.info.read_text().splitlines()
    for place in range(COUNT):
        chain.info.write_text("\n".join(lines[:place] + lines[place + 1 :]))
        assert not equal_or_error(chain, expected)
        chain.info.write_text("\n".join([*lines, f"{COUNT} {lines[place].split(' ', 1)[1]}"]))
        assert not equal_or_error(chain, expected)
        chain.info.write_text(
            "\n".join([*lines[:place], lines[place].replace("/0", "/../bins/0"), *lines[place + 1 :]])
        )
        assert equal_or_error(chain, expected)


DAMAGES = {
    "removed": lambda path, other: path.unlink(),
    "copied over": lambda path, other: path.write_bytes(other.read_bytes()),
    "cut": lambda path, other: path.write_bytes(path.read_bytes()[:-4]),
    "one bit": lambda path, other: path.write_bytes(path.read_bytes()[:-1] + b"\1"),
    "renamed": lambda path, other: other.replace(path),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_input_files_are_errors(chain, expected, damage):
    """Input files are needed until the model has run, or if the tool is run manually."""
    chain.run()
    for one, other in ((0, 1), (5, 2), (3, 4)):
        kept = {number: chain.bin(number).read_bytes() for number in (one, other)}
        damage(chain.bin(one), chain.bin(other))
        assert not equal_or_error(chain, expected, run=True)
        assert equal_or_error(chain, expected, run=False)
        for number, content in kept.items():
            chain.bin(number).write_bytes(content)
    damage(chain.bin(0), chain.bin(1))
    (chain.folder / "results_record.json").unlink()
    equal_or_error(chain, expected, run=False)


@pytest.mark.parametrize("manual", [False, True])
@pytest.mark.parametrize("name", [name for name in DAMAGES if name != "one bit"])
def test_damaged_results_are_errors(chain, expected, name, manual):
    """A manual run writes no record of input files and results."""
    chain.run()
    if manual:
        (chain.folder / "results_record.json").unlink()
    for one, other in ((0, 1), (5, 2), (3, 4)):
        kept = {number: chain.result(number).read_bytes() for number in (one, other)}
        DAMAGES[name](chain.result(one), chain.result(other))
        assert not equal_or_error(chain, expected, run=False)
        for number, content in kept.items():
            chain.result(number).write_bytes(content)
    assert equal_or_error(chain, expected, run=False)


def test_results_of_replaced_input_files_are_errors(chain, expected):
    """The subjects and names are the same, only the frames differ."""
    chain.run()
    chain.write(seed=1)
    assert not equal_or_error(chain, expected, run=False)
    chain.write(seed=0)
    assert equal_or_error(chain, expected, run=False)


def test_manifest_of_other_files_is_an_error(chain, expected, tmp_path):
    chain.run()
    other = Chain(tmp_path / "other")
    other.write(seed=1)
    shutil.copy(manifest_path(other.bins), manifest_path(chain.bins))
    assert not equal_or_error(chain, expected, run=False)
    assert not equal_or_error(chain, expected, run=True)
    manifest_path(chain.bins).unlink()
    assert not equal_or_error(chain, expected, run=False)


def test_swapped_labels_in_the_manifest_are_errors(chain, expected):
    chain.run()
    path = manifest_path(chain.bins)
    for one, other in itertools.combinations(range(COUNT), 2):
        content = read_json(path)
        entries = content["entries"]
        entries[one]["subject"], entries[other]["subject"] = entries[other]["subject"], entries[one]["subject"]
        before = path.read_bytes()
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        assert not equal_or_error(chain, expected, run=False) or entries[one]["subject"] == entries[other]["subject"]
        path.write_bytes(before)


def test_invalid_record_is_an_error(chain, expected):
    chain.run()
    record = chain.folder / "results_record.json"
    content = read_json(record, sealed=True)
    whole = record.read_bytes()
    for damage in (
        lambda: record.write_bytes(whole[: len(whole) // 2]),
        lambda: record.write_bytes(whole.replace(b"0001", b"0002")),
        lambda: write_json(record, content),
        lambda: write_json(record, {**content, "format": "x"}, sealed=True),
        lambda: write_json(record, {**content, "bins": [1]}, sealed=True),
        lambda: write_json(record, {**content, "results": {}}, sealed=True),
        lambda: write_json(record, {**content, "results": {"0000": 5}}, sealed=True),
        lambda: record.write_text("[]"),
    ):
        damage()
        assert not equal_or_error(chain, expected, run=False)
    record.write_bytes(whole)
    assert equal_or_error(chain, expected, run=False)


def test_warning_about_results_without_record(chain, expected, caplog):
    chain.run()
    (chain.folder / "results_record.json").unlink()
    assert equal_or_error(chain, expected, run=False)
    assert "results are assigned to sequences by file name only" in caplog.text
    shutil.rmtree(chain.bins)  # as if only the results were copied from the machine with the chip
    assert equal_or_error(chain, expected, run=False)


def test_interrupted_run_keeps_earlier_results(chain, expected, monkeypatch):
    chain.run()
    before = {path.name: path.read_bytes() for path in chain.results.iterdir()}
    calls = itertools.count()

    def stop(self, image_seq):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return np.zeros((2, *SHAPE), "<f4")

    monkeypatch.setattr(Model, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        chain.run()
    assert {path.name: path.read_bytes() for path in chain.results.iterdir()} == before
    assert equal_or_error(chain, expected, run=False)
    assert [entry.path.name for entry in read_info(chain.info)] == [f"{i:04d}.bin" for i in range(COUNT)]
