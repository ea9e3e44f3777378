"""Only one process at a time writes to an output. The error of a second one names the first."""

import errno
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from scripts import ROOT
from small_disk import no_file_larger_than

from model.common import lock as lock_module
from model.common.errors import UserError
from model.common.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from model.common.lock import locked
with locked(Path(sys.argv[1]), "out"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock"), "--the", "other one"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture(params=["flock", "none"])
def kind(request, monkeypatch):
    """With the system's locks, and on a file system that has none."""
    if request.param == "none":

        def refuse(descriptor, operation):
            raise OSError(errno.EOPNOTSUPP, "no locks here")

        monkeypatch.setattr(lock_module.fcntl, "flock", refuse)
    return request.param


def test_the_second_is_told_whose_it_is_and_since_when(other, tmp_path, kind):
    with pytest.raises(UserError) as told, locked(tmp_path / "lock", "the output"):
        pass
    text = str(told.value)
    assert text.startswith(f"the output: another job is writing there, process {other.pid} on {socket.gethostname()}")
    assert "started 0 s ago" in text or "since 1 s ago" in text
    assert "--the 'other one'" in text


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_lock_that_was_left_behind_holds_nobody_up(other, tmp_path, kind, number, caplog):
    caplog.set_level(logging.INFO)
    other.send_signal(number)
    other.wait()
    assert (tmp_path / "lock").exists()
    with locked(tmp_path / "lock", "out"):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert f"a previous job was interrupted (process {other.pid}" in caplog.text
    assert not (tmp_path / "lock").exists()


def test_without_locks_an_owner_on_another_machine_counts_as_alive(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_module, "fcntl", None)
    owner = {"host": "another", "pid": 1, "since": time.time() - 7300, "command": "train.py"}
    (tmp_path / "lock").write_text(json.dumps(owner))
    told = r"process 1 on another, started 2 h ago: train\.py"
    with pytest.raises(UserError, match=told), locked(tmp_path / "lock", "o"):
        pass
    (tmp_path / "lock").unlink()
    with locked(tmp_path / "lock", "o"):
        pass


@pytest.mark.parametrize("content", ["", "{", "[1]", "[" * 100_000, '{"pid": "x"}', '{"host": 1, "since": 1e999}'])
def test_a_damaged_lock_file_is_taken_over(tmp_path, content):
    (tmp_path / "lock").write_text(content)
    with locked(tmp_path / "lock", "o"):
        assert json.loads((tmp_path / "lock").read_text())["host"] == socket.gethostname()


def test_one_that_waits_goes_on_when_the_other_has_ended(other, tmp_path, caplog):
    threading.Timer(0.3, other.kill).start()
    with locked(tmp_path / "lock", "the store", wait=True):
        assert other.wait() == -signal.SIGKILL
    assert f"waiting for the store, which another job is writing, process {other.pid}" in caplog.text


def test_of_many_at_once_one_has_it(tmp_path, monkeypatch):
    """Each adds one to a number that it has read before; a second owner would lose some."""
    monkeypatch.setattr(lock_module, "_RETRY_SECONDS", 0.001)
    (tmp_path / "number").write_text("0")

    def add():
        for _ in range(20):
            with locked(tmp_path / "lock", "o", wait=True):
                number = int((tmp_path / "number").read_text())
                time.sleep(0.0005)
                (tmp_path / "number").write_text(str(number + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "number").read_text() == "80"


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="out: cannot be written"), locked(tmp_path / "file" / "lock", "out"):
        pass
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")  # laid by somebody else
    with pytest.raises(UserError, match="out: cannot be written"), locked(tmp_path / "link", "out"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_on_a_full_disk_it_is_held_and_let_go_all_the_same(tmp_path):
    with no_file_larger_than(0), locked(tmp_path / "lock", "o"):
        assert (tmp_path / "lock").exists()
        with pytest.raises(UserError, match="whose process is unknown"), locked(tmp_path / "lock", "o"):
            pass
    assert not (tmp_path / "lock").exists()
