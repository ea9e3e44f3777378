"""The check whether Triton works on a device, and the folder for its compiled kernels."""

import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from model.devices import triton_support

works = triton_support.works.__wrapped__  # without the cache


@pytest.fixture
def capability(monkeypatch):
    """Return a function that sets the compute capability that torch reports. Triton appears to be installed."""
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
def test_triton_works_if_the_trial_kernel_runs(monkeypatch, caplog, capability, value, problem, expected):
    def run_trial_kernel(device):
        if problem:
            raise RuntimeError(f"{problem}\nand more")

    capability(value)
    monkeypatch.setattr(triton_support, "run_trial_kernel", run_trial_kernel)
    assert works(torch.device("cuda")) is expected
    messages = [record.getMessage() for record in caplog.records]
    warning = f"Triton does not work here ({problem}): torch's own kernels are used instead"
    assert messages == ([warning] if problem else [])


@pytest.mark.parametrize(
    ("home", "variables", "temporary"),
    [
        ("{0}/missing", {}, True),
        ("~", {}, True),  # os.path.expanduser returns this for an unknown user without HOME
        ("{0}", {}, False),
        ("{0}/missing", {"TRITON_HOME": ""}, True),
        ("{0}/missing", {"TRITON_HOME": "/chosen"}, False),
        ("{0}/missing", {"TRITON_CACHE_DIR": "/chosen"}, False),
    ],
)
def test_kernels_are_compiled_into_a_temporary_folder_without_a_home(monkeypatch, tmp_path, home, variables, temporary):
    ends = []
    monkeypatch.setattr(triton_support.atexit, "register", lambda end, *arguments, **_: ends.append((end, arguments)))
    for name in ("TRITON_HOME", "TRITON_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": home.format(tmp_path), **variables}.items():
        monkeypatch.setenv(name, value)
    triton_support.provide_cache_folder()
    if not temporary:
        assert os.environ.get("TRITON_HOME") == variables.get("TRITON_HOME") and not ends
        return
    folder = Path(os.environ["TRITON_HOME"])
    assert folder.stat().st_mode & 0o777 == 0o700
    [(end, arguments)] = ends
    end(*arguments)
    assert not folder.exists()
