"""Training and evaluation in several processes with gloo on the CPU: results, resume and failures."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import small_network
import torch
from scripts import ROOT, load_script, run_script
from threads import torch_threads
from training_runs import arguments, files_of, same, torchrun, weights

from model.data.sampler import PKSampler
from model.data.store import SilhouetteStore, open_data
from model.devices.device import to_device
from model.network import GaitSet, triplet_losses
from model.training.log_book import FIELDS


def batch_of(store: SilhouetteStore, rank: int, iteration: int) -> torch.Tensor:
    training = SilhouetteStore(store.path, store.index.of_subjects(["001", "002", "003"]), store.frames)
    rows = PKSampler(training.index, 2, 2, 2, seed=0, rank=rank).plan(iteration).rows
    return torch.from_numpy(np.asarray(store.frames[rows]))


@pytest.fixture
def one_thread():
    """Use one thread, as torchrun does. More threads change the order of sums, and Adam amplifies the rounding."""
    with torch_threads(1):
        yield


ENDS = torch.arange(0, 9, 2)  # four sequences of two frames
SETTINGS = ("--lr", 1e-4, "--log_iter", 6)


@pytest.fixture(scope="module")
def three_iterations(aligned_tree, tmp_path_factory):
    """The work folder of a training in two processes with three iterations."""
    work = tmp_path_factory.mktemp("two")
    done = torchrun(2, "train.py", *arguments(aligned_tree, work, "--iters", 3, *SETTINGS))
    assert done.returncode == 0, done.stderr
    return work


THREADS = """
import contextlib, os, sys
sys.path.insert(0, sys.argv.pop(1))
from model.devices import distributed
from scripts import load_script

def gloo():
    names = []
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):  # the thread may have ended after it was listed
            names.append(open(f"/proc/self/task/{task}/comm").read())
    return sum("gloo" in name for name in names)

def finish(end=distributed.finish):
    before = gloo()
    end()
    os.write(1, f"threads {before} then {gloo()}\\n".encode())  # a single write, because two processes share the pipe

distributed.finish = finish
sys.exit(load_script(sys.argv[1]).main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of threads in /proc")
@pytest.mark.parametrize("script", ["train", "test"])
def test_threads_of_the_process_group_end_before_the_interpreter(script, aligned_tree, three_iterations, tmp_path):
    """A running gloo thread can abort the process at exit. This happened in a tenth of the trainings on two cores."""
    (tmp_path / "threads.py").write_text(THREADS)
    options = arguments(aligned_tree, three_iterations, "--iters", 1, "--performance")
    if script == "test":
        [weights] = three_iterations.rglob("*-00003-encoder.ptm")
        options = [*arguments(aligned_tree, tmp_path)[:12], "--checkpoint", weights]
    done = torchrun(2, tmp_path / "threads.py", ROOT / "test/unit/support", script, *options, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("threads")]
    assert len(lines) == 2 and all(re.fullmatch(r"threads [1-9]\d* then 0", line) for line in lines), lines


@pytest.mark.slow
def test_two_processes_average_the_gradients_of_their_losses(aligned_tree, three_iterations, tmp_path, one_thread):
    """Compute the formula of the NPU port in one process, where each rank uses the triplets of its own batch."""
    store = open_data(aligned_tree, tmp_path / "store")
    torch.manual_seed(0)
    # Use the memory layout and functions of the training, because Adam amplifies rounding if a gradient is almost 0.
    network = to_device(GaitSet(**small_network.conf["model"]), torch.device("cpu"))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    for iteration in range(3):
        batches = [batch_of(store, rank, iteration).flatten(0, 1) for rank in (0, 1)]
        losses = [triplet_losses(network(batch, ends=ENDS), 2, 2, 0.2).full.mean() for batch in batches]
        optimizer.zero_grad()
        (sum(losses) / 2).backward()
        optimizer.step()
    for name, theirs in weights(three_iterations, 3).items():
        ours = network.state_dict()[name]
        assert (theirs - ours).abs().max() < 1e-6, name  # each of the three steps changes a weight by about 1e-4


@pytest.mark.slow
def test_evaluation_in_two_processes_counts_each_sequence_once(aligned_tree, three_iterations, tmp_path):
    options = [
        "--device", "cpu", "--dataset", "Synthetic", "--data_path", aligned_tree, "--partition", "all",
        "--work_path", tmp_path, "--checkpoint", files_of(three_iterations).part(3, "encoder"),
    ]  # fmt: skip
    figures = []
    for processes in (1, 2):
        command = [*map(str, options), "--json", str(tmp_path / f"{processes}.json")]
        if processes == 1:
            load_script("test").main(command)
        else:
            done = torchrun(processes, "test.py", *command)
            assert done.returncode == 0, done.stderr
        figures.append(json.loads((tmp_path / f"{processes}.json").read_text()))
        assert figures[-1].pop("details")["processes"] == processes
    assert figures[0] == figures[1]


@pytest.mark.slow
def test_two_processes_resume_bit_exactly(aligned_tree, three_iterations, tmp_path):
    shutil.copytree(three_iterations, tmp_path / "a")
    six = ("--iters", 6, *SETTINGS)
    second = torchrun(2, "train.py", *arguments(aligned_tree, tmp_path / "a", *six, "--restore_iter", -1))
    whole = torchrun(2, "train.py", *arguments(aligned_tree, tmp_path / "b", *six))
    assert [second.returncode, whole.returncode] == [0, 0], second.stderr
    assert same(weights(tmp_path / "a", 6), weights(tmp_path / "b", 6))
    assert files_of(tmp_path / "a").iterations() == [6]
    logs = [[json.loads(line) for line in next(tmp_path.glob(f"{run}/log/*/train.jsonl")).open()] for run in "ab"]
    for ours, theirs in zip(*logs, strict=True):
        # The means over six iterations of both processes are bit-exact, although one run was interrupted after three.
        assert [ours[name] for name in ("iteration", *FIELDS)] == [theirs[name] for name in ("iteration", *FIELDS)]


@pytest.mark.slow
def test_gather_flags_and_means_of_three_processes(tmp_path):
    done = run_script("test/unit/support/workers.py", "gather_worker", 3, tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(3)]
    assert results[0]["rows"].flatten().tolist() == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert results[0]["by host"].flatten().tolist() == list(range(10))
    assert results[0]["few"].flatten().tolist() == [0, 1]
    for result in results:
        assert result["restarts"] == 2
        assert result["up"] and result["mean"].item() == 1
        assert result["matrix"].tolist() == [[0, 4, 8], [2, 6, 10]]  # the mean of 1, 2 and 3 times the matrix of rank 0
        assert result["number"].item() == 3
        # Triton is used only if it works on every rank, so that all ranks exchange gradients in the same way.
        assert result["kernels"] == {"nowhere": False, "first": False, "last": False, "everywhere": True}
    for result in results[1:]:
        assert result["rows"] is None and result["few"] is None


@pytest.mark.slow
def test_pre_process_rejects_several_processes(aligned_tree, tmp_path):
    done = torchrun(2, "test.py", "--pre_process", "--data_path", aligned_tree, "--dataset", "Synthetic")
    assert done.returncode != 0 and "without torchrun" in done.stderr


@pytest.mark.slow
def test_exception_on_rank_0_ends_the_other_ranks(tmp_path):
    done = run_script("test/unit/support/workers.py", "failing_worker", 2, tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 1 and re.search("disk gone|rank 0 failed", done.stderr)
    assert (tmp_path / "reported").exists()


STOPPED_BY_TORCHRUN = """
import os, signal, sys
import torch
from model.common.errors import UserError, run_command
from model.devices import distributed
from model.training.state import NonFiniteError
from model.training.stop_signals import StopSignals
from model.training.trainer import Trainer

def job():
    raise UserError("the reason")

def training():
    trainer = Trainer.__new__(Trainer)
    trainer.world = distributed.World(0, 0, 2)
    trainer.state = type("State", (), {"saved_at": None})
    with StopSignals():
        raise trainer._save_last_finite_state(NonFiniteError("the reason"))

def main():
    torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
    try:
        training() if sys.argv[2] == "training" else distributed.run_on_rank0(job)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)  # another process has ended, and torchrun stops this one

run_command(main)
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["rank 0", "training"])
def test_rank_0_reports_its_error_although_torchrun_stops_it(tmp_path, where):
    (tmp_path / "stopped.py").write_text(STOPPED_BY_TORCHRUN)
    variables = {"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x", "PYTHONPATH": str(ROOT)}
    done = run_script(tmp_path / "stopped.py", tmp_path / "meet", where, **variables)
    assert done.returncode == 1 and "error: the reason" in done.stderr, done.stderr
