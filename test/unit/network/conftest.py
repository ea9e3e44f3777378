"""A fixture with the Triton kernels, run by Triton's interpreter on the CPU and, if there is a GPU, compiled."""

import importlib
import sys
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model.devices.opening import resolve_device

KERNELS = ("active_blocks", "first_layers", "maxima", "pyramid", "triplet_loss")
MODULES = (*(f"kernels.{name}" for name in KERNELS), "fused_layers")


def is_bound(name: str) -> bool:
    """Return whether the import of a module depends on TRITON_INTERPRET. Triton's C library does not depend on it."""
    ours = [f"model.network.{module}" for module in MODULES]
    return name in ours or (f"{name}.".startswith("triton.") and not f"{name}.".startswith("triton._C."))


@cache
def imported(interpreted: bool) -> tuple[SimpleNamespace, dict]:
    """Import the kernels for the interpreter or the GPU.

    Return the modules with the kernels, and the entries of sys.modules that their tests need.
    """
    pytest.importorskip("triton", reason="Triton cannot be imported here", exc_type=ImportError)
    modules = {name.split(".")[-1]: importlib.import_module(f"model.network.{name}") for name in MODULES}
    device = torch.device("cpu") if interpreted else resolve_device("cuda")
    if interpreted:
        # The interpreter's time depends on the number of operations, not on the size of their tensors.
        modules["first_layers"].BLOCK = 1024
        skip_without_loops(modules["maxima"])
    kernels = SimpleNamespace(device=device, interpreted=interpreted, **modules)
    return kernels, {name: module for name, module in sys.modules.items() if is_bound(name)}


def skip_without_loops(maxima) -> None:
    """Skip if the interpreter fails in a loop. Triton 3.6 uses a conversion that NumPy 2.4 no longer has."""
    try:
        maxima.SetMaximum.apply(torch.zeros(1, 512, 1, 1), torch.tensor([0, 1], dtype=torch.int32))
    except Exception as error:
        if "0-dimensional arrays" not in str(error):
            raise
        pytest.skip(f"this Triton's interpreter is not compatible with NumPy {np.__version__}")


@pytest.fixture(scope="module", params=["interpreted", "compiled"] if torch.cuda.is_available() else ["interpreted"])
def kernels(request):
    """The modules with the kernels. At the end, sys.modules is restored."""
    interpreted = request.param == "interpreted"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", str(int(interpreted)))
        for name in filter(is_bound, list(sys.modules)):
            patch.delitem(sys.modules, name)
        try:
            modules, present = imported(interpreted)
            sys.modules.update(present)
            yield modules
        finally:
            for name in filter(is_bound, list(sys.modules)):
                del sys.modules[name]
            # If this attribute remained, `from model.network import fused_layers` would return the deleted module.
            vars(sys.modules["model.network"]).pop("fused_layers", None)


@pytest.fixture
def exact_kernels(kernels):
    """The interpreted kernels only, for comparisons in float32. A GPU would round the operands of its products."""
    if not kernels.interpreted:
        pytest.skip("a GPU rounds float32 products")
    return kernels
