"""Tests of the raw tree, the store, the previews and the command line of the synthetic walkers."""

import json
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from raw_trees import contents, images
from walker_parameters import render_sequence

from model.common.errors import UsageError, run_command
from model.data.raw.silhouette import align, cut_sides, write_png
from model.data.raw.tree import scan_tree
from model.data.store import open_store
from model.synthetic import store_writer
from model.synthetic.__main__ import main
from model.synthetic.preview import animation, contact_sheet, write_animation
from model.synthetic.settings import WalkerSettings
from model.synthetic.store_writer import write_store
from model.synthetic.tree_writer import write_tree

cv2 = pytest.importorskip("cv2")
CPU = torch.device("cpu")
SMALL = WalkerSettings(subjects=2, frames=4, views=("000", "090"), takes=("nm-01", "cl-02"))


@pytest.fixture(scope="module")
def small_tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("small") / "tree"
    write_tree(root, SMALL, workers=1)
    return root


def command(monkeypatch, *arguments: str) -> int:
    """Run the command line in this process and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["synthetic", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    return ended.value.code


# --- the tree ------------------------------------------------------------------------------------------------


def test_a_part_of_the_tree_is_the_same_as_in_the_whole(small_tree, tmp_path):
    part = replace(SMALL, subjects=1, first_subject=2, views=("090",), takes=("cl-02",))
    write_tree(tmp_path / "part", part, workers=1)
    alone = images(tmp_path / "part")
    assert json.loads(alone.pop("synthetic.json"))["complete"] is True and len(alone) == 4
    assert alone.items() <= images(small_tree).items()


@pytest.mark.slow
def test_two_processes_write_the_same_bytes_as_one(small_tree, tmp_path, monkeypatch, capsys):
    arguments = "--subjects 2 --frames 4 --views 090,000 --takes nm-01,cl-02 --worker_num 2 --quiet"
    assert command(monkeypatch, "--output_path", str(tmp_path / "two"), *arguments.split()) == 0
    output, error = capsys.readouterr()
    assert error == ""
    assert output.count("\n") == 1
    assert output.startswith("2 subjects, 8 sequences, 32 frames in ")
    assert images(small_tree) == images(tmp_path / "two")


def test_the_tree_has_the_layout_of_casia_b(tmp_path):
    root = tmp_path / "new" / "tree"
    done = write_tree(root, replace(SMALL, first_subject=9))
    sequences = scan_tree(root)
    names = product(("009", "010"), ("cl-02", "nm-01"), SMALL.views)
    assert [s.name for s in sequences] == ["/".join(name) for name in names]
    assert (done["sequences"], done["frames"]) == (8, 32)
    for sequence in sequences:
        prefix = sequence.name.replace("/", "-")
        assert sequence.files == tuple(f"{prefix}-{frame:03d}.png" for frame in range(1, 5))
        image = cv2.imread(str(sequence.path / sequence.files[0]), cv2.IMREAD_UNCHANGED)
        assert image.shape == (240, 320) and image.dtype == np.uint8 and set(np.unique(image)) == {0, 255}
    assert [path.name for path in root.iterdir() if not path.is_dir()] == ["synthetic.json"]
    assert not list(root.rglob(".*"))
    assert json.loads((root / "synthetic.json").read_text())["complete"] is True


def test_the_files_hold_the_rendered_sequence(small_tree):
    sils = render_sequence(WalkerSettings(frames=4), 1, "cl-02", "090").numpy()
    for number, sil in enumerate(sils, 1):
        path = small_tree / "001" / "cl-02" / "090" / f"001-cl-02-090-{number:03d}.png"
        np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), sil)


def test_a_second_run_restores_missing_frames(tmp_path):
    write_tree(tmp_path, SMALL)
    before = images(tmp_path)
    damaged = tmp_path / "002" / "nm-01" / "090"
    (damaged / "002-nm-01-090-001.png").write_bytes(b"")
    (damaged / "002-nm-01-090-777.png").write_bytes(b"")
    write_tree(tmp_path, SMALL)
    assert images(tmp_path) == before


def test_names_of_many_subjects_sort_like_numbers():
    settings = WalkerSettings(subjects=10_000)
    names = [settings.folder_name(number) for number in settings.subject_numbers]
    assert names == sorted(names) and names[0] == "00001"
    assert WalkerSettings(subjects=124).folder_name(5) == "005"


# --- the store -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [8, 10_000], ids=["a take at a time", "all at once"])
def test_the_store_equals_the_pretreated_tree(small_tree, tmp_path, monkeypatch, most):
    monkeypatch.setattr(store_writer, "RENDER_CHUNK_ON_CPU", most)
    done = write_store(tmp_path / "store", SMALL, CPU)
    store, sequences = open_store(tmp_path / "store"), scan_tree(small_tree)
    assert done["sequences"] == len(sequences) and done["frames"] == len(store.frames)
    assert [store.index.name(position) for position in range(len(store.index))] == [s.name for s in sequences]
    for position, sequence in enumerate(sequences):
        raw = [cv2.imread(str(sequence.path / name), cv2.IMREAD_GRAYSCALE) for name in sequence.files]
        expected = cut_sides(np.stack([sil for sil in map(align, raw) if sil is not None])).astype(int)
        differing = np.abs(store.sequence(position) - expected)
        assert differing.max() <= 1 and (differing > 0).mean() < 1e-3
    description = json.loads((tmp_path / "store" / "synthetic.json").read_text())
    assert description["complete"] is True and description["subjects"] == 2


def test_an_existing_store_is_not_overwritten(tmp_path, monkeypatch, capsys):
    write_store(tmp_path / "store", replace(SMALL, subjects=1), CPU)
    before = (tmp_path / "store" / "frames.u8").read_bytes()
    assert command(monkeypatch, "--store", str(tmp_path / "store"), "--subjects", "1") == 2
    assert "new folder" in capsys.readouterr().err
    assert (tmp_path / "store" / "frames.u8").read_bytes() == before


def test_a_failed_store_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr(store_writer, "write_index", Mock(side_effect=OSError("disk full")))
    with pytest.raises(Exception, match="disk full"):
        write_store(tmp_path / "store", replace(SMALL, subjects=1), CPU)
    assert not list(tmp_path.iterdir())


# --- pictures ------------------------------------------------------------------------------------------------


def test_preview_is_a_picture_with_a_person_in_every_cell(tmp_path):
    takes, views = ("nm-01", "bg-01", "cl-01"), ("000", "090")
    sheet = contact_sheet(WalkerSettings(frames=9, subjects=2, takes=takes, views=views))
    write_png(tmp_path / "sheet.png", sheet.contiguous().numpy())
    image = cv2.imread(str(tmp_path / "sheet.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(image, sheet.numpy())
    cells = image.reshape(6, image.shape[0] // 6, 4, image.shape[1] // 4).transpose(0, 2, 1, 3).reshape(24, -1)
    shares = (cells > 127).mean(1)
    assert shares.min() > 0.08
    assert shares.max() < 0.6


def test_the_preview_shows_the_first_selected_take_of_each_condition(tmp_path, monkeypatch, capsys):
    arguments = "--takes nm-03,nm-05,bg-02,cl-01 --views 090 --subjects 1 --frames 2"
    assert command(monkeypatch, "--preview", str(tmp_path / "sheet.png"), *arguments.split()) == 0
    assert "takes nm-03, bg-02, cl-01, in" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"sheet.png", "sheet.gif"}


def test_the_animation_shows_every_frame(tmp_path):
    takes, views = ("nm-01", "cl-01"), ("000", "090")
    pictures = animation(WalkerSettings(frames=7, noise=0.0, subjects=2, takes=takes, views=views))
    assert len(pictures) == 7 and not torch.equal(pictures[0], pictures[3])
    write_animation(tmp_path / "walk.gif", pictures)
    from PIL import Image

    with Image.open(tmp_path / "walk.gif") as gif:
        assert gif.n_frames == 7 and gif.size == (pictures.shape[2], pictures.shape[1])
        assert gif.info["duration"] == 40 and gif.info["loop"] == 0
        gif.seek(3)
        shown = np.asarray(gif.convert("L")).astype(int)
    assert np.abs(shown - pictures[3].numpy()).mean() < 2


# --- rejected arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, named",
    [
        ("--subjects 0", "--subjects"), ("--frames -3", "--frames"), ("--worker_num 0", "--worker_num"),
        ("--first_subject 0", "--first_subject"), ("--seed -1", "--seed"), ("--noise -0.5", "--noise"),
        ("--noise nan", "--noise"), ("--cameras -1", "--cameras"), ("--gaits x", "--gaits"),
        ("--views 000,017", "'017'"), ("--takes nm-07", "'nm-07'"), ("--takes ,", "--takes"),
        ("--subject 3", "--subject"), ("--store s --device none", "--device"), ("--preview .", "--preview"),
        ("--noise inf", "less than"), ("--seed 99999999999999999999", "--seed"), ("--preview a.gif", ".png"),
        (f"--first_subject {2**63 - 1} --subjects 2", "--first_subject"),
    ],
)  # fmt: skip
def test_bad_arguments_end_with_status_2_and_one_line(tmp_path, monkeypatch, capsys, arguments, named):
    monkeypatch.chdir(tmp_path)
    where = [] if "--store" in arguments else ["--output_path", str(tmp_path / "new")]
    assert command(monkeypatch, *where, *arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert named in error
    assert not list(tmp_path.iterdir())


def test_a_command_without_output_is_rejected(monkeypatch, capsys):
    assert command(monkeypatch, "--subjects", "1") == 2
    assert "--output_path" in capsys.readouterr().err


def test_folders_with_other_content_are_rejected_and_unchanged(tmp_path, monkeypatch, capsys):
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    write_tree(tmp_path / "other", replace(SMALL, subjects=1, seed=1))
    before = contents(tmp_path)
    for name in ("occupied", "file", "other"):
        path = str(tmp_path / name)
        assert command(monkeypatch, "--output_path", path, "--subjects", "1", "--worker_num", "1") == 2
        assert path in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_takes_are_sorted_without_duplicates():
    assert WalkerSettings(takes=("cl-01", "nm-01", "nm-01")).takes == ("nm-01", "cl-01")


@pytest.mark.parametrize("content", ["", "[1]", "[" * 100_000, '{"seed": 7}'], ids=lambda content: content[:9])
def test_a_folder_with_other_settings_is_not_written_to(tmp_path, content):
    (tmp_path / "synthetic.json").write_text(content)
    with pytest.raises(UsageError, match="walkers made with other arguments"):
        write_tree(tmp_path, WalkerSettings(subjects=1, frames=2))
    assert (tmp_path / "synthetic.json").read_text() == content
