"""Listing of the sequences in trees of silhouettes, and errors for other trees."""

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from model.common.errors import UsageError, UserError, one_line
from model.common.messages import set_up_logging
from model.common.natural_order import natural_key
from model.data.raw import tree_errors
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


def test_pickles_and_a_sequence_without_frames_are_listed(tmp_path):
    for name in ("000/000.pkl", "018/018.pkl", "018/018-pose.pkl"):
        touch(tmp_path / "001" / "nm-01" / name)
    (tmp_path / "001" / "nm-01" / "090").mkdir()
    sequences = scan_tree(tmp_path)
    assert [s.files for s in sequences] == [("000.pkl",), ("018-pose.pkl", "018.pkl"), ()]
    assert [s.is_pickle for s in sequences] == [True, True, False]


# For each case: the only file, the folder that is given, and a part of the message. {} is the folder of the test.
MISPLACED = {
    "two levels deeper": (
        "DatasetB-1/silhouettes/001/nm-01/000/1.png", "", "{}: the first frame is {}/DatasetB-1/silhouettes/001/nm-01/"
        "000/1.png, 2 levels too deep: give {}/DatasetB-1/silhouettes; expected ROOT",
    ),
    "one level deeper": ("a b/001/nm-01/000/1.BMP", "", "1.BMP, 1 level too deep: give {}/a b; expected ROOT"),
    "four levels deeper": ("a/b/c/d/001/nm-01/000/000.pkl", "", "000.pkl, 4 levels too deep: give {}/a/b/c/d;"),
    "HID": (
        "0001/003/1.jpg", "", "{}/0001/003: contains frames (such as 1.jpg), so the level <view> is missing: for ROOT/"
        "<subject>/<sequence>/<frames>, run pretreatment.py with --layout hid; if {} is the folder of a subject, give ",
    ),
    "OU-MVLP": ("Silhouette_000-00/00001/1.png", "", "level <view> is missing: run pretreatment.py with --layout oumv"),
    "CASIA-A": ("fyc/45_1/1.png", "", "the level <view> is missing: run pretreatment.py with --layout casia-a"),
    "OU-MVLP, one level deeper": (
        "x/Silhouette_000-00/00001/1.png", "", "run pretreatment.py with --layout oumvlp on {}/x",
    ),
    "OU-MVLP, two levels deeper": (
        "x/y/Silhouette_000-00/00001/1.png", "", "run pretreatment.py with --layout oumvlp on {}/x/y",
    ),
    "pickles without views": ("0001/003/003.pkl", "", "move each pickle to a folder of its view, such as 0001/003/000"),
    "the folder of a subject": ("001/nm-01/090/1.png", "001", "{}/001 appears to be the folder of a subject: give {};"),
    "the folder of a take": ("001/nm-01/090/1.png", "001/nm-01", "lacks 2 of 3 levels of folders; if {}/001/nm-01 is a "
                             "part of a tree, give {};"),
    "the folder of a sequence": ("001/nm-01/090/1.png", "001/nm-01/090", "not the root of a tree; if it is the folder "
                                 "of a sequence, give {};"),
    "archives": ("DatasetB/001.tar.gz", "", "contains no images; the first file is {}/DatasetB/001.tar.gz, unpack"),
    "other files": ("001/nm-01/000/10.npy", "", "contains no images; the first file is {}/001/nm-01/000/10.npy; exp"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISPLACED.values(), ids=MISPLACED.keys())
def test_scan_names_the_missing_level_or_the_folder_to_give(tmp_path, case):
    file, given, message = case
    touch(tmp_path / file)
    (tmp_path / "empty" / "a" / "b").mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        scan_tree(tmp_path / given)
    assert message.replace("{}", str(tmp_path)) in str(caught.value)
    assert "; expected ROOT/<subject>/" in str(caught.value) or "--layout oumvlp on" in str(caught.value)


def test_the_folder_that_the_error_names_can_be_scanned(tmp_path):
    touch(tmp_path / "a" / "b" / "001" / "nm-01" / "000" / "1.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    with pytest.raises(UserError) as caught:
        scan_tree(tmp_path)
    advised = str(caught.value).partition(": give ")[2].partition(";")[0]
    assert [s.name for s in scan_tree(advised)] == ["001/nm-01/000"]


def test_the_search_for_a_frame_ends_after_a_number_of_folders(tmp_path, monkeypatch):
    for name in ("1", "2", "3", "4", "5"):
        (tmp_path / name).mkdir()
    touch(tmp_path / "6" / "a" / "b" / "c" / "1.png")
    monkeypatch.setattr(tree_errors, "MAX_SEARCHED_FOLDERS", 3)
    listed = Mock(wraps=os.scandir)
    monkeypatch.setattr(os, "scandir", listed)
    assert tree_errors._first_files(tmp_path) == (None, None)
    assert str(tmp_path / "4") not in map(str, (call.args[0] for call in listed.call_args_list))


LAYOUT_CASES = {
    "oumvlp": {
        "Silhouette_015-00/00010": "00010/00/015", "Silhouette_015-01/00010": "00010/01/015",
        "Silhouette_015-00/00002": "00002/00/015", "Silhouette_000-00/00010": "00010/00/000", "180_00/1": "1/00/180",
    },
    "casia-a": {"fyc/00_1": "fyc/nm-01/000", "fyc/45_4": "fyc/nm-04/045", "hy/90_2": "hy/nm-02/090"},
    "hid": {"10/1": "10/1/000", "2/10": "2/10/000", "2/9": "2/9/000"},
    "casia-b": {"001/nm-01/000": "001/nm-01/000"},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUT_CASES)
def test_layouts_give_the_labels_in_natural_order(tmp_path, layout):
    for folder in LAYOUT_CASES[layout]:
        touch(tmp_path / folder / "1.png")
    (tmp_path / "lists" / "of").mkdir(parents=True)  # a folder without frames whose name does not fit the layout
    found = {s.path.relative_to(tmp_path).as_posix(): s.name for s in scan_tree(tmp_path, layout=layout) if s.files}
    assert found == LAYOUT_CASES[layout]
    assert list(found.values()) == sorted(found.values(), key=lambda name: [natural_key(p) for p in name.split("/")])


@pytest.mark.parametrize(
    ("layout", "files", "message"),
    [
        ("oumvlp", ["001/nm-01/1.png"], "{}/001/nm-01: does not fit --layout oumvlp; expected ROOT/Silhouette_<view>"),
        ("casia-a", ["fyc/side/1.png"], "{}/fyc/side: does not fit --layout casia-a; expected ROOT/<subject>/<view>_"),
        ("oumvlp", ["000-00/1/1.png", "Silhouette_000-00/1/1.png"], "are the sequence 1/00/000 in --layout oumvlp"),
        ("casia-a", ["fyc/45_1/1.png", "fyc/045_1/1.png"], "are the sequence fyc/nm-01/045 in --layout casia-a"),
        ("hid", ["001/nm-01/000/1.png"], "1 level too deep: give {}/001 or omit --layout; expected ROOT/<subject>"),
        ("hid", ["001/1.png"], "{}/001: contains frames (such as 1.png), so the tree lacks 1 of 2 levels of folders"),
        ("hid", ["1/2/1.png", "1/3/x/1.png"], "{}/1/3/x: contains frames (such as 1.png) one level too deep"),
        ("casia-b", ["1/a/0/1.png", "2.png"], "{}: contains frames (such as 2.png) next to folders: move"),
        ("casia-b", ["1/a/0/1.png", "1/2.png"], "{}/1: contains frames (such as 2.png) next to folders: move"),
        ("casia-b", ["1/a/0/1.png", "1/a/2.png"], "{}/1/a: contains frames (such as 2.png) next to folders: move"),
        ("casia-b", ["1/a/0/1.png", "1/a/1/x/2.png"], "{}/1/a/1/x: contains frames (such as 2.png) one level too deep"),
    ],
)
def test_trees_that_do_not_fit_the_layout_are_rejected(tmp_path, layout, files, message):
    for file in files:
        touch(tmp_path / file)
    with pytest.raises(UserError) as caught:
        scan_tree(tmp_path, layout=layout)
    error = str(caught.value)
    assert message.replace("{}", str(tmp_path)) in error and error == one_line(error)
    assert "; expected ROOT/" in error or "rename one of the folders" in error


def test_scan_rejects_missing_folders_and_trees_without_images(tmp_path):
    (tmp_path / "001" / "nm-01").mkdir(parents=True)
    file = touch(tmp_path / "file")
    for path, kind, message in (
        (tmp_path / "missing", UsageError, "no such folder"),
        (file, UsageError, "is a file"),
        (tmp_path, UserError, f"no images; the first file is {file}; expected"),
    ):
        with pytest.raises(kind, match=message):
            scan_tree(path)


def test_natural_key_orders_numbers_by_value_and_mixes_with_words():
    names = ["b", "10", "2", "a10", "a9", "02", "001-nm-01-000-010.png", "001-nm-01-000-009.png"]
    ordered = sorted(names, key=natural_key)
    for first, second in (("2", "10"), ("a9", "a10"), ("001-nm-01-000-009.png", "001-nm-01-000-010.png")):
        assert ordered.index(first) < ordered.index(second)
    assert sorted(["01", "1", "001"], key=natural_key) == ["001", "01", "1"]


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
    (tmp_path / "again").symlink_to(tmp_path)  # a link to the tree inside the tree, so its frames are too deep
    with pytest.raises(UserError, match="too deep"):
        scan_tree(tmp_path)


def test_hidden_files_and_files_of_operating_systems_are_ignored(tmp_path):
    touch(tmp_path / "001/nm-01/000/1.PNG")
    for name in ("Thumbs.db", ".DS_Store", "._1.png", ".b.png", "desktop.ini", "notes.txt", ".data/record.json"):
        for folder in (".", "001", "001/nm-01", "001/nm-01/000"):
            touch(tmp_path / folder / name)
    for folder in (".cache/nm-01/000", "001/nm-01/.000.77.part"):
        touch(tmp_path / folder / "a.png")
    (tmp_path / ".git/a/b").mkdir(parents=True)
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
    """tqdm shows a bar on a terminal if `disable` is None."""
    for name in ("001", "002"):
        touch(tmp_path / name / "nm-01" / "000" / "1.png")
    bar = Mock(side_effect=lambda things, **how: things)
    monkeypatch.setattr("model.common.messages.tqdm", bar)
    for quiet, main_process in ((True, True), (False, False), (False, True)):
        set_up_logging(quiet, main_process)
        assert len(scan_tree(tmp_path)) == 2
    shown = [(len(call.args[0]), call.kwargs["unit"], call.kwargs["disable"]) for call in bar.call_args_list]
    assert shown == [(2, " subjects", True), (2, " subjects", True), (2, " subjects", None)]
