"""Stand-in for torch_npu: the device `npu`, which npusim.cpp implements, and the functions that this project uses.

Names, signatures and errors are the same as in torch_npu 2.11 to 2.13. Environment variables:

NPUSIM_LIBRARY   path of the compiled npusim.cpp
NPUSIM_CHIP      name of the devices (default: Ascend910B3)
NPUSIM_MEMORY    free memory in bytes (default: 32 GiB)
NPUSIM_TAKEN     numbers of the devices that other processes use, separated by commas
NPUSIM_RECORD    file to which the process writes the switches that were set, at its end
"""

import atexit
import ctypes
import json
import os
import sys
import types
from pathlib import Path

import torch

if torch._C._get_accelerator().type != "cpu":
    kind = torch._C._get_accelerator().type
    raise RuntimeError(f"Two accelerators cannot be used at the same time in PyTorch: npu and {kind}.")

_library = ctypes.CDLL(os.environ["NPUSIM_LIBRARY"])
_library.npusim_seed.argtypes = [ctypes.c_ulonglong]
torch.utils.rename_privateuse1_backend("npu")
calls = []  # switches that were set; they have no effect in the stand-in


@atexit.register
def _write_record() -> None:
    """Write the switches that were set, and the devices for which threads have requested pinned memory."""
    if "NPUSIM_RECORD" in os.environ:
        bits = _library.npusim_pinned()
        pinned = [number for number in range(bits.bit_length()) if bits >> number & 1]
        Path(os.environ["NPUSIM_RECORD"]).write_text(json.dumps([calls, pinned]))


def _chip() -> str:
    return os.environ.get("NPUSIM_CHIP", "Ascend910B3")


def _index(device=None) -> int:
    if device is None:
        return _library.npusim_current()
    index = device if isinstance(device, int) else torch.device(device).index
    return _library.npusim_current() if index is None else index


def _set_device(device) -> None:
    if str(_index(device)) in os.environ.get("NPUSIM_TAKEN", "").split(","):
        raise RuntimeError(
            f"SetDevice: NPU function error: aclrtSetDevice({_index(device)}), error code is 507033\n[ERROR] ERR00100"
        )
    if not _library.npusim_set(_index(device)):
        raise RuntimeError(
            f"SetDevice: NPU function error: aclrtSetDevice({_index(device)}), error code is 107001\n[ERROR] ERR00100"
        )


class _Noted:
    """An object whose attributes are switches of the device. Each assignment is recorded in `calls`."""

    def __init__(self, name: str, **values):
        vars(self).update(values, name=name)

    def __setattr__(self, key, value):
        if key not in vars(self):
            raise AttributeError(f"{self.name} has no {key}")
        vars(self)[key] = value
        calls.append((self.name, key, value))


def _set_compile_mode(jit_compile=False) -> None:
    calls.append(("set_compile_mode", "jit_compile", jit_compile))


def _get_device_name(device_name=None) -> str:
    if _index(device_name) >= _library.npusim_count():
        raise AssertionError("Invalid device id")
    return _chip()


def _npu_module() -> types.ModuleType:
    module = types.ModuleType("torch_npu.npu")
    module.__path__ = []
    module.is_available = lambda: _library.npusim_count() > 0
    module.is_initialized = lambda: True
    module.device_count = lambda: _library.npusim_count()
    module.current_device = lambda: _library.npusim_current()
    module.set_device = _set_device
    module.get_device_name = _get_device_name
    module.synchronize = lambda device=None: None
    module.empty_cache = lambda: None
    module.mem_get_info = lambda device=None: (int(os.environ.get("NPUSIM_MEMORY", 32 << 30)), 64 << 30)
    module.is_bf16_supported = lambda: not _chip().startswith(("Ascend910A", "Ascend910P", "Ascend310P"))
    module.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16, torch.float32]
    module._is_in_bad_fork = lambda: False
    module.manual_seed = module.manual_seed_all = _library.npusim_seed
    module.set_compile_mode = _set_compile_mode
    module.conv = _Noted("conv", allow_hf32=True)
    module.matmul = _Noted("matmul", allow_hf32=False)
    module.config = _Noted("config", allow_internal_format=True)
    module.amp = types.ModuleType("torch_npu.npu.amp")
    module.amp.GradScaler = scaler.GradScaler
    module.utils = types.ModuleType("torch_npu.npu.utils")
    for function in (scaler.is_support_inf_nan, scaler.get_npu_overflow_flag, scaler.clear_npu_overflow_flag):
        setattr(module.utils, function.__name__, function)
    return module


from torch_npu import scaler  # noqa: E402

npu = _npu_module()
sys.modules |= {module.__name__: module for module in (npu, npu.amp, npu.utils)}
torch._register_device_module("npu", npu)
torch.utils.generate_methods_for_privateuse1_backend(for_tensor=True, for_module=True, for_storage=True)


def _register_autocast() -> tuple[torch.library.Library, ...]:
    """Register the operators that autocast runs in half precision. Autocast does not change other operators."""
    library = torch.library.Library("aten", "IMPL")
    everything = torch.library.Library("_", "IMPL")
    everything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def in_half(operator):
        def run(*arguments, **keywords):
            dtype = torch.get_autocast_dtype("npu")
            with torch._C._ExcludeDispatchKeyGuard(keys):
                cast = [
                    a.to(dtype) if isinstance(a, torch.Tensor) and a.dtype == torch.float32 else a for a in arguments
                ]
                return operator(*cast, **keywords)

        return run

    for name in ("conv2d", "matmul", "linear", "bmm", "mm"):
        library.impl(name, in_half(getattr(torch.ops.aten, name)), "AutocastPrivateUse1")
    return library, everything


_libraries = _register_autocast()  # kept, because the registrations end when these objects are deleted


def _autoload() -> None:
    """Do nothing. PyTorch calls this entry point if the package is installed."""


from torch_npu import hccl, optim, profiler  # noqa: E402, F401
