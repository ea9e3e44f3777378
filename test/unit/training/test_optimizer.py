"""Selection of the Adam implementation, its learning rate, and Adam without the import of torch's compiler."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from scripts import ROOT, run_quietly
from torch import nn

from model.devices.device import DEVICE_KINDS
from model.training import optimizer as optimizer_module
from model.training.optimizer import Adam, make_adam, set_learning_rate

CPU = torch.device("cpu")


def weights():
    return [nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([3.0]))]


def test_device_without_its_own_adam_uses_torchs():
    optimizer = make_adam(weights(), 0.01, CPU)
    assert type(optimizer) is Adam and optimizer.param_groups[0]["lr"] == 0.01


def test_missing_adam_of_the_device_module_falls_back_to_torchs(monkeypatch):
    """test_npu.py tests an Adam from a device package: step counts, and the exchange of states with torch's Adam."""
    monkeypatch.setitem(DEVICE_KINDS, "cpu", replace(DEVICE_KINDS["cpu"], adam="sys.Gone"))
    assert type(make_adam(weights(), 0.01, CPU)) is Adam


def test_learning_rate_that_graphs_read_is_a_tensor_that_keeps_its_memory(monkeypatch):
    monkeypatch.setattr(optimizer_module, "adam_options", lambda device: {"capturable": True})
    for fixed, kind in ((True, float), (False, torch.Tensor)):
        optimizer = make_adam(weights(), 0.01, CPU, fixed=fixed)
        rate = optimizer.param_groups[0]["lr"]
        set_learning_rate(optimizer, 0.5)
        assert isinstance(rate, kind) and float(optimizer.param_groups[0]["lr"]) == 0.5
        assert (rate is optimizer.param_groups[0]["lr"]) is not fixed


# Train with an implementation of Adam. After three steps, a new optimizer loads the state dict of the first optimizer.
TRAIN = """
import torch

def train(kind, steps=6):
    torch.manual_seed(0)
    weights = [torch.randn(3, 4, requires_grad=True), torch.randn(5, requires_grad=True)]
    optimizer = kind(weights, lr=0.01)
    for i in range(steps):
        if i == 3:
            saved, optimizer = optimizer.state_dict(), kind(weights, lr=1.0)
            optimizer.load_state_dict(saved)
        optimizer.zero_grad()
        sum((w**3).sum() for w in weights).backward()
        optimizer.step()
        assert torch.is_grad_enabled()
    return torch.cat([w.detach().flatten() for w in weights]).tolist()
"""


@pytest.mark.slow
def test_adam_does_not_import_the_compiler_and_equals_torchs_adam():
    """Our Adam trains in a new process, because other tests import the compiler into this process."""
    ours = """
import sys
from model.training.optimizer import Adam
print(train(Adam))
assert "torch._dynamo" not in sys.modules
"""
    done = run_quietly([sys.executable, "-c", TRAIN + ours], ROOT, {})
    assert done.returncode == 0, done.stderr
    exec(TRAIN, names := {})
    assert json.loads(done.stdout) == names["train"](torch.optim.Adam)
    assert "torch._dynamo" in sys.modules, "torch's Adam no longer imports the compiler"
