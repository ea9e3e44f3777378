"""The reading of frames in the record: later runs use it, and process all frames again if the reading changes."""

import json

import numpy as np
import pytest
from raw_trees import SEQUENCE, changed_tree, contents, images, pretreat, silhouette, with_shadow, with_specks, write

from model.data.raw.aligned_sequence import RECORD_FOLDER

RECORD = f"{SEQUENCE}/{RECORD_FOLDER}/record.json"

# One half of each frame is inverted, so the frames are accepted with and without --invert.
CHANGES = {"invert": lambda mask: np.hstack([mask, 255 - mask]), "specks": with_specks}


@pytest.mark.parametrize("option", CHANGES)
def test_change_of_an_option_processes_all_frames_again(tmp_path, option):
    raw, aligned = changed_tree(tmp_path / "raw", CHANGES[option], sequences=1), tmp_path / "aligned"
    trees = []
    for value, worked_on in [(False, 6), (True, 6), (True, 0), (False, 6)]:
        assert pretreat(raw, aligned, **{option: value}).frames_worked_on == worked_on
        trees.append(contents(aligned))
    assert trees[0] == trees[3] != trees[1] == trees[2]


def test_record_of_a_version_without_remove_specks_is_valid(tmp_path):
    raw, aligned = changed_tree(tmp_path / "raw", with_specks, sequences=1), tmp_path / "aligned"
    pretreat(raw, aligned)
    record = json.loads((aligned / RECORD).read_bytes())
    (aligned / RECORD).write_text(json.dumps(record | {"reading": record["reading"][:3]}))
    assert pretreat(raw, aligned).frames_worked_on == 0
    assert pretreat(raw, aligned, specks=True).frames_worked_on == 6


def test_record_of_an_earlier_version_is_checked_once(tmp_path, expected):
    """Earlier versions kept the grey values, which is correct for masks of 0 and 255 and wrong for masks of 0 and 1."""
    for change, worked_on in [(lambda mask: mask, 0), (lambda mask: mask // 255, 6)]:
        raw, aligned = changed_tree(tmp_path / f"raw{worked_on}", change), tmp_path / f"aligned{worked_on}"
        pretreat(raw, aligned)
        file = aligned / RECORD
        complete = file.read_bytes()
        file.write_text(json.dumps({key: json.loads(complete)[key] for key in ("version", "frames")}))
        summary = pretreat(raw, aligned)
        assert (summary.frames_worked_on, summary.done) == (worked_on, worked_on > 0)
        record = json.loads(file.read_bytes())
        assert record["reading"] == json.loads(complete)["reading"]
        assert record["frames"].keys() == {f"{frame}.png" for frame in range(6)}
        assert images(aligned) == expected


def test_changed_frames_that_change_the_reading_change_the_sequence(tmp_path):
    raw, aligned = changed_tree(tmp_path / "raw", lambda mask: mask, sequences=1), tmp_path / "aligned"
    pretreat(raw, aligned)
    write(raw / SEQUENCE / "3.png", with_shadow(silhouette(3)))
    assert pretreat(raw, aligned).frames_worked_on == 6
    pretreat(raw, tmp_path / "clean")
    assert contents(aligned) == contents(tmp_path / "clean")


@pytest.mark.parametrize("reading", [None, 5, [], [[0], False, False], [[0, "1"], False, False], [None, 1, 0]])
def test_damaged_reading_is_decided_again(tmp_path, expected, reading):
    raw, aligned = changed_tree(tmp_path / "raw", lambda mask: mask // 255), tmp_path / "aligned"
    pretreat(raw, aligned)
    file = aligned / RECORD
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"reading": reading, "dropped": {"0.png": 7}}))
    assert pretreat(raw, aligned).frames_worked_on == 6
    assert images(aligned) == expected
