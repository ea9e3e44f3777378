"""The launcher of several processes: loopback addresses only, and a restart after a process was killed."""

import os
import signal
import sys

import pytest
import torch
from launching import TOTAL, children, launch, listening, wait_for, workers_of
from scripts import one_line_error, run_module
from training_runs import files_of, same, weights

from model.common.errors import UserError
from model.devices import distributed


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killed_process_restarts_all_from_the_last_checkpoint(aligned_tree, tmp_path):
    """The weights equal those of an uninterrupted run, and all sockets listen on 127.0.0.1 only."""
    whole = launch(aligned_tree, tmp_path / "whole")
    wait_for(files_of(tmp_path / "whole").last_complete, whole)
    assert listening([whole.pid, *children(whole.pid)]) == {"0100007F"}
    _, errors = whole.communicate(timeout=120)
    assert whole.returncode == 0, errors

    launcher = launch(aligned_tree, tmp_path / "killed")
    wait_for(lambda: files_of(tmp_path / "killed").last_complete() and workers_of(launcher), launcher)
    os.kill(workers_of(launcher)[1], signal.SIGKILL)
    out, errors = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, errors
    assert "restart 1 after a process ended: resuming from iteration" in out
    assert same(weights(tmp_path / "killed", TOTAL), weights(tmp_path / "whole", TOTAL))


def test_invalid_arguments_are_one_line():
    assert "must be a whole number above 0" in one_line_error(run_module("model.launch", "--processes", 0, "x"), 2)
    assert "required: script" in one_line_error(run_module("model.launch", "--processes", 1), 2)


def test_invalid_master_address_is_a_user_error(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    for port in ("x", "70000", "-1", ""):
        monkeypatch.setenv("MASTER_PORT", port)
        with pytest.raises(UserError, match="MASTER_ADDR and MASTER_PORT must be set to an address and a port"):
            distributed.start(distributed.World(0, 0, 2), torch.device("cpu"))


def test_single_process_has_no_launch(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    assert distributed.launch_name() is None and distributed.restarts() == 0
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # the default run id of torchrun
    assert distributed.launch_name() == f"none-{os.getppid()}"
