"""The check whether Triton works on a device."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest
import torch

from model.devices import triton_support

works = triton_support.works.__wrapped__  # without the cache


@pytest.fixture
def capability(monkeypatch):
    """Let torch report a compute capability, and let Triton be installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())

    def set_capability(value):
        module = SimpleNamespace(get_device_capability=lambda device: value)
        monkeypatch.setattr(torch, "get_device_module", lambda device: module)

    return set_capability


def test_only_cuda_with_triton_is_supported(monkeypatch, capability):
    cuda = torch.device("cuda")
    capability((9, 0))
    monkeypatch.setattr(triton_support, "run_trial_kernel", lambda device: None)
    assert works(cuda) and not works(SimpleNamespace(type="npu")) and not works(torch.device("cpu"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not works(cuda)


@pytest.mark.parametrize(
    ("value", "problem", "expected"), [((7, 5), None, False), ((8, 0), None, True), ((9, 0), "no C compiler", False)]
)
def test_trial_kernel_decides(monkeypatch, caplog, capability, value, problem, expected):
    def run_trial_kernel(device):
        if problem:
            raise RuntimeError(f"{problem}\nand more")

    capability(value)
    monkeypatch.setattr(triton_support, "run_trial_kernel", run_trial_kernel)
    assert works(torch.device("cuda")) is expected
    messages = [record.getMessage() for record in caplog.records]
    assert messages == (
        [f"Triton does not work here ({problem}): torch's own kernels are used instead"] if problem else []
    )
