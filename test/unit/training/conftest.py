from dataclasses import replace

import pytest
import torch
from npu_runs import arguments
from scripts import load_script
from standins.npu_machine import NpuProcess

from model.devices.device import DEVICE_KINDS


@pytest.fixture(scope="session")
def machine(npu_library):
    machine = NpuProcess(npu_library)
    yield machine
    machine.close()


@pytest.fixture(scope="session")
def on_npu(machine, aligned_tree):
    """Return a function that trains on the stand-in."""

    def run(work, *more, **environment):
        done = machine.run("train", *arguments(aligned_tree, work, "--device", "npu", *more), **environment)
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def on_cpu(aligned_tree, monkeypatch):
    """Train on the CPU with one thread and the memory layout of the NPU, which affect the last bit."""
    monkeypatch.setitem(DEVICE_KINDS, "cpu", replace(DEVICE_KINDS["cpu"], channels_last=False))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(work, *more) -> None:
        assert load_script("train").main(arguments(aligned_tree, work, *more)) == 0

    yield run
    torch.set_num_threads(threads)
