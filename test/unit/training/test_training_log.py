"""The log of a training run: lines, warnings and speed. Profiling of iterations."""

import json

import pytest
import torch
from torch.profiler import record_function
from training_runs import FP16, TOTAL, files_of, log_points, overflow_at, train

from model.checkpoints.loading import load_tensors
from model.common.errors import UsageError
from model.network import GaitSet
from model.training.log_book import COLLAPSE_ADVICE, is_collapsed
from model.training.profiling import FIRST, ITERATIONS, Profiling


def test_log_lines_have_the_published_form(aligned_tree, tmp_path, capsys):
    train(aligned_tree, tmp_path, "--iters", 2)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("iter 2:"))
    losses = ("hard_loss_metric=", "full_loss_metric=", "full_loss_num=", "mean_dist=")
    assert all(name in line for name in (*losses, "lr=0.000100", "hard or full=full"))
    assert list(tmp_path.glob("log/*/events.out.tfevents*"))


def test_performance_run_writes_figures_and_no_checkpoint(aligned_tree, tmp_path):
    train(aligned_tree, tmp_path, "--performance", "--json", tmp_path / "p.json", "--iters", 2)
    figures = json.loads((tmp_path / "p.json").read_text())
    assert figures["sequences_per_second"] == pytest.approx(4 * figures["iterations_per_second"])
    assert not (tmp_path / "checkpoint").exists() and not (tmp_path / "log").exists()


def test_message_on_collapse_says_what_to_do():
    point = {"hard_loss_metric": 0.2004, "full_loss_metric": 0.1999, "mean_dist": 0.001}
    assert is_collapsed(point, 0.2)
    assert not is_collapsed(point | {"mean_dist": 0.3}, 0.2)
    assert not is_collapsed(point | {"full_loss_metric": 0.1}, 0.2)
    assert "lower learning rate" in COLLAPSE_ADVICE


def test_training_warns_of_a_collapse(aligned_tree, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(GaitSet, "embed", lambda self, *pooled: self.fc_bin[0].sum() * 0 + torch.ones(4, 62, 8))
    train(aligned_tree, tmp_path, "--iters", 2)
    assert COLLAPSE_ADVICE in capsys.readouterr().out


def test_skipped_steps_are_counted(aligned_tree, tmp_path, monkeypatch, capsys):
    overflow_at(monkeypatch, (3, 5, 6))
    train(aligned_tree, tmp_path, *FP16, "--loss_scale", 1, "--json", tmp_path / "r.json")
    points = log_points(tmp_path)
    assert [point["skipped"] for point in points] == [0, 1, 2, 0]
    skipped = [line for line in capsys.readouterr().out.splitlines() if "skipped because" in line]
    assert [line.partition(":")[0] for line in skipped] == ["iter 4", "iter 6"]
    optimizer = load_tensors(files_of(tmp_path).part(TOTAL, "optimizer"))
    assert all(state["step"] == TOTAL - 3 for state in optimizer["state"].values())
    assert json.loads((tmp_path / "r.json").read_text())["steps_left_out"] == 3


def test_count_of_skipped_steps_continues_after_a_resume(aligned_tree, tmp_path, monkeypatch):
    """After a skipped step, the step count in the optimizer's state is less than the number of iterations."""
    overflow_at(monkeypatch, (1,))
    train(aligned_tree, tmp_path, *FP16, "--loss_scale", 1, "--iters", 4)
    train(aligned_tree, tmp_path, *FP16, "--loss_scale", 1, "--iters", 6, "--restore_iter", -1)
    points = log_points(tmp_path)
    assert [point["skipped"] for point in points] == [1, 0, 0]


def test_the_log_holds_each_iteration_of_this_run_once(aligned_tree, tmp_path):
    train(aligned_tree, tmp_path, "--iters", 4, "--save_iter", 2, "--keep", 9, "--log_iter", 1)
    for iterations, options in ((3, ("--restore_iter", 2)), (2, ())):
        train(aligned_tree, tmp_path, "--iters", iterations, "--log_iter", 1, *options)
        assert [point["iteration"] for point in log_points(tmp_path)] == list(range(1, iterations + 1))
    assert len(list(tmp_path.glob("log/*/train-*.jsonl"))) == 1  # the renamed log of the previous run


# Profiling: recorded iterations, output folder and messages


CPU = torch.device("cpu")


def run(profiling, iterations, fails_at=None):
    with profiling:
        for number in range(1, iterations + 1):
            with record_function(f"iteration {number}"):
                torch.ones(2) + number
            if number == fails_at:
                raise KeyboardInterrupt
            profiling.step()


def recorded(folder) -> list[int]:
    """Return the numbers of the iterations in the traces."""
    events = [event for trace in folder.glob("*.json") for event in json.loads(trace.read_text())["traceEvents"]]
    names = {event.get("name", "") for event in events if event.get("ph") == "X"}
    return sorted(int(name.split()[1]) for name in names if name.startswith("iteration "))


@pytest.mark.parametrize(
    ("start", "stop", "iterations", "expected"),
    [(1, 1, 3, [1]), (2, 3, 5, [2, 3]), (1, 4, 4, [1, 2, 3, 4]), (3, 9, 4, [3, 4]), (4, 4, 4, [4])],
    ids=["first", "middle", "all", "run ends within the range", "last"],
)
def test_the_range_is_recorded_and_reported(tmp_path, caplog, start, stop, iterations, expected):
    profiling = Profiling(tmp_path / "p", CPU, start=start, stop=stop)
    run(profiling, iterations)
    profiling.report()
    assert recorded(tmp_path / "p") == expected
    assert f"profiled iterations {expected[0]} to {expected[-1]} of this run: {tmp_path / 'p'}" in caplog.text


def test_default_range_follows_the_first_iterations(tmp_path):
    profiling = Profiling(tmp_path, CPU)
    assert (profiling.start, profiling.stop) == (FIRST, FIRST + ITERATIONS - 1)
    assert Profiling(tmp_path, CPU, start=3).stop == 3 + ITERATIONS - 1
    run(profiling, FIRST + ITERATIONS + 2)
    assert recorded(tmp_path) == list(range(FIRST, FIRST + ITERATIONS))


def test_each_process_writes_its_own_trace(tmp_path):
    for rank in (0, 1):
        run(Profiling(tmp_path, CPU, rank, 1, 1), 2)
    assert sorted(path.name.partition(".")[0] for path in tmp_path.glob("*.json")) == ["rank0", "rank1"]


def test_failed_run_keeps_the_recorded_iterations(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(Profiling(tmp_path, CPU, start=2, stop=9), 6, fails_at=4)
    assert set(recorded(tmp_path)) >= {2, 3}


def test_run_that_ends_before_the_range_is_reported(tmp_path, caplog):
    profiling = Profiling(tmp_path / "p", CPU, start=8)
    run(profiling, 5)
    profiling.report()
    assert "nothing profiled: the run ended after 5 iterations, before --start_step 8" in caplog.text
    assert not (tmp_path / "p").exists()


def test_folder_that_cannot_be_created_is_an_error_before_the_range(tmp_path):
    (tmp_path / "file").touch()
    profiling = Profiling(tmp_path / "file", CPU, start=3)
    with pytest.raises(FileExistsError):
        run(profiling, 9)
    assert profiling.done == 2


@pytest.mark.parametrize(("start", "stop"), [(5, 3), (0, 3), (-2, 3), (1, 0), (12, -2)])
def test_empty_range_is_rejected(tmp_path, start, stop):
    with pytest.raises(UsageError, match=rf"^--start_step {start} --stop_step {stop}: the range of iterations is inv"):
        Profiling(tmp_path, CPU, start=start, stop=stop)
