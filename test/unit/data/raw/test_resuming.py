"""Pretreatment that continues an earlier run, after the run was stopped, or its input or output has changed."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from raw_trees import BLACK, SEQUENCE, assert_aligned, contents, images, make_tree, pretreat, silhouette, write
from scripts import ROOT

from model.data.raw.aligned_sequence import RECORD_FOLDER
from model.data.raw.tree import scan_tree


def test_a_second_run_does_nothing(raw, aligned):
    write(raw / SEQUENCE / "dark.png", BLACK)
    first = pretreat(raw, aligned)
    times = {p: p.stat().st_mtime_ns for p in aligned.rglob("*")}
    second = pretreat(raw, aligned)
    assert (second.done, second.unchanged, second.frames_worked_on) == (0, 4, 0)
    assert (second.kept, second.dropped) == (first.kept, first.dropped) == (24, 1)
    assert times == {p: p.stat().st_mtime_ns for p in aligned.rglob("*")}


def test_only_missing_damaged_and_changed_frames_are_processed_again(pretreated, tmp_path):
    raw, aligned = pretreated
    before = {p: p.stat().st_mtime_ns for p in aligned.rglob("*.png")}
    (aligned / SEQUENCE / "f-001.png").unlink()
    truncated = aligned / SEQUENCE / "f-003.png"
    truncated.write_bytes(truncated.read_bytes()[:-5])
    (aligned / SEQUENCE / "f-004.png").write_bytes(b"")
    write(raw / "002/nm-01/090/f-007.png", silhouette(998))
    for name, image in (("000/f-002.png", silhouette(999)), ("090/f-001.png", BLACK)):  # black: the frame is dropped
        os.utime(write(raw / "002/nm-01" / name, image), ns=(1, 1))
    (raw / "002/nm-01/090/f-002.png").unlink()
    summary = pretreat(raw, aligned)
    assert (summary.frames_worked_on, summary.done, summary.unchanged) == (6, 3, 1)
    assert_aligned(raw, aligned)
    redone = {p.name for p in aligned.rglob("*.png") if before.get(p) != p.stat().st_mtime_ns}
    assert redone == {"f-001.png", "f-002.png", "f-003.png", "f-004.png", "f-007.png"}
    pretreat(raw, tmp_path / "clean")
    assert images(aligned) == images(tmp_path / "clean")
    assert pretreat(raw, aligned).frames_worked_on == 0


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
def test_sequence_without_a_valid_record_is_processed_again(pretreated, record):
    raw, aligned = pretreated
    clean = contents(aligned)
    file = aligned / SEQUENCE / RECORD_FOLDER / "record.json"
    file.unlink() if record is None else file.write_bytes(record)
    assert pretreat(raw, aligned).frames_worked_on == 6
    assert contents(aligned) == clean


@pytest.fixture(scope="module")
def long_tree(tmp_path_factory):
    """A tree whose pretreatment takes long enough to be stopped, and the output of a run that is not stopped."""
    folder = tmp_path_factory.mktemp("long")
    raw = make_tree(folder / "raw", sequences=60, frames=30)
    pretreat(raw, folder / "clean")
    return raw, contents(folder / "clean")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_next_run_finishes_a_stopped_run(long_tree, tmp_path, aligned, number):
    raw, clean = long_tree
    process = subprocess.Popen(
        [sys.executable, ROOT / "pretreatment.py", f"--input_path={raw}", f"--output_path={aligned}", "--worker_num=2"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # Shells start background jobs with SIGINT ignored, and the command would inherit this.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while process.poll() is None and len(list(aligned.glob("*/nm-01/000"))) < 2:
        time.sleep(0.001)  # wait until the run has finished two sequences
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), errors
    assert number == signal.SIGKILL or (errors.strip() == "interrupted" and not list(aligned.rglob("*.part")))
    done = [s for s in scan_tree(aligned) if s.files]
    assert 2 <= len(done) < 60, "stopped between the first and the last sequence"
    assert all(len(s.files) == 30 for s in done), "a sequence is complete or absent"
    summary = pretreat(raw, aligned)
    assert summary.done > 0 and summary.unchanged >= 2
    assert contents(aligned) == clean


def test_leftovers_of_a_killed_run_are_removed(raw, aligned):
    # A worker of a killed run can survive for a moment, so its folder is removed even if the process still exists.
    write(aligned / "001" / "nm-01" / f".000.{os.getppid()}.part" / "f-001.png", silhouette(1))
    pretreat(raw, aligned)
    assert_aligned(raw, aligned)
