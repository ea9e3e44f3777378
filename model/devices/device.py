"""The table of device types with their backends, data types and classes, and functions that depend on the device."""

import importlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from model.common.errors import UsageError

log = logging.getLogger(__name__)

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class DeviceKind:
    """A device type, which is a row of the device table."""

    name: str
    backends: tuple[str, ...]  # backends of torch.distributed that support the device's tensors, the default first
    amp_dtype: torch.dtype  # default data type of autocast
    channels_last: bool  # whether convolutions are faster in channels-last format
    config_key: str | None = None  # configuration key that lists the visible devices
    visible: str | None = None  # environment variable that lists the visible devices
    list_command: str | None = None  # shell command that lists the devices
    extension: str | None = None  # module that adds the device to torch
    adam: str | None = None  # the device's own class of Adam, whose state is compatible with torch's class
    scaler: str | None = None  # the device's own class of loss scaler, which detects overflow
    profiler: str = "torch.profiler"  # module with the profiler for the device
    triton: bool = False  # whether Triton supports the device
    graph: str | None = None  # class in the device's module that captures and replays work
    tensor_function: str | None = None  # function of the extension that rebuilds a tensor from a pickle
    layout_class: str | None = None  # class of the memory layouts that are arguments of `tensor_function`


_VISIBLE, _ASCEND_VISIBLE = "CUDA_VISIBLE_DEVICES", "ASCEND_RT_VISIBLE_DEVICES"
DEVICE_KINDS = {
    "cpu": DeviceKind("cpu", ("gloo",), torch.bfloat16, True),
    "cuda": DeviceKind(
        "cuda", ("nccl", "gloo"), torch.float16, True, _VISIBLE, _VISIBLE, "nvidia-smi", triton=True, graph="CUDAGraph"
    ),
    "npu": DeviceKind(
        "npu", ("hccl",), torch.float16, False, "ASCEND_VISIBLE_DEVICES", _ASCEND_VISIBLE, "npu-smi info",
        extension="torch_npu", adam="torch_npu.optim.NpuFusedAdam", scaler="torch_npu.npu.amp.GradScaler",
        profiler="torch_npu.profiler", tensor_function="torch_npu.utils.storage._rebuild_npu_tensor",
        layout_class="torch_npu.npu._format.Format",
    ),
}  # fmt: skip
# Environment variables that select the network interface of a backend.
INTERFACE_VARIABLES = {"gloo": "GLOO_SOCKET_IFNAME", "nccl": "NCCL_SOCKET_IFNAME"}
# Environment variables of backends that have their own timeouts. Each value is the number of seconds that a process
# waits for the other processes:
# 1. to connect: at most 7200, default 120
# 2. in a collective: default 1836, 0 for no limit; the Ascend 910 rounds the value down to a multiple of 68
# 3. for an event on the device: default 1868, 0 for no limit; must be longer than the timeout of a collective
TIMEOUT_VARIABLES = {"hccl": ("HCCL_CONNECT_TIMEOUT", "HCCL_EXEC_TIMEOUT", "HCCL_EVENT_TIMEOUT")}
AMP_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def kind_of(device: torch.device) -> DeviceKind:
    return DEVICE_KINDS[device.type]


def class_of(path: str | None) -> type | None:
    """Return the class with the path `<module>.<class>`, or None if the module has no such class."""
    if path is None:
        return None
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name, None)


def select(device: torch.device) -> None:
    """Make `device` the current device of this thread.

    The current device of a new thread is device 0. If the thread pins memory, the driver allocates memory on device 0,
    which may belong to another process.
    """
    torch.get_device_module(device).set_device(device)


def describe(device: torch.device) -> str:
    """Return a description of the device for the log."""
    if device.type == "cpu":
        return f"cpu, {torch.get_num_threads()} threads"
    name = torch.get_device_module(device).get_device_name(device)
    return f"{device} ({name})"


def to_device(network: M, device: torch.device) -> M:
    """Move the network to `device`, in the memory format that is fastest there."""
    layout = torch.channels_last if kind_of(device).channels_last else torch.contiguous_format
    return network.to(device=device, memory_format=layout)


def adam_options(device: torch.device) -> dict[str, bool]:
    """Return arguments for torch's Adam with which a step is one kernel that a graph can capture."""
    return {"fused": True, "capturable": True} if kind_of(device).graph else {}


def synchronize(device: torch.device) -> None:
    """Wait until the device has completed all work."""
    torch.get_device_module(device).synchronize(device)


def free_memory(device: torch.device) -> int | None:
    """Return the number of free bytes on the device. Return None for the CPU and for devices that cannot report it."""
    module = torch.get_device_module(device)
    return module.mem_get_info(device)[0] if hasattr(module, "mem_get_info") else None


def fits(size: int, device: torch.device, share: float = 0.5) -> bool:
    """Return whether `size` bytes are at most `share` of the free memory of `device`. Always return True for the CPU.

    Return False if the device cannot report its free memory.
    """
    free = free_memory(device)
    return device.type == "cpu" if free is None else size <= share * free


def copy_to(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to `device` asynchronously. A tensor on the host is first copied to pinned memory."""
    if tensor.device == device:
        return tensor
    if device.type != "cpu" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def set_precision(device: torch.device, environment: Mapping[str, str] = os.environ) -> None:
    """Compute float32 in full precision, as in the original code, unless the environment allows rounding.

    - `ALLOW_TF32` allows an NVIDIA device to round the operands of convolutions and matrix products.
    - `ALLOW_HF32` allows an Ascend device to round the operands of convolutions, which torch_npu does by default.
    - `ALLOW_FP32` keeps full precision on an Ascend device.

    As in the NPU port, `ALLOW_HF32` and `ALLOW_FP32` also keep weights in torch's memory format. The values 0 and False
    count as unset. Raises UsageError if both ALLOW_FP32 and ALLOW_HF32 are set.
    """
    names = ("ALLOW_FP32", "ALLOW_HF32", "ALLOW_TF32")
    allow_fp32, allow_hf32, allow_tf32 = (environment.get(name, "").lower() not in ("", "0", "false") for name in names)
    if allow_fp32 and allow_hf32:
        raise UsageError("ALLOW_FP32 and ALLOW_HF32 are both set, but they exclude each other; unset one of them")
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    elif device.type == "npu":
        module = torch.get_device_module(device)
        module.conv.allow_hf32 = allow_hf32
        module.matmul.allow_hf32 = False  # the distances in the loss and in the evaluation are matrix products
        if allow_fp32 or allow_hf32:
            module.config.allow_internal_format = False


def set_compile_mode(device: torch.device, jit_compile: bool) -> None:
    """Enable or disable the compilation of single operators on an NPU. The option `--rt2` disables the compilation.

    By default, torch_npu compiles each operator for every new shape on the 910 and 310 series, but not on A2 and A3.
    Other devices ignore the setting.
    """
    module = torch.get_device_module(device)
    if hasattr(module, "set_compile_mode"):
        module.set_compile_mode(jit_compile=jit_compile)


def precision_of(device: torch.device, amp_dtype: str | None) -> tuple[torch.dtype, bool]:
    """Return the autocast dtype and whether the loss needs scaling. Raises UsageError if bf16 is not supported."""
    kind = kind_of(device)
    dtype = AMP_DTYPES[amp_dtype] if amp_dtype else kind.amp_dtype
    module = torch.get_device_module(device)
    supported = getattr(module, "is_bf16_supported", None)
    if dtype == torch.bfloat16 and supported is not None and not supported():
        raise UsageError(f"--amp_dtype bf16: {describe(device)} does not support bfloat16; use fp16")
    return dtype, dtype == torch.float16


def warn_of_rounding(device: torch.device) -> None:
    """Warn if the device rounds the operands of float32 convolutions to fp16.

    The Ascend 910 and 310P have no float32 convolution, so torch_npu sets ACL_PRECISION_MODE to allow_fp32_to_fp16.
    These chips are recognized by their lack of bfloat16, which all newer chips have.
    """
    module = torch.get_device_module(device)
    if device.type == "npu" and not module.is_bf16_supported():
        log.warning(
            "--amp off: %s rounds the operands of float32 convolutions to fp16; train with --amp torch, which scales "
            "the loss so that small gradients do not become 0", describe(device),
        )  # fmt: skip
