"""The functions that select and describe a device, set its precision, and depend on its memory."""

import os
import re

import pytest
import torch
from scripts import ROOT

from model.common.errors import UsageError
from model.devices import device
from model.devices.opening import processes_possible, resolve_device, set_visible_devices
from model.network import GaitSet

CPU = torch.device("cpu")


def test_cpu_is_always_available():
    assert resolve_device("cpu") == CPU
    assert "threads" in device.describe(CPU)
    assert device.free_memory(CPU) is None
    has_affinity = hasattr(os, "sched_getaffinity")
    assert processes_possible("cpu") == (len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count())
    device.synchronize(CPU)


def test_auto_selects_an_accelerator_or_the_cpu():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "cpu0"])
def test_unknown_device_names_are_rejected(name):
    with pytest.raises(UsageError, match="unknown device"):
        resolve_device(name)


def test_environment_overrides_visible_devices_of_the_config(monkeypatch):
    monkeypatch.delenv("ASCEND_RT_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    set_visible_devices({"CUDA_VISIBLE_DEVICES": "0", "ASCEND_VISIBLE_DEVICES": "0, 1"})
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert os.environ["ASCEND_RT_VISIBLE_DEVICES"] == "0,1"
    monkeypatch.delenv("ASCEND_RT_VISIBLE_DEVICES")


def test_precision_switches_of_the_environment_exclude_each_other():
    device.set_precision(CPU, {"ALLOW_HF32": "1"})
    with pytest.raises(UsageError, match="exclude each other"):
        device.set_precision(CPU, {"ALLOW_HF32": "1", "ALLOW_FP32": "1"})


def test_mixed_precision_on_the_cpu_defaults_to_bf16():
    assert device.precision_of(CPU, None) == (torch.bfloat16, False)
    assert device.precision_of(CPU, "fp16") == (torch.float16, True)


def test_to_device_changes_only_the_memory_layout():
    torch.manual_seed(0)
    network = GaitSet().eval()
    sils = (torch.rand(2, 3, 64, 44) > 0.5).float()
    with torch.no_grad():
        before = network(sils)
        after = device.to_device(network, CPU)(sils)
    assert network.set_layer2.forward_block.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert (before - after).abs().max() < 3e-5 * before.abs().max()


CUDA = torch.device("cuda", 0)  # the tests use only its type, so they need no GPU


@pytest.mark.parametrize(
    ("size", "share", "expected"), [(500, 0.5, True), (501, 0.5, False), (501, 0.6, True), (1001, 1.0, False)]
)
def test_fits_compares_with_a_share_of_the_free_memory(monkeypatch, size, share, expected):
    monkeypatch.setattr("model.devices.device.free_memory", lambda device: 1000)
    assert device.fits(size, CUDA, share) is expected


def test_all_sizes_fit_the_cpu_and_none_fit_a_device_of_unknown_memory(monkeypatch):
    monkeypatch.setattr("model.devices.device.free_memory", lambda device: None)
    assert device.fits(2**60, CPU) and not device.fits(1, CUDA)


def test_adam_is_capturable_only_on_devices_with_graphs():
    assert device.kind_of(CUDA).graph and device.adam_options(CUDA) == {"fused": True, "capturable": True}
    assert not device.kind_of(CPU).graph and device.adam_options(CPU) == {}


def test_copy_to_the_same_device_returns_the_tensor():
    tensor = torch.zeros(3)
    assert device.copy_to(tensor, CPU) is tensor


def test_only_device_py_names_device_types():
    """Only config keys and help texts may name device types, so that other code need not change for a new device."""
    kinds = [kind for kind in device.DEVICE_KINDS if kind != "cpu"] + ["nccl", "hccl", "torch_npu"]
    pattern = re.compile(rf"""["'.]({"|".join(kinds)})\b(?!-smi)""")
    for path in (ROOT / "model").rglob("*.py"):
        if path.name != "device.py":
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                assert not pattern.search(line), f"{path.name}:{number}: {line}"
