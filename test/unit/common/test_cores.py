"""Processes on cores: Ctrl-C is the parent's, from their first moment on."""

import os
import signal
import subprocess
import sys

import pytest

from model.common.cores import core_count, interrupts_later

BLOCKED = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"


@pytest.fixture
def interrupts():
    """Interrupts are heard, also in the background of a shell, which has them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no such masks here")
def test_processes_that_start_meanwhile_take_no_interrupt_and_the_parent_takes_it_afterwards(interrupts):
    with pytest.raises(KeyboardInterrupt), interrupts_later():
        signal.raise_signal(signal.SIGINT)  # to this thread
        inside = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=True).stdout
    assert inside == "True\n"
    after = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=True).stdout
    assert after == "False\n"


def test_there_is_a_core():
    assert 1 <= core_count() <= (os.cpu_count() or 1)
