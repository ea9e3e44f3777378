"""Locks of outputs allow one writer at a time. The error of a second writer names the owner of the lock."""

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
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

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
    """Another process, which holds the lock."""
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
def lock_support(request, monkeypatch):
    """Run the test with locks of the operating system, and on a file system without locks."""
    if request.param == "none":
        refuse = Mock(side_effect=OSError(errno.EOPNOTSUPP, "no locks here"))
        monkeypatch.setattr(lock_module.fcntl, "flock", refuse)


def test_second_job_gets_the_owner_and_its_age(other, tmp_path, lock_support):
    with pytest.raises(UserError) as caught, locked(tmp_path / "lock", "the output"):
        pass
    text = str(caught.value)
    assert text.startswith(f"the output: another job is writing there, process {other.pid} on {socket.gethostname()}")
    assert "started 0 s ago" in text or "started 1 s ago" in text
    assert "--the 'other one'" in text


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_lock_of_a_dead_owner_is_free(other, tmp_path, lock_support, number, caplog):
    caplog.set_level(logging.INFO)
    other.send_signal(number)
    other.wait()
    assert (tmp_path / "lock").exists()
    with locked(tmp_path / "lock", "out"):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert f"a previous job was interrupted (process {other.pid}" in caplog.text
    assert not (tmp_path / "lock").exists()


def test_without_locks_owner_on_another_machine_counts_as_alive(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_module, "fcntl", None)
    owner = {"host": "another", "pid": 1, "since": time.time() - 7300, "command": "train.py"}
    (tmp_path / "lock").write_text(json.dumps(owner))
    message = r"process 1 on another, started 2 h ago: train\.py"
    with pytest.raises(UserError, match=message), locked(tmp_path / "lock", "o"):
        pass
    (tmp_path / "lock").unlink()
    with locked(tmp_path / "lock", "o"):
        pass


@pytest.mark.parametrize("content", ["", "{", "[1]", "[" * 100_000, '{"pid": "x"}', '{"host": 1, "since": 1e999}'])
def test_damaged_lock_file_is_free(tmp_path, content):
    (tmp_path / "lock").write_text(content)
    with locked(tmp_path / "lock", "o"):
        assert json.loads((tmp_path / "lock").read_text())["host"] == socket.gethostname()


def test_waiting_job_continues_after_the_owner_ends(other, tmp_path, caplog):
    threading.Timer(0.3, other.kill).start()
    with locked(tmp_path / "lock", "the store", wait=True):
        assert other.wait() == -signal.SIGKILL
    assert f"waiting for the store, which another job is writing, process {other.pid}" in caplog.text


def test_only_one_of_many_threads_owns_the_lock(tmp_path, monkeypatch):
    """Each thread increments a number in a file. A second owner would lose increments."""
    monkeypatch.setattr(lock_module, "_RETRY_SECONDS", 0.001)
    (tmp_path / "number").write_text("0")

    def add():
        for _ in range(20):
            with locked(tmp_path / "lock", "o", wait=True):
                number = int((tmp_path / "number").read_text())
                time.sleep(0.0005)
                (tmp_path / "number").write_text(str(number + 1))

    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(add) for _ in range(4)]:
            job.result()
    assert (tmp_path / "number").read_text() == "80"


def test_unwritable_path_is_a_user_error(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")  # another user may create such a link
    for path in (tmp_path / "file" / "lock", tmp_path / "link"):
        with pytest.raises(UserError, match="out: cannot be written"), locked(path, "out"):
            pass
    assert not (tmp_path / "elsewhere").exists()


def test_lock_works_on_a_full_disk(tmp_path):
    with no_file_larger_than(0), locked(tmp_path / "lock", "o"):
        assert (tmp_path / "lock").exists()
        with pytest.raises(UserError, match="whose process is unknown"), locked(tmp_path / "lock", "o"):
            pass
    assert not (tmp_path / "lock").exists()
