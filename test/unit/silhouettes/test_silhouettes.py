"""Tests of the silhouettes of videos: correct masks, resuming, the preview, and errors."""

import json
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scripts import load_script
from videos import segmented, write_pictures

from model.common.errors import UserError
from model.data.raw.folders import VIDEO_RECORDS
from model.data.raw.pretreatment import pretreat
from model.data.raw.pretreatment_report import LogFile
from model.data.raw.video import Video
from model.silhouettes.__main__ import main
from model.silhouettes.preview import draw
from model.synthetic.settings import WalkerSettings
from model.synthetic.video import film, write_video

pytestmark = pytest.mark.slow

WALKERS = WalkerSettings(subjects=3, takes=("nm-01",))


def run(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["silhouettes", *map(str, arguments)])
    return main()


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("video") / "walk.mp4"
    write_video(path, WALKERS)
    return path


@pytest.fixture(scope="module")
def tree(video) -> Path:
    segmented(video, video.parent / "tree")
    return video.parent / "tree"


def frames_of(tree: Path) -> dict[str, dict[int, np.ndarray]]:
    """Return the silhouettes by track and by number of the frame, bool."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for path in sorted(tree.glob("*/*/*/*.png")):
        number = int(path.stem.rpartition("-")[2])
        found.setdefault(path.parts[-4], {})[number] = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127
    return found


def test_silhouettes_of_the_synthetic_video_match_the_correct_masks(tree):
    scenes = [scene.masks for scene in film(WALKERS)]
    found = frames_of(tree)
    assert list(found) == ["walk-001", "walk-002", "walk-003"]
    walkers = set()
    for sils in found.values():
        assert len(sils) >= 46
        overlap = np.array([[(sil & m).sum() / (sil | m).sum() for m in scenes[n - 1]] for n, sil in sils.items()])
        walkers.add(int(overlap.mean(0).argmax()))
        assert overlap.max(1).mean() >= 0.85
        assert (overlap.argmax(1) == overlap.mean(0).argmax()).all(), "a track switches between walkers"
    assert walkers == {0, 1, 2}


def test_pretreatment_reads_the_tree_and_names_the_next_step(tree, tmp_path, monkeypatch, capsys):
    paths = ["--input_path", tree, "--output_path", tmp_path / "aligned tree", "--log_file", tmp_path / "log"]
    monkeypatch.setattr(sys, "argv", ["pretreatment.py", *map(str, [*paths, "--worker_num", 1])])
    assert load_script("pretreatment").main() == 0
    printed = capsys.readouterr().out
    frames = sum(map(len, frames_of(tree).values()))
    assert f"3 sequences: 3 done, 0 kept from before, 0 empty, 0 short; {frames} frames: {frames} kept" in printed
    expected = f"next: python -m model.identify enroll --gallery people.parquet --data_path '{tmp_path}/aligned tree'"
    assert expected in printed
    assert "train.py" not in printed


def test_a_complete_video_is_skipped_and_a_changed_one_is_done_again(video, tree, tmp_path):
    tree = shutil.copytree(tree, tmp_path / "tree")
    assert segmented(video, tree).seconds == 0
    whole = frames_of(tree)
    next((tree / "walk-002").rglob("*.png")).unlink()
    result = segmented(video, tree)
    assert result.seconds > 0 and result.tracks == {track: len(sils) for track, sils in whole.items()}
    # A damaged record, and then the record of an interrupted run that left a track which the new run does not find.
    (tree / VIDEO_RECORDS / "walk.json").write_text('{"complete": true, "tracks": 3')
    assert segmented(video, tree).seconds > 0
    (tree / VIDEO_RECORDS / "walk.json").write_text('{"complete": false}')
    (tree / "walk-009/walk/000").mkdir(parents=True)
    assert segmented(video, tree).seconds > 0
    assert frames_of(tree).keys() == whole.keys() and not (tree / "walk-009").exists()
    assert segmented(video, tree, min_height=400).tracks == {} and not frames_of(tree)


def test_folders_of_other_programs_are_kept(video, tmp_path):
    (tmp_path / "walk-001/nm-01").mkdir(parents=True)
    with pytest.raises(UserError, match="walk-001: exists, but this command has not written it"):
        segmented(video, tmp_path)
    assert (tmp_path / "walk-001/nm-01").is_dir()


def test_video_and_folder_of_its_frames_give_the_same_people_in_one_tree(video, tmp_path, monkeypatch, capsys):
    folder = write_pictures(tmp_path / "frames", Video.open(video).frames())
    assert run(monkeypatch, "--video", video, folder, "--output", tmp_path / "tree", "--view", "090", "--quiet",
               "--preview", tmp_path / "preview.gif") == 0  # fmt: skip
    found = frames_of(tmp_path / "tree")
    assert [len(found[f"walk-00{n}"]) for n in (1, 2, 3)] == [len(found[f"frames-00{n}"]) for n in (1, 2, 3)]
    assert all((tmp_path / f"tree/walk-00{n}/walk/090").is_dir() for n in (1, 2, 3))
    assert {p.name for p in tmp_path.glob("*.gif")} == {"preview-walk.gif", "preview-frames.gif"}
    assert len(re.findall(r"48 frames, 3 sequences, \d+ frames/s", capsys.readouterr().out)) == 2


def test_videos_at_once_give_the_same_files_as_one_after_the_other(video, tmp_path, monkeypatch, capsys):
    videos = [video, *(video.with_stem(name) for name in ("second", "third"))]
    write_video(videos[1], replace(WALKERS, seed=3))
    write_video(videos[2], replace(WALKERS, seed=4, frames=40))
    found = {}
    for cores in (1, 2):
        monkeypatch.setattr("model.silhouettes.__main__.core_count", lambda: cores)  # noqa: B023, called at once
        tree = tmp_path / str(cores)
        options = ["--output", tree, "--preview", tmp_path / f"{cores}.gif", "--quiet"]
        assert run(monkeypatch, "--video", *videos, *options) == 0
        lines = re.sub(r"\d+ frames/s|/[12](?=[-. ])", "", capsys.readouterr().out).splitlines()
        files = {path.relative_to(tree).as_posix(): path.read_bytes() for path in tree.rglob("*.png")}
        previews = [(tmp_path / f"{cores}-{path.stem}.gif").read_bytes() for path in videos]
        found[cores] = lines, files, previews
    assert found[1] == found[2] and len(found[1][1]) > 300
    assert [line.split(":")[0] for line in found[2][0][::2]][:3] == [str(path) for path in videos]


def test_an_error_in_one_of_several_videos_is_reported(video, tmp_path, monkeypatch):
    monkeypatch.setattr("model.silhouettes.__main__.core_count", lambda: 2)
    still = write_pictures(tmp_path / "still", [np.zeros((64, 64, 3), np.uint8)] * 3)
    with pytest.raises(UserError, match="nothing moves in its 3 frames"):
        run(monkeypatch, "--video", still, video, "--output", tmp_path / "tree", "--quiet")


def test_preview_shows_every_frame_with_boxes(video, tree, tmp_path, monkeypatch):
    assert run(monkeypatch, "--video", video, "--output", tree, "--preview", tmp_path / "preview.mp4") == 0
    preview = Video.open(tmp_path / "preview.mp4")
    frames = list(preview.frames())
    assert len(frames) == 48 and preview.size == (480, 640) and preview.fps == 25
    difference = np.abs(frames[30].astype(int) - list(Video.open(video).frames())[30]).max(2) > 60
    boxes = [cv2.boundingRect(sils[31].astype(np.uint8)) for sils in frames_of(tree).values() if 31 in sils]
    assert len(boxes) == 3
    for x, y, width, height in boxes:
        assert difference[y - 3 : y + height + 2, x - 3].mean() > 0.5, "the left side of the box"
        difference[max(0, y - 30) : y + height + 8, max(0, x - 8) : x + width + 8] = False
    assert difference.sum() < 50, "nothing else is drawn"


def test_draw_keeps_the_frame():
    frame = np.full((60, 40, 3), 100, np.uint8)
    mask = np.zeros((60, 40), np.uint8)
    mask[20:50, 10:20] = 255
    drawn = draw(frame, [(1, mask)])
    assert (frame == 100).all() and (drawn[30, 15] != 100).any() and (drawn[:5, 30:] == 100).all()


def test_a_truncated_video_gives_a_warning_and_one_without_frames_an_error(video, tmp_path, monkeypatch, capsys):
    path = tmp_path / "walk.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (640, 480))
    for frame in Video.open(video).frames():
        writer.write(frame)
    writer.release()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    assert run(monkeypatch, "--video", path, "--output", tmp_path / "tree", "--json", tmp_path / "s.json") == 0
    result = json.loads((tmp_path / "s.json").read_text())["walk"]
    assert 30 <= result["frames"] <= 40 and result["tracks"]
    assert f"only {result['frames']} of its 48 frames can be decoded" in capsys.readouterr().out
    path.write_bytes(content[: content.index(b"movi") + 4])
    with pytest.raises(UserError, match=r"walk\.avi: no frame can be decoded"):
        Video.open(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--segmenter", "maskrcnn"), "--weights FILE belong together"),
        (("--weights", "x.pth"), "--weights FILE belong together"),
        (("--min_height", "300"), "no sequence: nobody is alone, complete and at least 300 pixels high for 25 frames"),
    ],
)
def test_options_that_cannot_work(video, tmp_path, monkeypatch, arguments, message):
    with pytest.raises(UserError, match=message):
        run(monkeypatch, "--video", video, "--output", tmp_path / "tree", "--quiet", *arguments)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--view", "a/b", "a file name without / that does not start with a dot"),
        ("--preview", "x.avi", "a file that ends in .mp4 or .gif"),
    ],
)
def test_values_of_the_wrong_kind(monkeypatch, capsys, option, value, expected):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "--video", "walk.mp4", "--output", "tree", option, value)
    assert f"argument {option}: must be {expected}" in capsys.readouterr().err


def test_two_videos_of_one_name(video, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"two of walk\.mp4, walk\.mp4 have the same name"):
        run(monkeypatch, "--video", video, video, "--output", tmp_path / "tree")


@pytest.mark.parametrize("option", ["--preview", "--json"])
def test_the_video_is_not_overwritten(video, tmp_path, monkeypatch, option):
    path = Path(shutil.copy(video, tmp_path / "walk.mp4"))
    with pytest.raises(UserError, match=r"walk\.mp4: is read by the command"):
        run(monkeypatch, "--video", path, "--output", tmp_path / "tree", option, tmp_path / "tree" / ".." / "walk.mp4")
    assert path.read_bytes() == video.read_bytes()


def test_pedestrians_of_a_real_video(tmp_path, monkeypatch):
    given = Path(os.environ.get("GAITSET_REAL_DATA", ""))
    found = [folder / "vtest.avi" for folder in (given, given.parent) if (folder / "vtest.avi").is_file()]
    if not os.environ.get("GAITSET_REAL_DATA") or not found:
        pytest.skip("vtest.avi of OpenCV's samples is not in GAITSET_REAL_DATA or its parent folder")
    assert run(monkeypatch, "--video", found[0], "--output", tmp_path, "--quiet") == 0
    sequences = frames_of(tmp_path)
    assert len(sequences) >= 20 and min(map(len, sequences.values())) >= 25
    summary = pretreat(tmp_path, tmp_path.with_name("aligned"), 1, log=LogFile(tmp_path / "log"))
    assert summary.kept == sum(map(len, sequences.values()))
