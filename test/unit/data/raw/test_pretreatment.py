"""Pretreatment of whole trees: outputs, layouts, errors and the command."""

import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from raw_trees import BLACK, SEQUENCE, assert_aligned, contents, images, pretreat, silhouette, write
from scripts import run_script

from model.common.errors import UsageError, UserError
from model.common.lock import locked
from model.data.raw.pretreatment_report import LogFile
from model.data.raw.silhouette import align, read_image
from model.data.raw.tree import scan_tree


def test_each_frame_is_aligned_and_keeps_its_name(raw, aligned):
    summary = pretreat(raw, aligned)
    assert_aligned(raw, aligned)
    assert (summary.sequences, summary.done, summary.kept, summary.frames_worked_on) == (4, 4, 24, 24)
    assert not summary.failed and not summary.problems and summary.frames_per_second > 0
    assert [s.files for s in scan_tree(aligned)] == [s.files for s in scan_tree(raw)]


def test_one_and_two_workers_write_the_same_bytes(raw, tmp_path):
    one, two = (pretreat(raw, tmp_path / str(workers), workers=workers) for workers in (1, 2))
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert (one.kept, one.done, one.frames_worked_on) == (two.kept, two.done, two.frames_worked_on)


def test_colour_becomes_grey_and_paths_contain_any_characters(tmp_path):
    raw, aligned = tmp_path / "原始 数据" / "raw", tmp_path / "对齐 后"
    for frame in range(5):
        colour = cv2.cvtColor(silhouette(frame), cv2.COLOR_GRAY2BGR)
        write(raw / "张三" / "nm-01" / "0 90" / f"帧 {frame}.PNG", colour)
    pretreat(raw, aligned, workers=2)
    for frame in range(5):
        made = read_image(aligned / "张三" / "nm-01" / "0 90" / f"帧 {frame}.png")
        np.testing.assert_array_equal(made, align(silhouette(frame)))


# Errors


def test_unreadable_images_are_reported_skipped_counted_and_retried(pretreated, capsys):
    raw, aligned = pretreated
    empty, cut, text = (raw / SEQUENCE / f"f-00{n}.png" for n in (1, 3, 5))
    empty.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:-20])
    text.write_text("no image")
    for skip_bad in (False, True):
        summary = pretreat(raw, aligned, skip_bad=skip_bad)
        assert summary.failed != skip_bad
        assert (summary.unreadable, summary.kept, summary.short) == (3, 21, 1)
        errors = capsys.readouterr().err
        assert f"{empty}: empty file" in errors and f"{cut}: truncated" in errors and str(text) in errors
        frames = [path.name for path in (aligned / SEQUENCE).glob("*.png")]
        assert sorted(frames) == ["f-002.png", "f-004.png", "f-006.png"], "aligned frames of damaged images are deleted"
    assert summary.frames_worked_on == 3
    write(empty, silhouette(5))
    assert pretreat(raw, aligned).unreadable == 2
    assert read_image(aligned / SEQUENCE / "f-001.png").shape == (64, 64)


def test_sequences_with_few_frames_cause_warnings(raw, aligned, tmp_path, capsys):
    for frame in range(6):
        write(raw / "007" / "dark-01" / "000" / f"{frame}.png", BLACK)
    for frame in range(4):
        write(raw / "007" / "four-01" / "000" / f"{frame}.png", silhouette(frame))
    (raw / "007" / "none-01" / "000").mkdir(parents=True)
    for _ in range(2):  # the second run warns again
        summary = pretreat(raw, aligned, log=LogFile(tmp_path / "log"))
        errors = capsys.readouterr().err
        assert (summary.empty, summary.short, summary.dropped, summary.failed) == (2, 1, 6, False)
        assert "007/dark-01/000: none of 6" in errors and "007/four-01/000: only 4 of 4" in errors
        assert "007/none-01/000: none of 0" in errors and SEQUENCE not in errors
    assert summary.frames_worked_on == 0


def test_log_file_has_the_format_of_the_original(raw, tmp_path):
    write(raw / "001/nm-01/090/dark.png", BLACK)
    pretreat(raw, tmp_path / "a", log=LogFile(tmp_path / "warnings.log"))
    lines = (tmp_path / "warnings.log").read_text().splitlines()
    assert lines == ["# JOB 1 : --WARNING-- 001/nm-01/090/dark.png: dropped, empty: all pixels are equal"]
    pretreat(raw, tmp_path / "b", log=LogFile(tmp_path / "all.log", True))
    kinds = [line.split("--")[1] for line in (tmp_path / "all.log").read_text().splitlines()]
    assert kinds == ["START", "FINISH", "WARNING", *["FINISH"] * 4]


def test_pretreat_rejects_two_frames_with_one_output_name(raw, aligned):
    write(raw / SEQUENCE / "f-002.bmp", silhouette(1))
    with pytest.raises(UserError, match=r"f-002\.(bmp|png) and f-002\.(bmp|png) would both be written as f-002\.png"):
        pretreat(raw, aligned)


def test_pretreat_rejects_an_aligned_tree_in_each_layout(pretreated, tmp_path):
    _, aligned = pretreated
    shutil.copytree(aligned / SEQUENCE, tmp_path / "hid" / "001" / "003")
    for tree, layout, advice in ((aligned, "casia-b", ""), (tmp_path / "hid", "hid", ", move the frames to ROOT/<sub")):
        with pytest.raises(UsageError, match=rf"already aligned.*skip pretreatment{advice}"):
            pretreat(tree, tmp_path / "twice", layout=layout)
        assert not (tmp_path / "twice").exists()


def test_pretreat_rejects_a_tree_of_pickles(raw, aligned):
    (raw / "001" / "nm-01" / "180").mkdir()
    (raw / "001" / "nm-01" / "180" / "000.pkl").write_bytes(b"never opened")
    with pytest.raises(UsageError, match=r"000\.pkl.*skip pretreatment"):
        pretreat(raw, aligned)


@pytest.mark.parametrize("output", ["raw", "raw/aligned", ".", "other/../raw"])
def test_pretreat_rejects_output_inside_input_and_input_inside_output(raw, tmp_path, output):
    (tmp_path / "other").mkdir()
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="must be separate folders"):
        pretreat(raw, tmp_path / output)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("blocked", ["", "001", SEQUENCE])
def test_pretreat_rejects_a_file_at_the_output_path(raw, aligned, blocked):
    (aligned / blocked).parent.mkdir(parents=True, exist_ok=True)
    (aligned / blocked).write_text("in the way")
    with pytest.raises(UserError, match="aligned"):
        pretreat(raw, aligned)
    assert (aligned / blocked).read_text() == "in the way"


# The command


def run(*arguments: object, cwd: Path):
    """Run the command in a new interpreter. A fork of this process would be slower because torch is imported."""
    return run_script("pretreatment.py", *arguments, cwd=cwd, python=sys.executable)


@pytest.mark.slow
def test_command_succeeds_and_writes_its_summary(raw, tmp_path):
    done = run("--input_path", raw, "--output_path", "aligned", "--json", "s.json", "--log", "True", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and "4 sequences: 4 done" in done.stdout
    assert_aligned(raw, tmp_path / "aligned")
    assert json.loads((tmp_path / "s.json").read_text())["kept"] == 24
    assert "--FINISH--" in (tmp_path / "pretreatment.log").read_text()


@pytest.mark.slow
def test_command_exit_status_with_unreadable_images(raw, tmp_path):
    bad = raw / SEQUENCE / "f-002.png"
    bad.write_bytes(b"")
    arguments = ("--input_path", raw, "--output_path", "aligned", "--worker_num", 1)
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1 and str(bad) in done.stderr and "1 unreadable" in done.stdout
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {raw}: 1 of 24 images cannot be read; repair them") and "--skip_bad" in last
    assert "next:" not in done.stdout, "the command failed"
    done = run(*arguments, "--skip_bad", "--quiet", cwd=tmp_path)
    assert done.returncode == 0 and str(bad) in done.stderr and done.stdout == ""
    assert "--FAIL--" in (tmp_path / "pretreatment.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, status, word",
    [
        (["--input_path=missing", "--output_path=o"], 2, "missing"),
        (["--input_path=.", "--output_path=../o"], 1, "too deep"),
        (["--input_path=raw", "--output_path=o", "--log=yes"], 2, "--log"),
        (["--input_path=raw", "--output_path=o", "--worker_num=0"], 2, "--worker_num"),
        (["--input_path=raw"], 2, "--output_path"),
        (["--input_path=raw", "--output_path=o", "--log_file=raw"], 2, "raw"),
    ],
)
def test_command_errors_are_one_line(raw, tmp_path, arguments, status, word):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == status
    assert word in done.stderr and len(done.stderr.splitlines()) == 1


# Concurrent runs and full disks


def test_second_run_with_the_same_output_fails_and_names_the_first(raw, aligned, tmp_path):
    aligned.mkdir(parents=True)
    with locked(aligned / ".pretreatment.lock", "aligned"):
        done = run("--input_path", raw, "--output_path", aligned, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {aligned}: another job is writing there, process {os.getpid()}")
    assert not images(aligned)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("log_all", [False, True])
def test_full_disk_under_the_log_file_is_reported_in_one_line(raw, aligned, log_all):
    write(raw / SEQUENCE / "dark.png", BLACK)  # a warning for the log
    with pytest.raises(UserError, match=r"/dev/full: the log file cannot be written \(No space left on device\)"):
        pretreat(raw, aligned, log=LogFile("/dev/full", log_all))
    pretreat(raw, aligned)
    assert_aligned(raw, aligned)


@pytest.mark.parametrize(
    ("layout", "folder"),
    [("oumvlp", "Silhouette_{view}-01/{subject}"), ("casia-a", "{subject}/{view}_1"), ("hid", "{subject}/{view}")],
)
def test_other_layouts_become_the_usual_tree(pretreated, tmp_path, layout, folder):
    raw, aligned = pretreated
    expected = {}
    for sequence in scan_tree(raw):
        labels = {"oumvlp": ("01", sequence.view), "casia-a": ("nm-01", sequence.view), "hid": (sequence.view, "000")}
        other = tmp_path / "other" / folder.format(view=sequence.view, subject=sequence.subject)
        shutil.copytree(sequence.path, other)
        for name in sequence.files:
            expected["/".join((sequence.subject, *labels[layout], name))] = images(aligned)[f"{sequence.name}/{name}"]
    for worked_on in (24, 0):
        summary = pretreat(tmp_path / "other", tmp_path / "other-64", layout=layout)
        assert summary.frames_worked_on == worked_on and images(tmp_path / "other-64") == expected
