from dataclasses import replace

import pytest
from npu_runs import arguments
from scripts import load_script
from standins.npu_machine import NpuMachine
from threads import torch_threads

from model.devices.device import DEVICE_KINDS


@pytest.fixture(scope="session")
def machine(npu_library):
    return NpuMachine(npu_library)


@pytest.fixture(scope="session")
def on_npu(machine, aligned_tree):
    """Return a function that trains on the stand-in for an NPU."""

    def run(work, *more, **environment):
        done = machine.run("train", *arguments(aligned_tree, work, "--device", "npu", *more), **environment)
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def on_cpu(aligned_tree, monkeypatch):
    """Return a function that trains on the CPU with one thread, plain kernels and the memory layout of the NPU.

    Each of these settings can change the last bits of the results.
    """
    monkeypatch.setitem(DEVICE_KINDS, "cpu", replace(DEVICE_KINDS["cpu"], channels_last=False))

    def run(work, *more) -> None:
        assert load_script("train").main(arguments(aligned_tree, work, "--kernels", "plain", *more)) == 0

    with torch_threads(1):
        yield run
