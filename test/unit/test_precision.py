"""Mixed precision: torch's, and the calls that apex gets."""

import sys
from contextlib import contextmanager
from types import ModuleType

import pytest
import torch
from torch import nn

from model.errors import UsageError
from model.network import GaitSet
from model.precision import FullPrecision, TorchPrecision, import_apex_amp, make_precision

CPU = torch.device("cpu")


def small_problem():
    torch.manual_seed(0)
    network = nn.Linear(4, 2)
    return network, torch.optim.SGD(network.parameters(), lr=0.1), torch.ones(3, 4)


def one_step(precision, network, optimizer, x):
    output = network(x)
    optimizer.zero_grad()
    precision.backward(output.float().square().mean(), optimizer)
    precision.step(optimizer)
    return output, next(network.parameters()).detach().clone()


def step_with_infinite_gradients(precision, network, optimizer, x):
    precision.backward((network(x) * torch.inf).sum(), optimizer)
    precision.step(optimizer)


def test_off_is_plain_float32():
    network, optimizer, x = small_problem()
    precision, same, _ = make_precision("off", network, optimizer, CPU, "", "dynamic")
    assert isinstance(precision, FullPrecision) and same is network
    output, _ = one_step(precision, network, optimizer, x)
    assert output.dtype == torch.float32


def gaitset_problem():
    torch.manual_seed(0)
    network = GaitSet(8)
    sils = (torch.rand(2, 2, 64, 44) > 0.5).float()
    return network, torch.optim.SGD(network.parameters(), lr=0.1), sils


@pytest.mark.parametrize(("dtype", "expected"), [("", torch.bfloat16), ("fp16", torch.float16)])
def test_torch_casts_and_learns_nearly_as_float32_does(dtype, expected):
    exact_output, exact = one_step(FullPrecision(), *gaitset_problem())
    start, optimizer, sils = gaitset_problem()
    precision, network, optimizer = make_precision("torch", start, optimizer, CPU, dtype, "1024")
    assert network is start
    before = next(network.parameters()).detach().clone()
    output, mixed = one_step(precision, network, optimizer, sils)
    assert exact_output.dtype == torch.float32 and output.dtype == expected
    assert next(network.parameters()).dtype == torch.float32
    assert 0 < (mixed - exact).norm() < 0.05 * (exact - before).norm()


def test_gradients_are_scaled_only_in_the_precision_that_needs_it():
    for dtype, scale in (("fp16", 1024.0), ("bf16", 1.0)):
        network, optimizer, _ = small_problem()
        precision, network, optimizer = make_precision("torch", network, optimizer, CPU, dtype, "1024")
        precision.backward(network.weight.sum(), optimizer)
        assert network.weight.grad.eq(scale).all()


def test_a_static_scale_stays_and_steps_with_infinite_gradients_are_left_out():
    network, optimizer, x = small_problem()
    precision = TorchPrecision(CPU, True, "32")
    _, before = one_step(precision, network, optimizer, x)
    assert precision.scaler.get_scale() == 32
    step_with_infinite_gradients(precision, network, optimizer, x)
    assert torch.equal(network.weight, before)
    assert precision.scaler.get_scale() == 32


def test_a_dynamic_scale_goes_down_and_its_state_is_restored():
    network, optimizer, x = small_problem()
    precision = TorchPrecision(CPU, True, "dynamic")
    step_with_infinite_gradients(precision, network, optimizer, x)
    assert precision.scaler.get_scale() == 32768
    other = TorchPrecision(CPU, True, "dynamic")
    other.scaler.scale(torch.ones(1))
    other.load_state_dict(precision.state_dict())
    assert other.scaler.get_scale() == 32768


class FakeAmp(ModuleType):
    """Notes the calls that the NPU port makes of Ascend's apex."""

    def __init__(self):
        super().__init__("apex.amp")
        self.calls = []

    def initialize(self, network, optimizer, opt_level, loss_scale):
        self.calls.append(("initialize", opt_level, loss_scale))
        return network, optimizer

    @contextmanager
    def scale_loss(self, loss, optimizer):
        self.calls.append(("scale_loss", optimizer))
        yield loss * 32

    def state_dict(self):
        return {"loss_scaler0": {"loss_scale": 32.0}}


@pytest.fixture
def fake_apex(monkeypatch):
    apex, amp = ModuleType("apex"), FakeAmp()
    apex.amp = amp
    monkeypatch.setitem(sys.modules, "apex", apex)
    monkeypatch.setitem(sys.modules, "apex.amp", amp)
    return amp


@pytest.mark.parametrize(("given", "passed"), [("32", 32.0), ("dynamic", "dynamic")])
def test_apex_is_called_as_the_npu_port_calls_it(fake_apex, given, passed):
    network, optimizer, x = small_problem()
    precision, network, optimizer = make_precision("apex", network, optimizer, CPU, "", given)
    one_step(precision, network, optimizer, x)
    assert fake_apex.calls == [("initialize", "O2", passed), ("scale_loss", optimizer)]
    assert precision.state_dict() == {"loss_scaler0": {"loss_scale": 32.0}}


def test_no_apex_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "apex", None)
    with pytest.raises(UsageError, match=r"not installed.*--amp torch"):
        import_apex_amp()


@pytest.mark.parametrize(
    ("attribute", "told"), [("normalization", "NVIDIA removed it"), ("sessions", "another package")]
)
def test_packages_called_apex_that_are_not_the_one_are_told_apart(monkeypatch, attribute, told):
    apex = ModuleType("apex")
    setattr(apex, attribute, object())
    monkeypatch.setitem(sys.modules, "apex", apex)
    monkeypatch.setitem(sys.modules, "apex.amp", None)
    with pytest.raises(UsageError, match=told):
        import_apex_amp()
