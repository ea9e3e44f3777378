"""The one place that knows kinds of device, their backends, their precision and their memory."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from model.common.cores import core_count
from model.common.errors import UsageError
from model.devices.extension import is_installed, load_extension
from model.devices.host_memory import keep_freed_memory

log = logging.getLogger(__name__)

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class DeviceKind:
    """A row of the device table."""

    name: str
    backends: tuple[str, ...]  # of torch.distributed that carry its tensors, its own first
    amp_dtype: torch.dtype  # that autocast uses when none is asked for
    channels_last: bool  # whether maps are best laid out with the channels side by side
    config_key: str | None = None  # of the config, naming the devices to use ...
    visible: str | None = None  # ... which go into this environment variable
    look: str | None = None  # command that lists the devices which the driver sees
    extension: str | None = None  # module that brings the device to torch
    adam: str | None = None  # class of an Adam of its own, whose state torch's can load and the other way round
    scaler: str | None = None  # class of a loss scaler of its own, which knows how overflow shows there
    profiler: str = "torch.profiler"  # module that records what the device does
    triton: bool = False  # whether Triton compiles for it
    graph: str | None = None  # class of its module that records work and replays it


_VISIBLE, _ASCEND_VISIBLE = "CUDA_VISIBLE_DEVICES", "ASCEND_RT_VISIBLE_DEVICES"
DEVICE_KINDS = {
    "cpu": DeviceKind("cpu", ("gloo",), torch.bfloat16, True),
    "cuda": DeviceKind(
        "cuda", ("nccl", "gloo"), torch.float16, True, _VISIBLE, _VISIBLE, "nvidia-smi", triton=True, graph="CUDAGraph"
    ),
    "npu": DeviceKind(
        "npu", ("hccl",), torch.float16, False, "ASCEND_VISIBLE_DEVICES", _ASCEND_VISIBLE, "npu-smi info",
        extension="torch_npu", adam="torch_npu.optim.NpuFusedAdam", scaler="torch_npu.npu.amp.GradScaler",
        profiler="torch_npu.profiler",
    ),
}  # fmt: skip
# By backend, what names the network interfaces that it talks through.
INTERFACE_VARIABLES = {"gloo": "GLOO_SOCKET_IFNAME", "nccl": "NCCL_SOCKET_IFNAME"}
# Beside an accelerator. What is left for the CPU is small, or a copy; with a thread for each core of a large machine
# most of the time they wait for one another (evaluating CASIA-B beside 32 cores: 0.21 s, with 4 threads 0.02).
HOST_THREADS = 4
AMP_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def kind_of(device: torch.device) -> DeviceKind:
    return DEVICE_KINDS[device.type]


def class_of(path: str | None) -> type | None:
    """The class at module.name; None where the module has it not, or no longer."""
    if path is None:
        return None
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name, None)


def show_devices(config: Mapping, wanted: str = "auto") -> None:
    """Let the process see the devices that the config names, unless the environment or `wanted` says otherwise.

    wanted: the --device of the command line; one with a number counts all devices of the machine.

    Must run before the devices are first used: afterwards it has no effect.
    """
    for kind in DEVICE_KINDS.values():
        if kind.visible and config.get(kind.config_key) and ":" not in wanted:
            os.environ.setdefault(kind.visible, str(config[kind.config_key]).replace(" ", ""))


def resolve_device(name: str = "auto", local_rank: int = 0) -> torch.device:
    """`auto` (the first accelerator that is there, else the CPU), a kind, or a kind and a number as in `cuda:1`.

    Without a number a process takes the device of its local rank, and beside an accelerator torch few of the host's
    threads. Raises UsageError with a line that says what is missing when the device is not there.
    """
    if name == "auto":
        name = next((kind for kind in ("npu", "cuda") if _found(kind)), "cpu")
    kind, _, number = name.partition(":")
    if kind not in DEVICE_KINDS or (number and not number.isdigit()):
        raise UsageError(
            f"--device {name}: no such device; give auto, {', '.join(DEVICE_KINDS)}, or for example cuda:0"
        )
    if kind == "cpu":
        keep_freed_memory()
        return torch.device("cpu")
    _require(kind)
    position = int(number) if number else local_rank
    if position >= _count(kind):
        raise UsageError(f"--device {kind}:{position}: only {_count(kind)} {kind} devices are there, counted from 0")
    device = torch.device(kind, position)
    try:
        select(device)
    except RuntimeError as error:  # the driver's: taken by another process, unhealthy, not allowed
        raise UsageError(f"--device {device}: cannot be used ({str(error).splitlines()[0]})") from error
    torch.set_num_threads(min(HOST_THREADS, torch.get_num_threads()))
    return device


def select(device: torch.device) -> None:
    """Make it the one that this thread works with. Every thread begins with the first: what it pins for another would
    claim memory there, and a driver may allow a process only its own."""
    if device.type != "cpu":
        torch.get_device_module(device).set_device(device)


def describe(device: torch.device) -> str:
    """For the log: what runs the job."""
    if device.type == "cpu":
        return f"cpu, {torch.get_num_threads()} threads"
    name = torch.get_device_module(device).get_device_name(device)
    return f"{device} ({name})"


def _missing(kind: str) -> str | None:
    """Why torch does not know the kind of device; None if it does."""
    extension = DEVICE_KINDS[kind].extension
    return None if extension is None or hasattr(torch, kind) else load_extension(extension)


def _count(kind: str) -> int:
    module = getattr(torch, kind)
    return module.device_count() if module.is_available() else 0


def _found(kind: str) -> bool:
    """Whether `auto` can take the kind; what half of an installation lacks is said, for its owner counts on it."""
    extension, missing = DEVICE_KINDS[kind].extension, _missing(kind)
    if missing is not None and is_installed(extension):
        log.warning("--device auto leaves out %s: %s", kind, missing)
    return missing is None and _count(kind) > 0


def _require(kind: str) -> None:
    missing = _missing(kind)
    if missing is not None:
        raise UsageError(f"--device {kind}: {missing}; or use --device cpu")
    if not _count(kind):
        row = DEVICE_KINDS[kind]
        chosen = os.environ.get(row.visible)
        hint = "" if chosen is None else f"; {row.visible}={chosen} must name some of them, in ascending order"
        raise UsageError(
            f"--device {kind}: this machine shows no {kind} device to torch {torch.__version__} "
            f"(`{row.look}` lists those that the driver sees{hint})"
        )


def place(network: M, device: torch.device) -> M:
    """The network on `device`, its convolutions in the layout that is fastest there."""
    layout = torch.channels_last if kind_of(device).channels_last else torch.contiguous_format
    return network.to(device=device, memory_format=layout)


def can_record(device: torch.device) -> bool:
    """Whether work on `device` can be recorded once and replayed."""
    return kind_of(device).graph is not None


def adam_options(device: torch.device) -> dict[str, bool]:
    """Arguments of torch's Adam that make a step one kernel, and one that a recording may hold."""
    return {"fused": True, "capturable": True} if kind_of(device).graph else {}


def synchronize(device: torch.device) -> None:
    """Wait for what the device still has to do."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)


def free_memory(device: torch.device) -> int | None:
    """Free bytes on the device; None where it shares the memory of the host or cannot tell."""
    if device.type == "cpu" or not hasattr(torch.get_device_module(device), "mem_get_info"):
        return None
    return torch.get_device_module(device).mem_get_info(device)[0]


def fits(size: int, device: torch.device, share: float = 0.5) -> bool:
    """Whether `size` bytes are at most `share` of the free memory of `device`. The CPU is not asked: always."""
    free = free_memory(device)
    return device.type == "cpu" if free is None else size <= share * free


def copy_to(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device, without waiting for it: through pinned memory where the tensor comes from the host."""
    if tensor.device == device:
        return tensor
    if device.type != "cpu" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def set_precision(device: torch.device, environment: Mapping[str, str] = os.environ) -> None:
    """Float32 means float32, as in the original, unless the environment asks for faster products.

    `ALLOW_TF32` lets an NVIDIA device round operands of convolutions and matrix products, `ALLOW_HF32` an Ascend one
    those of convolutions (its own default); `ALLOW_FP32` lets nobody. As in the NPU port the last two also keep
    weights in torch's layout instead of a private one. Raises UsageError when both are set. 0 and False leave unset.
    """
    names = ("ALLOW_FP32", "ALLOW_HF32", "ALLOW_TF32")
    allow_fp32, allow_hf32, allow_tf32 = (environment.get(name, "").lower() not in ("", "0", "false") for name in names)
    if allow_fp32 and allow_hf32:
        raise UsageError("ALLOW_FP32 and ALLOW_HF32 exclude each other: unset one")
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    elif device.type == "npu":
        module = torch.get_device_module(device)
        module.conv.allow_hf32 = allow_hf32
        module.matmul.allow_hf32 = False  # the distances of loss and evaluation are matrix products
        if allow_fp32 or allow_hf32:
            module.config.allow_internal_format = False


def set_compile_mode(device: torch.device, jit_compile: bool) -> None:
    """`--rt2` of the NPU port turns compilation of single operators off; other devices have no such switch.

    Where torch_npu compiles (by default on the 910 and 310 series, not on A2 and A3), it does so anew for every shape.
    """
    module = torch.get_device_module(device)
    if hasattr(module, "set_compile_mode"):
        module.set_compile_mode(jit_compile=jit_compile)


def precision_of(device: torch.device, amp_dtype: str | None) -> tuple[torch.dtype, bool]:
    """The dtype of autocast on `device` and whether gradients need scaling. Raises UsageError where it has none."""
    kind = kind_of(device)
    dtype = AMP_DTYPES[amp_dtype] if amp_dtype else kind.amp_dtype
    module = torch.get_device_module(device)
    supported = getattr(module, "is_bf16_supported", None)
    if dtype == torch.bfloat16 and supported is not None and not supported():
        raise UsageError(f"--amp_dtype bf16: {describe(device)} has no bfloat16; use fp16")
    return dtype, dtype == torch.float16


def processes_possible(name: str = "auto") -> int:
    """How many processes can each have a device of their own; on the CPU, a core. One where a device is named."""
    device = resolve_device(name)
    if ":" in name:
        return 1
    return core_count() if device.type == "cpu" else _count(device.type)
