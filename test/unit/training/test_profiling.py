"""Profiling: recorded iterations, output folder and messages."""

import json

import pytest
import torch
from torch.profiler import record_function

from model.common.errors import UsageError
from model.training.profiling import FIRST, ITERATIONS, Profiling

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
    ids=["the first", "in the midst", "all", "ended early", "the last"],
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


def test_each_process_has_its_own_folder(tmp_path):
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


@pytest.mark.parametrize(("start", "stop"), [(5, 3), (0, 3), (-2, 3), (1, 0), (12, -2)])
def test_empty_range_is_rejected(tmp_path, start, stop):
    with pytest.raises(UsageError, match=rf"^--start_step {start} to --stop_step {stop}: the range is empty"):
        Profiling(tmp_path, CPU, start=start, stop=stop)
