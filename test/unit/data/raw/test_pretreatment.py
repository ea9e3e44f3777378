"""Pretreatment of whole trees: outputs, resuming, errors and the command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from raw_trees import assert_aligned, contents, images, make_tree, silhouette, write

from model.common.errors import UsageError, UserError
from model.common.lock import locked
from model.data.raw.aligned_sequence import RECORD_FOLDER
from model.data.raw.pretreatment import pretreat
from model.data.raw.silhouette import align, read_image
from model.data.raw.tree import scan_tree

COMMAND = Path(__file__).resolve().parents[4] / "pretreatment.py"


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(COMMAND), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_each_frame_is_aligned_and_keeps_its_name(tmp_path):
    raw, aligned = make_tree(tmp_path / "raw"), tmp_path / "new" / "aligned"
    summary = pretreat(raw, aligned, 1, quiet=True)
    assert_aligned(raw, aligned)
    assert (summary.sequences, summary.done, summary.kept, summary.frames_worked_on) == (4, 4, 24, 24)
    assert not summary.failed and not summary.problems and summary.frames_per_second > 0
    assert [s.files for s in scan_tree(aligned)] == [s.files for s in scan_tree(raw)]


def test_one_and_two_workers_write_the_same_bytes(tmp_path):
    raw = make_tree(tmp_path / "raw")
    one, two = (pretreat(raw, tmp_path / str(workers), workers, quiet=True) for workers in (1, 2))
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert (one.kept, one.done, one.frames_worked_on) == (two.kept, two.done, two.frames_worked_on)


@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".PNG"])
def test_other_image_formats_become_png(tmp_path, suffix):
    raw = make_tree(tmp_path / "raw", 1, suffix=suffix)
    pretreat(raw, tmp_path / "aligned", 1, quiet=True)
    assert_aligned(raw, tmp_path / "aligned")


def test_colour_becomes_grey_and_paths_contain_any_characters(tmp_path):
    raw = tmp_path / "原始 数据" / "raw"
    for frame in range(5):
        colour = cv2.cvtColor(silhouette(frame), cv2.COLOR_GRAY2BGR)
        write(raw / "张三" / "nm-01" / "0 90" / f"帧 {frame}.png", colour)
    pretreat(raw, tmp_path / "对齐 后", 2, quiet=True)
    for frame in range(5):
        wanted = align(silhouette(frame))
        made = read_image(tmp_path / "对齐 后" / "张三" / "nm-01" / "0 90" / f"帧 {frame}.png")
        np.testing.assert_array_equal(made, wanted)


# Resuming


def test_a_second_run_does_nothing(tmp_path):
    raw = make_tree(tmp_path / "raw")
    write(raw / "001" / "nm-01" / "000" / "dark.png", np.zeros((90, 120), np.uint8))
    first = pretreat(raw, tmp_path / "aligned", 1, quiet=True)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "aligned").rglob("*")}
    second = pretreat(raw, tmp_path / "aligned", 1, quiet=True)
    assert (second.done, second.unchanged, second.frames_worked_on) == (0, 4, 0)
    assert (second.kept, second.dropped) == (first.kept, first.dropped) == (24, 1)
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "aligned").rglob("*")}


def test_only_missing_damaged_and_changed_frames_are_processed_again(tmp_path):
    raw, aligned = make_tree(tmp_path / "raw"), tmp_path / "aligned"
    pretreat(raw, aligned, 1, quiet=True)
    before = {p: p.stat().st_mtime_ns for p in aligned.rglob("*.png")}
    (aligned / "001/nm-01/000/f-001.png").unlink()
    truncated = aligned / "001/nm-01/000/f-003.png"
    truncated.write_bytes(truncated.read_bytes()[:-5])
    (aligned / "001/nm-01/000/f-004.png").write_bytes(b"")
    changed = write(raw / "002/nm-01/000/f-002.png", silhouette(999))
    os.utime(changed, ns=(1, 1))
    write(raw / "002/nm-01/090/f-007.png", silhouette(998))
    dark = write(
        raw / "002/nm-01/090/f-001.png", np.zeros((90, 120), np.uint8)
    )  # this frame is dropped in the second run
    os.utime(dark, ns=(1, 1))
    (raw / "002/nm-01/090/f-002.png").unlink()
    summary = pretreat(raw, aligned, 1, quiet=True)
    assert (summary.frames_worked_on, summary.done, summary.unchanged) == (6, 3, 1)
    assert_aligned(raw, aligned)
    redone = {p.name for p in aligned.rglob("*.png") if before.get(p) != p.stat().st_mtime_ns}
    assert redone == {"f-001.png", "f-002.png", "f-003.png", "f-004.png", "f-007.png"}
    pretreat(raw, tmp_path / "clean", 1, quiet=True)
    assert images(aligned) == images(tmp_path / "clean")
    assert pretreat(raw, aligned, 1, quiet=True).frames_worked_on == 0


FRAMES = b'{"version": 1, "frames": %b}'


@pytest.mark.parametrize(
    "record",
    [
        *(None, b"", b"[]", b'{"version": 0, "frames": {}}', b"[" * 100_000, b"\xff"),
        *(FRAMES % frames for frames in (b"[]", b"5", b'{"f-001.png": 5}', b'{"f-001.png": []}')),
        *(FRAMES % (b'{"f-001.png": [%b]}' % entry) for entry in (b"1, 2", b'1, 2, "3"', b"[1], 2, 3", b"1.5, 2, 3")),
        b'{"version": 1, "frames": {}, "dropped": [1]}',
        b'{"version": 1, "frames": {}, "dropped": {"f-001.png": []}}',
    ],
    ids=lambda record: None if record is None else repr(record[:40]),
)
def test_sequence_without_a_valid_record_is_processed_again(tmp_path, record):
    raw, aligned = make_tree(tmp_path / "raw", 2), tmp_path / "aligned"
    pretreat(raw, aligned, 1, quiet=True)
    clean = contents(aligned)
    file = aligned / "001" / "nm-01" / "000" / RECORD_FOLDER / "record.json"
    file.unlink() if record is None else file.write_bytes(record)
    assert pretreat(raw, aligned, 1, quiet=True).frames_worked_on == 6
    assert contents(aligned) == clean


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_next_run_finishes_a_stopped_run(tmp_path, number):
    raw, aligned = make_tree(tmp_path / "raw", sequences=60, frames=30), tmp_path / "aligned"
    command = [sys.executable, str(COMMAND), f"--input_path={raw}", f"--output_path={aligned}", "--worker_num=2"]

    def enable_interrupts():
        """Shells ignore SIGINT in background jobs, and the command would inherit this."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=enable_interrupts,
    )  # fmt: skip
    while process.poll() is None and len(list(aligned.glob("*/nm-01/000"))) < 2:
        time.sleep(0.001)  # wait until the run has finished some sequences
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), errors
    assert number == signal.SIGKILL or errors.decode().strip() == "interrupted"
    done = [s for s in scan_tree(aligned) if s.files]
    assert 2 <= len(done) < 60, "stopped between the first and the last sequence"
    assert all(len(s.files) == 30 for s in done), "a sequence is complete or absent"
    if number == signal.SIGINT:
        assert not list(aligned.rglob("*.part"))
    summary = pretreat(raw, aligned, 1, quiet=True)
    assert summary.done > 0 and summary.unchanged >= 2
    pretreat(raw, tmp_path / "clean", 1, quiet=True)
    assert contents(aligned) == contents(tmp_path / "clean")


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    raw, aligned = make_tree(tmp_path / "raw", 1), tmp_path / "aligned"
    # A worker of the killed run can survive for a moment, so a running process does not protect its folder.
    part = f".000.{os.getppid()}.part"
    write(aligned / "001" / "nm-01" / part / "f-001.png", silhouette(1))
    pretreat(raw, aligned, 1, quiet=True)
    assert_aligned(raw, aligned)


# Errors


def test_unreadable_images_are_reported_skipped_counted_and_retried(tmp_path, capsys):
    raw, aligned = make_tree(tmp_path / "raw"), tmp_path / "aligned"
    empty, cut, text = (raw / "001" / "nm-01" / "000" / f"f-00{n}.png" for n in (1, 3, 5))
    empty.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:-20])
    text.write_text("no image")
    for skip_bad in (False, True):
        summary = pretreat(raw, aligned, 1, quiet=True, skip_bad=skip_bad)
        assert summary.failed != skip_bad
        assert (summary.unreadable, summary.kept, summary.short) == (3, 21, 1)
        errors = capsys.readouterr().err
        assert f"{empty}: empty file" in errors and f"{cut}: truncated" in errors and str(text) in errors
    assert summary.frames_worked_on == 3
    write(empty, silhouette(5))
    assert pretreat(raw, aligned, 1, quiet=True).unreadable == 2
    assert read_image(aligned / "001" / "nm-01" / "000" / "f-001.png").shape == (64, 64)


def test_stale_frame_of_a_damaged_image_is_deleted(tmp_path):
    raw, aligned = make_tree(tmp_path / "raw", 1), tmp_path / "aligned"
    pretreat(raw, aligned, 1, quiet=True)
    (raw / "001" / "nm-01" / "000" / "f-002.png").write_bytes(b"")
    assert pretreat(raw, aligned, 1, quiet=True).failed
    assert not (aligned / "001" / "nm-01" / "000" / "f-002.png").exists()


def test_sequences_with_few_frames_cause_warnings(tmp_path, capsys):
    raw = make_tree(tmp_path / "raw", 1)
    for frame in range(6):
        write(raw / "007" / "dark-01" / "000" / f"{frame}.png", np.zeros((90, 120), np.uint8))
    for frame in range(4):
        write(raw / "007" / "four-01" / "000" / f"{frame}.png", silhouette(frame))
    (raw / "007" / "none-01" / "000").mkdir(parents=True)
    for _ in range(2):  # the second run warns again
        summary = pretreat(raw, tmp_path / "aligned", 1, quiet=True, log_file=tmp_path / "log")
        errors = capsys.readouterr().err
        assert (summary.empty, summary.short, summary.dropped, summary.failed) == (2, 1, 6, False)
        assert "007/dark-01/000: none of 6" in errors and "007/four-01/000: only 4 of 4" in errors
        assert "007/none-01/000: none of 0" in errors and "001/nm-01/000" not in errors
    assert summary.frames_worked_on == 0


def test_log_file_has_the_format_of_the_original(tmp_path):
    raw = make_tree(tmp_path / "raw", 2)
    dark = write(raw / "001" / "nm-01" / "090" / "dark.png", np.zeros((90, 120), np.uint8))
    pretreat(raw, tmp_path / "a", 1, quiet=True, log_file=tmp_path / "warnings.log")
    lines = (tmp_path / "warnings.log").read_text().splitlines()
    assert lines == [f"# JOB 1 : --WARNING-- 001/nm-01/090/{dark.name}: dropped, empty: all pixels are equal"]
    pretreat(raw, tmp_path / "b", 1, quiet=True, log_file=tmp_path / "all.log", log_all=True)
    kinds = [line.split("--")[1] for line in (tmp_path / "all.log").read_text().splitlines()]
    assert kinds == ["START", "FINISH", "WARNING", "FINISH", "FINISH"]


def test_pretreat_rejects_two_frames_with_one_output_name(tmp_path):
    raw = make_tree(tmp_path / "raw", 1)
    write(raw / "001" / "nm-01" / "000" / "f-002.bmp", silhouette(1))
    with pytest.raises(UserError, match=r"f-002\.(bmp|png) and f-002\.(bmp|png) would both be written as f-002\.png"):
        pretreat(raw, tmp_path / "aligned", 1, quiet=True)


def test_pretreat_rejects_an_aligned_tree(tmp_path):
    raw = make_tree(tmp_path / "raw")
    pretreat(raw, tmp_path / "aligned", 1, quiet=True)
    with pytest.raises(UsageError, match="already aligned"):
        pretreat(tmp_path / "aligned", tmp_path / "twice", 1, quiet=True)
    assert not (tmp_path / "twice").exists()


def test_pretreat_rejects_a_tree_of_pickles(tmp_path):
    folder = tmp_path / "raw" / "001" / "nm-01" / "000"
    folder.mkdir(parents=True)
    (folder / "000.pkl").write_bytes(b"never opened")
    with pytest.raises(UsageError, match=r"000\.pkl.*skip pretreatment"):
        pretreat(tmp_path / "raw", tmp_path / "aligned", 1, quiet=True)


@pytest.mark.parametrize("output", ["raw", "raw/aligned", ".", "other/../raw"])
def test_pretreat_rejects_output_inside_input_and_input_inside_output(tmp_path, output):
    make_tree(tmp_path / "raw", 1)
    (tmp_path / "other").mkdir()
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="apart"):
        pretreat(tmp_path / "raw", tmp_path / output, 1, quiet=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("blocked", ["aligned", "aligned/001", "aligned/001/nm-01/000"])
def test_pretreat_rejects_a_file_at_the_output_path(tmp_path, blocked):
    raw = make_tree(tmp_path / "raw", 1)
    (tmp_path / blocked).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / blocked).write_text("in the way")
    with pytest.raises(UserError, match="aligned"):
        pretreat(raw, tmp_path / "aligned", 1, quiet=True)
    assert (tmp_path / blocked).read_text() == "in the way"


# The command


def test_command_succeeds_and_writes_its_summary(tmp_path):
    raw = make_tree(tmp_path / "raw")
    done = run("--input_path", raw, "--output_path", "aligned", "--json", "s.json", "--log", "True", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and "4 sequences: 4 done" in done.stdout
    assert_aligned(raw, tmp_path / "aligned")
    assert json.loads((tmp_path / "s.json").read_text())["kept"] == 24
    assert "--FINISH--" in (tmp_path / "pretreatment.log").read_text()


def test_command_exit_status_with_unreadable_images(tmp_path):
    raw = make_tree(tmp_path / "raw", 1)
    bad = raw / "001" / "nm-01" / "000" / "f-002.png"
    bad.write_bytes(b"")
    arguments = ("--input_path", raw, "--output_path", "aligned", "--worker_num", 1)
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1 and str(bad) in done.stderr and "1 unreadable" in done.stdout
    done = run(*arguments, "--skip_bad", "--quiet", cwd=tmp_path)
    assert done.returncode == 0 and str(bad) in done.stderr and done.stdout == ""
    assert "--FAIL--" in (tmp_path / "pretreatment.log").read_text()


@pytest.mark.parametrize(
    "arguments, status, word",
    [
        (["--input_path=missing", "--output_path=o"], 2, "missing"),
        (["--input_path=raw", "--output_path=raw/o"], 2, "apart"),
        (["--input_path=raw/001", "--output_path=o"], 1, "expected ROOT/<subject>"),
        (["--input_path=.", "--output_path=../o"], 1, "too deep"),
        (["--input_path=raw", "--output_path=o", "--log=yes"], 2, "--log"),
        (["--input_path=raw", "--output_path=o", "--worker_num=0"], 2, "--worker_num"),
        (["--input_path=raw"], 2, "--output_path"),
        (["--input_path=raw", "--output_path=o", "--log_file=raw"], 2, "raw"),
    ],
)
def test_command_errors_are_one_line(tmp_path, arguments, status, word):
    make_tree(tmp_path / "raw", 1)
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == status
    assert word in done.stderr and len(done.stderr.splitlines()) == 1


# Concurrent runs and full disks


@pytest.fixture
def another_run(tmp_path):
    """Another run that is writing tmp_path/aligned."""
    (tmp_path / "aligned").mkdir()
    with locked(tmp_path / "aligned" / ".pretreatment.lock", "aligned"):
        yield


def test_second_run_with_the_same_output_fails_and_names_the_first(tmp_path, another_run):
    raw = make_tree(tmp_path / "raw")
    done = run(f"--input_path={raw}", f"--output_path={tmp_path / 'aligned'}", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'aligned'}: another job is writing there, process {os.getpid()}")
    assert not images(tmp_path / "aligned")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("log_all", [False, True])
def test_full_disk_under_the_log_file_is_reported_in_one_line(tmp_path, log_all):
    raw = make_tree(tmp_path / "raw", 2, 3)
    with pytest.raises(UserError, match=r"/dev/full: the log file cannot be written \(No space left on device\)"):
        pretreat(raw, tmp_path / "aligned", 1, log_file="/dev/full", log_all=log_all, quiet=True)
    pretreat(raw, tmp_path / "aligned", 1, quiet=True)
    assert_aligned(raw, tmp_path / "aligned")


@pytest.mark.parametrize(
    ("layout", "folder"),
    [("oumvlp", "Silhouette_{view}-01/{subject}"), ("casia-a", "{subject}/{view}_1"), ("hid", "{subject}/{view}")],
)
def test_other_layouts_become_the_usual_tree(tmp_path, layout, folder):
    usual = make_tree(tmp_path / "usual", 4)
    expected = {}
    for sequence in scan_tree(usual):
        labels = {"oumvlp": ("01", sequence.view), "casia-a": ("nm-01", sequence.view), "hid": (sequence.view, "000")}
        other = tmp_path / "other" / folder.format(view=sequence.view, subject=sequence.subject)
        shutil.copytree(sequence.path, other)
        for name in sequence.files:
            expected["/".join((sequence.subject, *labels[layout], name))] = f"{sequence.name}/{name}"
    for name, keywords in (("usual", {}), ("other", {"layout": layout})):
        pretreat(tmp_path / name, tmp_path / f"{name}-64", 1, quiet=True, **keywords)
    usual, other = images(tmp_path / "usual-64"), images(tmp_path / "other-64")
    assert {name: usual[expected[name]] for name in expected} == other
    assert pretreat(tmp_path / "other", tmp_path / "other-64", 1, quiet=True, layout=layout).frames_worked_on == 0


def test_an_aligned_tree_without_views_is_rejected_with_the_layout_that_it_needs(tmp_path):
    pretreat(make_tree(tmp_path / "raw", 1), tmp_path / "aligned", 1, quiet=True)
    shutil.copytree(tmp_path / "aligned" / "001" / "nm-01" / "000", tmp_path / "hid" / "001" / "003")
    with pytest.raises(UsageError, match=r"already aligned.*skip pretreatment, move the frames to ROOT/<subject>"):
        pretreat(tmp_path / "hid", tmp_path / "out", 1, quiet=True, layout="hid")
