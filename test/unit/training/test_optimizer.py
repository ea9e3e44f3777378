"""Selection of the Adam implementation, loading of the state of another one, and step counts."""

import json
import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from scripts import ROOT, run_quietly
from torch import nn

from model.devices.device import DEVICE_KINDS
from model.training import optimizer as optimizer_module
from model.training.optimizer import Adam, make_adam, set_learning_rate, steps_taken

CPU = torch.device("cpu")


class OwnAdam(torch.optim.Optimizer):
    """Count steps like the Adam of torch_npu: a number per weight, and one for all, taken from the first weight."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False})
        self.of_all = None

    @torch.no_grad()
    def step(self):
        (group,) = self.param_groups
        for p in group["params"]:
            if not self.state[p]:
                self.state[p] = {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        if self.of_all is None:
            self.of_all = self.state[group["params"][0]]["step"]
        for p in group["params"]:
            self.state[p]["step"] += 1
        self.of_all += 1  # the same tensor, if the first weight's is one, has grown by two now
        for p in group["params"]:
            state = self.state[p]
            state["exp_avg"].mul_(0.9).add_(0.1 * p.grad)
            state["exp_avg_sq"].mul_(0.999).add_(0.001 * p.grad**2)
            mean, square = state["exp_avg"] / (1 - 0.9**self.of_all), state["exp_avg_sq"] / (1 - 0.999**self.of_all)
            p -= group["lr"] * mean / (square.sqrt() + 1e-8)


@pytest.fixture
def device_with_its_own(monkeypatch):
    module = ModuleType("adam_of_a_device")
    module.OwnAdam = OwnAdam
    monkeypatch.setitem(sys.modules, "adam_of_a_device", module)

    def name(path):
        monkeypatch.setitem(DEVICE_KINDS, "cpu", replace(DEVICE_KINDS["cpu"], adam=path))

    name("adam_of_a_device.OwnAdam")
    return name


def weights():
    return [nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([3.0]))]


def steps(optimizer, number):
    parameters = optimizer.param_groups[0]["params"]
    for _ in range(number):
        optimizer.zero_grad()
        sum((p**2).sum() for p in parameters).backward()
        optimizer.step()


def test_device_without_its_own_adam_uses_torchs():
    optimizer = make_adam(weights(), 0.01, CPU)
    assert type(optimizer) is Adam and optimizer.param_groups[0]["lr"] == 0.01


def test_learning_rate_that_graphs_read_is_a_tensor_that_keeps_its_memory(monkeypatch):
    monkeypatch.setattr(optimizer_module, "adam_options", lambda device: {"capturable": True})
    for fixed, kind in ((True, float), (False, torch.Tensor)):
        optimizer = make_adam(weights(), 0.01, CPU, fixed=fixed)
        rate = optimizer.param_groups[0]["lr"]
        set_learning_rate(optimizer, 0.5)
        assert isinstance(rate, kind) and float(optimizer.param_groups[0]["lr"]) == 0.5
        assert (rate is optimizer.param_groups[0]["lr"]) is not fixed


def test_device_uses_its_own_adam_unless_kernels_are_plain(device_with_its_own):
    assert type(make_adam(weights(), 0.01, CPU)) is OwnAdam
    assert type(make_adam(weights(), 0.01, CPU, reference=True)) is Adam


def test_missing_adam_of_the_device_module_falls_back_to_torchs(device_with_its_own):
    device_with_its_own("adam_of_a_device.Gone")
    assert type(make_adam(weights(), 0.01, CPU)) is Adam


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (False, False)])
def test_each_adam_resumes_from_the_state_of_the_other(device_with_its_own, first, second):
    """True is torch's Adam. After five steps in total, all step counts are five."""
    before, whole = weights(), weights()
    steps(torch.optim.Adam(whole, lr=0.01), 5)
    optimizer = make_adam(before, 0.01, CPU, reference=first)
    steps(optimizer, 2)
    other = make_adam(before, 0.01, CPU, reference=second)
    other.load_state_dict(optimizer.state_dict())
    steps(other, 3)
    assert [int(other.state[p]["step"]) for p in before] == [5, 5] and steps_taken(other) == 5
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(before, whole, strict=True))


@pytest.mark.parametrize("plain", [True, False])
def test_step_counts_start_at_zero(device_with_its_own, plain):
    optimizer = make_adam(weights(), 0.01, CPU, plain)
    assert steps_taken(optimizer) == 0
    steps(optimizer, 3)
    assert steps_taken(optimizer) == 3


# Train with an implementation of Adam. The training resumes from a state dict in the middle.
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
    """A new process trains with our Adam, because other tests import the compiler."""
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
