from __future__ import annotations

from pathlib import Path

import pytest

from model.data.tree import natural_key, scan_tree
from model.errors import UsageError, UserError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_sequences_come_sorted_with_frames_in_natural_order(tmp_path):
    for name in ("10", "9", "1", "2"):
        touch(tmp_path / "002" / "nm-01" / "090" / f"{name}.png")
    touch(tmp_path / "002" / "bg-01" / "000" / "a.png")
    touch(tmp_path / "001" / "nm-01" / "018" / "a.BMP")
    touch(tmp_path / "001" / "nm-01" / "000" / "a.jpg")
    sequences = scan_tree(tmp_path)
    assert [s.name for s in sequences] == ["001/nm-01/000", "001/nm-01/018", "002/bg-01/000", "002/nm-01/090"]
    assert sequences[-1].files == ("1.png", "2.png", "9.png", "10.png")
    assert sequences[1].files == ("a.BMP",)
    assert sequences[0].path == tmp_path / "001" / "nm-01" / "000"


def test_hidden_and_foreign_names_are_passed_over(tmp_path):
    folder = tmp_path / "001" / "nm-01" / "000"
    touch(folder / "a.png")
    for name in (".b.png", "Thumbs.db", ".pretreatment/record.json", "notes.txt"):
        touch(folder / name)
    touch(tmp_path / ".cache" / "nm-01" / "000" / "a.png")
    touch(tmp_path / "001" / "nm-01" / ".000.77.part" / "a.png")
    touch(tmp_path / "README.txt")
    (sequence,) = scan_tree(tmp_path)
    assert sequence.files == ("a.png",)


def test_an_empty_sequence_is_listed_without_frames(tmp_path):
    touch(tmp_path / "001" / "nm-01" / "000" / "a.png")
    (tmp_path / "001" / "nm-01" / "018").mkdir()
    assert [s.files for s in scan_tree(tmp_path)] == [("a.png",), ()]


def test_pickles(tmp_path):
    touch(tmp_path / "001" / "nm-01" / "000" / "000.pkl")
    for name in ("018.pkl", "018-pose.pkl"):
        touch(tmp_path / "001" / "nm-01" / "018" / name)
    sequences = scan_tree(tmp_path)
    assert [s.files for s in sequences] == [("000.pkl",), ("018.pkl",)]
    assert all(s.is_pickle for s in sequences)


def test_several_pickles_without_the_name_of_the_view_are_refused(tmp_path):
    for name in ("a.pkl", "b.pkl"):
        touch(tmp_path / "001" / "nm-01" / "000" / name)
    with pytest.raises(UserError, match=r"000\.pkl"):
        scan_tree(tmp_path)


@pytest.mark.parametrize("where", ["", "001", "001/nm-01", "001/nm-01/000/extra"])
def test_images_at_another_depth_are_refused_by_name(tmp_path, where):
    touch(tmp_path / "001" / "nm-01" / "018" / "a.png")
    (tmp_path / "001" / "nm-01" / "000").mkdir()
    image = touch(tmp_path / where / "b.png")
    with pytest.raises(UserError) as caught:
        scan_tree(tmp_path)
    assert str(image.parent) in str(caught.value) and "<subject>/<condition-take>/<view>" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_folder_no_images(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        scan_tree(tmp_path / "missing")
    with pytest.raises(UsageError, match="is a file"):
        scan_tree(touch(tmp_path / "file"))
    (tmp_path / "001" / "nm-01").mkdir(parents=True)
    with pytest.raises(UserError, match="no images"):
        scan_tree(tmp_path)


def test_natural_key_orders_numbers_by_value_and_mixes_with_words():
    names = ["b", "10", "2", "a10", "a9", "02", "001-nm-01-000-010.png", "001-nm-01-000-009.png"]
    ordered = sorted(names, key=natural_key)
    assert ordered.index("2") < ordered.index("10") and ordered.index("a9") < ordered.index("a10")
    assert ordered.index("001-nm-01-000-009.png") < ordered.index("001-nm-01-000-010.png")
