"""Whatever happens to bins, list, manifest and results between --pre_process and --post_process: the right table or an
error, never results of one person under another's name."""

import itertools
import json
import random
import shutil

import numpy as np
import pytest
from deployed_chain import COUNT, SHAPE, Chain, Model

from model.common.errors import UserError
from model.common.files import read_json, write_json
from model.export.manifest import manifest_path, read_info


@pytest.fixture(scope="module")
def right(tmp_path_factory):
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


def right_or_error(chain, right, run=True):
    """True for the right table, False for an error that is one line."""
    try:
        if run:
            chain.run()
        table, embeddings = chain.table()
    except UserError as error:
        assert "\n" not in str(error)
        return False
    assert table == right[0]
    np.testing.assert_array_equal(embeddings, right[1])
    return True


ORDERS = [order for order in itertools.permutations(range(COUNT)) if order != tuple(range(COUNT))]
SOME = random.Random(0).sample(ORDERS, 20)
PAIRS = [order for order in ORDERS if sum(i != place for i, place in enumerate(order)) == 2]


def test_undisturbed_it_is_right(chain, right):
    assert right_or_error(chain, right)


@pytest.mark.parametrize("order", [*SOME[:3], *PAIRS[:3]], ids=str)
def test_bins_that_changed_places_before_the_model_ran_are_told(chain, right, order):
    permute([chain.bin(i) for i in range(COUNT)], order)
    assert not right_or_error(chain, right)


def test_results_that_changed_places_are_told(chain, right):
    chain.run()
    files = [chain.result(i) for i in range(COUNT)]
    whole = [file.read_bytes() for file in files]
    for order in (*SOME, *PAIRS):
        for file, place in zip(files, order, strict=True):
            file.write_bytes(whole[place])
        assert not right_or_error(chain, right, run=False)


def test_bins_that_change_places_afterwards_change_nothing(chain, right):
    chain.run()
    permute([chain.bin(i) for i in range(COUNT)], SOME[0])
    assert right_or_error(chain, right, run=False)


def test_the_order_of_the_list_does_not_matter(chain, right):
    lines = chain.info.read_text().splitlines()
    for order in SOME:
        chain.info.write_text("\r\n".join(lines[i] for i in order))
        assert right_or_error(chain, right)
    for order in SOME[:5]:  # other numbers for the same bins
        chain.info.write_text("\n".join(f"{n} {lines[i].split(' ', 1)[1]}" for n, i in enumerate(order)))
        assert right_or_error(chain, right)


def test_lines_left_out_or_given_twice_are_told(chain, right):
    lines = chain.info.read_text().splitlines()
    for place in range(COUNT):
        chain.info.write_text("\n".join(lines[:place] + lines[place + 1 :]))
        assert not right_or_error(chain, right)
        chain.info.write_text("\n".join([*lines, f"{COUNT} {lines[place].split(' ', 1)[1]}"]))
        assert not right_or_error(chain, right)
        chain.info.write_text(
            "\n".join([*lines[:place], lines[place].replace("/0", "/../bins/0"), *lines[place + 1 :]])
        )
        assert right_or_error(chain, right)


DAMAGES = {
    "left out": lambda path, other: path.unlink(),
    "copied over": lambda path, other: path.write_bytes(other.read_bytes()),
    "cut": lambda path, other: path.write_bytes(path.read_bytes()[:-4]),
    "one bit": lambda path, other: path.write_bytes(path.read_bytes()[:-1] + b"\1"),
    "renamed": lambda path, other: other.replace(path),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_bins_left_out_copied_or_damaged_are_told(chain, right, damage):
    """Before the model runs; afterwards they are not needed, unless it was run by hand."""
    chain.run()
    for one, other in ((0, 1), (5, 2), (3, 4)):
        kept = {number: chain.bin(number).read_bytes() for number in (one, other)}
        damage(chain.bin(one), chain.bin(other))
        assert not right_or_error(chain, right, run=True)
        assert right_or_error(chain, right, run=False)
        for number, content in kept.items():
            chain.bin(number).write_bytes(content)
    damage(chain.bin(0), chain.bin(1))
    (chain.folder / "results_record.json").unlink()
    right_or_error(chain, right, run=False)


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("name", [name for name in DAMAGES if name != "one bit"])
def test_results_left_out_copied_or_damaged_are_told(chain, right, name, by_hand):
    """By hand: with a tool that leaves no record of what it read and wrote."""
    chain.run()
    if by_hand:
        (chain.folder / "results_record.json").unlink()
    for one, other in ((0, 1), (5, 2), (3, 4)):
        kept = {number: chain.result(number).read_bytes() for number in (one, other)}
        DAMAGES[name](chain.result(one), chain.result(other))
        assert not right_or_error(chain, right, run=False)
        for number, content in kept.items():
            chain.result(number).write_bytes(content)
    assert right_or_error(chain, right, run=False)


def test_results_of_bins_that_have_been_made_anew_are_told(chain, right):
    """The same people, other frames: names and numbers all fit."""
    chain.run()
    chain.write(seed=1)
    assert not right_or_error(chain, right, run=False)
    chain.write(seed=0)
    assert right_or_error(chain, right, run=False)


def test_a_manifest_of_others_is_told(chain, right, tmp_path):
    chain.run()
    other = Chain(tmp_path / "other")
    other.write(seed=1)
    shutil.copy(manifest_path(other.bins), manifest_path(chain.bins))
    assert not right_or_error(chain, right, run=False)
    assert not right_or_error(chain, right, run=True)
    manifest_path(chain.bins).unlink()
    assert not right_or_error(chain, right, run=False)


def test_labels_that_changed_places_in_the_manifest_are_told(chain, right):
    chain.run()
    path = manifest_path(chain.bins)
    for one, other in itertools.combinations(range(COUNT), 2):
        content = read_json(path)
        entries = content["entries"]
        entries[one]["subject"], entries[other]["subject"] = entries[other]["subject"], entries[one]["subject"]
        before = path.read_bytes()
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        assert not right_or_error(chain, right, run=False) or entries[one]["subject"] == entries[other]["subject"]
        path.write_bytes(before)


def test_a_damaged_or_foreign_record_is_told(chain, right):
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
        assert not right_or_error(chain, right, run=False)
    record.write_bytes(whole)
    assert right_or_error(chain, right, run=False)


def test_results_by_hand_are_told_to_be_paired_by_name_alone(chain, right, caplog):
    chain.run()
    (chain.folder / "results_record.json").unlink()
    assert right_or_error(chain, right, run=False)
    assert "results are paired with people by the names of the files alone" in caplog.text
    shutil.rmtree(chain.bins)  # as where only results have come back from the machine with the chip
    assert right_or_error(chain, right, run=False)


def test_an_interrupted_run_leaves_the_results_of_the_one_before(chain, right, monkeypatch):
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
    assert right_or_error(chain, right, run=False)
    assert [entry.path.name for entry in read_info(chain.info)] == [f"{i:04d}.bin" for i in range(COUNT)]
