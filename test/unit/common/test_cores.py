"""The number of cores, and worker processes, which ignore Ctrl-C from their start."""

import math
import os
import signal
import subprocess
import sys
import time

import pytest
from workers import wait_until_stopped

from model.common.cores import block_interrupts, core_count, map_in_processes, stopped
from model.common.errors import UserError

BLOCKED = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"


@pytest.fixture
def interrupts():
    """Let SIGINT raise KeyboardInterrupt, also if the tests are a background job of a shell, which ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="this system has no signal masks")
def test_block_interrupts_delays_sigint_and_processes_inherit_the_mask(interrupts):
    with pytest.raises(KeyboardInterrupt), block_interrupts():
        signal.raise_signal(signal.SIGINT)
        inside = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=True).stdout
    assert inside == "True\n"
    after = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=True).stdout
    assert after == "False\n"


def test_core_count_is_at_least_1():
    assert 1 <= core_count() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("ordered", [True, False])
def test_map_in_processes_returns_all_results(ordered):
    found = list(map_in_processes(abs, [-3, 1, -2], 2, ordered=ordered))
    assert (found if ordered else sorted(found)) == ([3, 1, 2] if ordered else [1, 2, 3])


def test_killed_worker_is_a_user_error():
    with pytest.raises(UserError, match="a worker process was killed"):
        list(map_in_processes(os._exit, [9, 9], 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_exception_of_a_worker_is_raised(workers):
    with pytest.raises(ValueError, match="math domain"):
        list(map_in_processes(math.sqrt, [-1.0, 4.0], workers))


def test_workers_stop_when_the_consumer_stops_early():
    start = time.monotonic()
    results = map_in_processes(wait_until_stopped, [0.0, 60.0], 2)
    assert next(results) is False and not stopped()
    results.close()
    assert time.monotonic() - start < 30
