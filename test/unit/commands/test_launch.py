"""The launcher of several processes: it uses only loopback addresses, and restarts killed processes."""

import os
import re
import signal
import sys
from types import SimpleNamespace

import pytest
import torch
from launching import TOTAL, children, launch, listening, wait_for, workers_of
from scripts import ROOT, load_script, one_line_error, run_module
from training_runs import files_of, same, weights

from model.commands.launch import start_processes
from model.common.errors import UsageError, UserError
from model.devices import distributed
from model.devices.world import World, launch_name, world_from_environment


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killed_process_restarts_all_from_the_last_checkpoint(aligned_tree, tmp_path):
    """The weights equal the weights of an uninterrupted run, and all sockets listen only on 127.0.0.1."""
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


@pytest.mark.slow
def test_invalid_arguments_are_one_line():
    assert "must be a whole number above 0" in one_line_error(run_module("model.launch", "--processes", 0, "x"), 2)
    assert "required: script" in one_line_error(run_module("model.launch", "--processes", 1), 2)


def test_invalid_master_address_is_a_user_error(monkeypatch):
    for address, port in (*(("127.0.0.1", port) for port in ("x", "70000", "-1", "")), ("", "29500")):
        monkeypatch.setenv("MASTER_ADDR", address)
        monkeypatch.setenv("MASTER_PORT", port)
        with pytest.raises(UserError, match="MASTER_ADDR and MASTER_PORT must be set to an address and a port"):
            distributed.start(World(0, 0, 2), torch.device("cpu"))


def set_variables(monkeypatch, variables):
    """Set the variables of a process group from a text such as "RANK=1 WORLD_SIZE=2". Unset the other variables."""
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for variable in variables.split():
        monkeypatch.setenv(*variable.split("="))


POD = "WORLD_SIZE=2 RANK=1 MASTER_ADDR=gaitset-worker-0 MASTER_PORT=23456"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (POD, (1, 0, 2)),
        (POD + " LOCAL_RANK=", (1, 0, 2)),
        ("WORLD_SIZE=4 RANK=3 MASTER_ADDR=127.0.0.1 MASTER_PORT=1", (3, 3, 4)),
        ("WORLD_SIZE=16 RANK=9 LOCAL_RANK=1 MASTER_ADDR=10.0.0.1", (9, 1, 16)),
        ("WORLD_SIZE=", (0, 0, 1)),
        ("WORLD_SIZE= RANK= LOCAL_RANK=", (0, 0, 1)),
        ("WORLD_SIZE=1", (0, 0, 1)),
        ("WORLD_SIZE=1 RANK=0 MASTER_ADDR=gaitset-master-0", (0, 0, 1)),
        ("WORLD_SIZE=1 RANK=0 LOCAL_RANK=3", (0, 3, 1)),
        ("RANK=5", "RANK=5, LOCAL_RANK=0 and WORLD_SIZE=1 do not fit together"),
        ("WORLD_SIZE=2", "WORLD_SIZE is set and RANK is not; with several processes, set WORLD_SIZE, RANK"),
        ("WORLD_SIZE=two", "WORLD_SIZE='two' is not a number"),
        ("WORLD_SIZE=2 RANK=2", "RANK=2, LOCAL_RANK=0 and WORLD_SIZE=2 do not fit together"),
        ("WORLD_SIZE=0", "WORLD_SIZE=0 do not fit together"),
    ],
)
def test_ranks_are_read_from_the_variables_of_launchers(monkeypatch, variables, expected):
    set_variables(monkeypatch, variables)
    if isinstance(expected, tuple):
        assert world_from_environment() == World(*expected)
    else:
        with pytest.raises(UserError, match=re.escape(expected)):
            world_from_environment()


@pytest.mark.parametrize(
    ("variables", "device_num", "expected"),
    [
        (POD, 2, "starts"),
        (POD, 3, "starts"),
        (POD, None, None),
        ("WORLD_SIZE=1", 2, "starts"),
        ("WORLD_SIZE=", 2, "starts"),
        ("WORLD_SIZE=1", None, None),
        ("", None, "starts"),
        ("", 2, "starts"),
        ("", 1, None),
        ("WORLD_SIZE=1 RANK=0 LOCAL_RANK=0", None, None),
        ("WORLD_SIZE=2 RANK=1 LOCAL_RANK=1", 2, None),
        ("WORLD_SIZE=2 RANK=1 LOCAL_RANK=1", 3, "--device_num 3, but 2 processes were started"),
    ],
)
def test_device_num_starts_its_own_processes_unless_a_launcher_has(
    monkeypatch, capsys, variables, device_num, expected
):
    set_variables(monkeypatch, variables)
    monkeypatch.setattr("model.commands.launch.launch", lambda processes, *_: ("starts", processes))
    started = world_from_environment().size
    options, config = SimpleNamespace(device_num=device_num, port=None), SimpleNamespace(device_num=8)
    if expected in (None, "starts"):
        assert start_processes(options, config, started) == (expected and ("starts", device_num or 8))
        ignores = "ignores WORLD_SIZE=2 and RANK=1 of the environment" in capsys.readouterr().err
        assert ignores == (variables == POD and device_num is not None)
    else:
        with pytest.raises(UsageError, match=expected):
            start_processes(options, config, started)


def test_world_size_1_does_not_hide_the_options_of_a_launcher(monkeypatch):
    script = load_script("train")
    set_variables(monkeypatch, "WORLD_SIZE=1 MASTER_ADDR=")
    script.set_environment(script.options_parser().parse_args(["--world_size", "2", "--rank", "1"]))
    assert world_from_environment() == World(1, 1, 2)
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("127.0.0.1", "29500")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the launcher ends with its processes")
def test_launcher_ignores_the_variables_of_a_pod(tmp_path):
    """Kubeflow also sets variables with defaults for the options of torchrun."""
    script = tmp_path / "worker.py"
    script.write_text("import os; print(*(os.environ[n] for n in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR')))")
    pod = dict(variable.split("=") for variable in POD.split())
    kubeflow = {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_NPROC_PER_NODE": "auto", "PET_STANDALONE": "1"}
    done = run_module("model.launch", "--processes", 2, script, **pod, **kubeflow)
    assert sorted(done.stdout.splitlines()) == ["0 2 127.0.0.1", "1 2 127.0.0.1"], done.stderr


WORKER = """
import os, sys
from pathlib import Path
from model.common.command_line import CommandParser
from model.common.errors import UserError, run_command
def work():
    Path({folder!r}, f"{{os.getpid()}}.started").touch()
    {work}
run_command(work)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "status", "lines", "restarted"),
    [
        ("raise UserError('a: wrong')", 1, ["error: a: wrong"], False),
        ("CommandParser(prog='a').parse_args(['--b'])", 2, ["a: error: unknown argument --b (see a --help)"], False),
        ("raise UserError('rank ' + os.environ['RANK'])", 1, [f"error: rank {rank}" for rank in range(3)], False),
        ("sys.exit(3)", 3, [f"error: process {rank} ended with status 3 after 1 restarts" for rank in range(3)], True),
    ],
)
def test_errors_are_printed_once_and_user_errors_are_not_restarted(tmp_path, work, status, lines, restarted):
    """Each process waits until all processes have started, so that no process is terminated before it has the error."""
    script = tmp_path / "worker.py"
    waiting = f"while len(list(Path({str(tmp_path)!r}).glob('*.started'))) < 3: pass"
    script.write_text(WORKER.format(folder=str(tmp_path), work=f"{waiting}\n    {work}"))
    done = run_module("model.launch", "--processes", 3, "--max_restarts", 1, script, PYTHONPATH=str(ROOT))
    assert done.returncode == status and "Traceback" not in done.stderr
    printed = [line for line in done.stderr.splitlines() if "error:" in line]
    assert printed and len(printed) == len(set(printed)) and set(printed) <= set(lines)
    assert ("not restarted: the user error above would occur again" in done.stderr) is not restarted
    assert (len(list(tmp_path.glob("*.started"))) > 3) is restarted


def test_process_without_torchrun_has_no_launch_name(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    assert launch_name() is None and distributed.restarts() == 0
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # the default run id of torchrun
    assert launch_name() == f"none-{os.getppid()}"
