"""Listing of trees of silhouettes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model.common.errors import UsageError, UserError, one_line
from model.common.natural_order import natural_key
from model.data.raw.tree import scan_tree


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_sequences_are_sorted_and_frames_are_in_natural_order(tmp_path):
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


def test_hidden_files_and_other_types_are_ignored(tmp_path):
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
    assert [s.files for s in sequences] == [("000.pkl",), ("018-pose.pkl", "018.pkl")]
    assert all(s.is_pickle for s in sequences)


@pytest.mark.parametrize("where", ["", "001", "001/nm-01", "001/nm-01/000/extra"])
def test_scan_reports_the_folder_of_images_at_another_depth(tmp_path, where):
    touch(tmp_path / "001" / "nm-01" / "018" / "a.png")
    (tmp_path / "001" / "nm-01" / "000").mkdir()
    image = touch(tmp_path / where / "b.png")
    with pytest.raises(UserError) as caught:
        scan_tree(tmp_path)
    assert str(image.parent) in str(caught.value) and "<subject>/<condition-take>/<view>" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_scan_rejects_missing_folders_and_trees_without_images(tmp_path):
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
    assert sorted(["01", "1", "001"], key=natural_key) == [
        "001",
        "01",
        "1",
    ]


def test_scan_rejects_names_that_are_not_printable_text(tmp_path):
    touch(tmp_path / "a" / "张三　李 (1)²" / "nm-01" / "٣" / "é ²3.png")
    assert [s.name for s in scan_tree(tmp_path / "a")] == ["张三　李 (1)²/nm-01/٣"]
    for number, name in enumerate((b"a\nb", b"\xff\xfe", "\u2028".encode(), b"a\x1b[2J")):
        for depth in range(4):
            parts = [b"001", b"nm-01", b"000", b"1.png"]
            parts[depth] = name + (b".png" if depth == 3 else b"")
            root = tmp_path / f"{number}-{depth}"
            touch(root / os.fsdecode(b"/".join(parts)))
            with pytest.raises(UserError, match="rename it") as caught:
                scan_tree(root)
            assert str(caught.value) == one_line(str(caught.value))


def test_circular_links_are_ignored(tmp_path):
    touch(tmp_path / "001" / "nm-01" / "000" / "1.png")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "001" / "nm-01" / "loop").symlink_to(tmp_path / "001" / "nm-01" / "loop")
    (tmp_path / "001" / "nm-01" / "000" / "up").symlink_to(tmp_path)
    assert [s.name for s in scan_tree(tmp_path)] == ["001/nm-01/000"]
    (tmp_path / "again").symlink_to(tmp_path)  # the tree inside itself: its frames are too deep
    with pytest.raises(UserError, match="too deep"):
        scan_tree(tmp_path)


def test_files_of_operating_systems_are_ignored(tmp_path):
    touch(tmp_path / "001" / "nm-01" / "000" / "1.PNG")
    for name in ("Thumbs.db", ".DS_Store", "._1.png", "desktop.ini", "notes.txt"):
        for folder in (tmp_path, tmp_path / "001", tmp_path / "001" / "nm-01", tmp_path / "001" / "nm-01" / "000"):
            (folder / name).touch()
    (tmp_path / ".git" / "a" / "b").mkdir(parents=True)
    assert [(s.name, s.files) for s in scan_tree(tmp_path)] == [("001/nm-01/000", ("1.PNG",))]


def test_names_that_differ_in_case_stay_separate(tmp_path):
    for name in ("ab/nm-01/000/f.png", "AB/nm-01/000/f.png", "ab/NM-01/000/F.png", "ab/nm-01/000/F.png"):
        touch(tmp_path / name)
    found = {s.name: s.files for s in scan_tree(tmp_path)}
    assert found == {"AB/nm-01/000": ("f.png",), "ab/NM-01/000": ("F.png",), "ab/nm-01/000": ("F.png", "f.png")}


def test_folder_without_read_permission_is_reported_in_one_line(tmp_path, monkeypatch):
    touch(tmp_path / "001" / "nm-01" / "000" / "1.png")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("nm-01"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(.*nm-01: Permission denied\)"):
        scan_tree(tmp_path)


def test_scan_shows_a_progress_bar_unless_quiet(tmp_path, monkeypatch):
    for name in ("001", "002"):
        (tmp_path / name / "nm-01" / "000").mkdir(parents=True)
        (tmp_path / name / "nm-01" / "000" / "1.png").touch()
    shown = []

    def bar(things, **how):
        shown.append((len(things), how["unit"], how["quiet"]))
        return things

    monkeypatch.setattr("model.data.raw.tree.progress_bar", bar)
    assert len(scan_tree(tmp_path)) == len(scan_tree(tmp_path, quiet=False)) == 2
    assert shown == [(2, "subjects", True), (2, "subjects", False)]
