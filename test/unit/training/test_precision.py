"""Mixed precision of torch, and the error messages about apex."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from model.common.errors import UsageError
from model.network import GaitSet
from model.network.compute_mode import ComputeMode, make_compute_mode
from model.training.precision import Precision, import_apex_amp, make_precision

CPU = torch.device("cpu")


def one_step(precision, network, optimizer, x):
    output = network(x)
    optimizer.zero_grad()
    precision.backward(output.float().square().mean(), optimizer)
    precision.step(optimizer)
    return output, next(network.parameters()).detach().clone()


def gaitset_problem(amp_dtype=None):
    torch.manual_seed(0)
    network = GaitSet(8, amp_dtype)
    sils = (torch.rand(2, 2, 64, 44) > 0.5).float()
    return network, torch.optim.SGD(network.parameters(), lr=0.1), sils


@pytest.mark.parametrize(("dtype", "expected"), [("", torch.bfloat16), ("fp16", torch.float16)])
def test_autocast_learns_nearly_like_float32(dtype, expected):
    exact_output, exact = one_step(Precision(CPU), *gaitset_problem())
    mode = make_compute_mode("torch", dtype, "plain", CPU)
    start, optimizer, sils = gaitset_problem(mode.amp_dtype)
    precision, network, optimizer = make_precision(mode, start, optimizer, CPU, "1024")
    assert network is start
    before = next(network.parameters()).detach().clone()
    output, mixed = one_step(precision, network, optimizer, sils)
    assert exact_output.dtype == torch.float32 and output.dtype == expected
    assert next(network.parameters()).dtype == torch.float32
    assert 0 < (mixed - exact).norm() < 0.05 * (exact - before).norm()


@pytest.mark.parametrize(
    ("dtype", "loss_scale", "scale"),
    [("fp16", "1024", 1024), ("fp16", "dynamic", 65536), ("bf16", "dynamic", 1), ("bf16", "1024", 1024)],
)
def test_gradients_are_scaled_if_needed_or_requested(dtype, loss_scale, scale):
    network = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    mode = make_compute_mode("torch", dtype, "plain", CPU)
    precision, network, optimizer = make_precision(mode, network, optimizer, CPU, loss_scale)
    precision.backward(network.weight.sum(), optimizer)
    assert network.weight.grad.eq(scale).all()
    before = network.weight.detach().clone()
    precision.step(optimizer)
    # The step equals the learning rate, whatever the scale is.
    assert torch.allclose(before - network.weight, torch.full_like(before, 0.1))


def test_apex_for_another_device_is_reported(monkeypatch):
    reason = "Found param weight with type torch.npu.FloatTensor, expected torch.cuda.FloatTensor.\nWhen"
    apex, amp = ModuleType("apex"), Mock(__spec__=ModuleSpec("apex.amp", None))
    apex.amp, apex.__spec__ = amp, ModuleSpec("apex", None)
    monkeypatch.setitem(sys.modules, "apex", apex)
    monkeypatch.setitem(sys.modules, "apex.amp", amp)
    amp.initialize.side_effect = RuntimeError(reason)
    network = nn.Linear(4, 2, device="meta")
    with pytest.raises(UsageError, match=r"apex does not support a network on meta \(Found .*FloatTensor\.\); use"):
        make_precision(ComputeMode("apex"), network, torch.optim.SGD(network.parameters()), torch.device("meta"), "32")


SITES = "Summary: Pyramid toolkit to add Velruse, Flash Messages, CSRF, ReCaptcha and Sessions\n"
FOUND = {  # version and metadata of an installation, source of the package, sources of its modules, expected message
    "NVIDIA's without amp": ("0.1", "", {"normalization": ""}, "the installed apex 0.1 has no amp: NVIDIA removed it"),
    "a folder of NVIDIA's": (None, "", {"normalization": ""}, "the installed apex has no amp: NVIDIA removed it in"),
    "the index's": (f"0.9.10.dev0\n{SITES}", "", {"lib": ""}, "installed apex 0.9.10.dev0 is the unrelated package of"),
    "the index's without pyramid": (
        None, "from pyramid.response import Response", {}, "the installed apex is the unrelated package of .* toolkit",
    ),
    "another package": (None, "", {"sessions": ""}, "the installed apex has no amp;"),
    "an amp of another kind": (None, "", {"amp": ""}, "the installed apex has no amp.initialize"),
    "an apex for an older torch": (
        "0.1+ascend", "", {"amp": "from torch._six import string_classes"},
        r"installed apex 0.1\+ascend is made for an older torch than \d\S+ \(No module named 'torch._six'\)",
    ),
    "an apex that imports a removed function of torch": (
        "0.1", "", {"amp": "from torch.nn.utils import no_such_function"},
        "installed apex 0.1 is made for an older torch than .*no_such_function",
    ),
    "an apex without its compiled part": (
        "0.1", "", {"amp": "import amp_C"}, r"apex.amp of the installed apex 0.1 cannot be loaded .*'amp_C'",
    ),
}  # fmt: skip


def apex_modules() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == "apex"]


@pytest.mark.parametrize(("version", "text", "parts", "message"), FOUND.values(), ids=FOUND)
def test_other_packages_with_the_name_apex_are_identified(monkeypatch, tmp_path, version, text, parts, message):
    for name, content in {"": text, **parts}.items():
        (tmp_path / "apex" / name).mkdir(parents=True)
        (tmp_path / "apex" / name / "__init__.py").write_text(content)
    if version is not None:
        (tmp_path / "apex-0.dist-info").mkdir()
        metadata = f"Metadata-Version: 2.1\nName: apex\nVersion: {version}\n"
        (tmp_path / "apex-0.dist-info" / "METADATA").write_text(metadata)
    for name in apex_modules():
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=rf"^--amp apex: (the )?{message}.*--amp torch") as caught:
        import_apex_amp()
    assert "\n" not in str(caught.value)
    # If apex is too old for this torch, building it again would not help.
    assert ("build apex" in str(caught.value)) != ("older torch" in str(caught.value))
    for name in apex_modules():
        del sys.modules[name]
