"""Select the device of a command and open it."""

import ctypes
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress

import torch

from model.common.cores import core_count
from model.common.errors import UsageError, first_line
from model.devices.device import DEVICE_KINDS, select, set_compile_mode, set_precision
from model.devices.extension import is_installed, load_extension

log = logging.getLogger(__name__)

# Number of CPU threads if an accelerator does the main work. The remaining operations on the CPU are small, and many
# threads would mostly wait for each other. The evaluation of CASIA-B takes 0.21 s with 32 threads and 0.02 s with 4.
HOST_THREADS = 4
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc


def open_device(
    requested: str, visible: Mapping | None = None, local_rank: int = 0, jit_compile: bool = True
) -> torch.device:
    """Return the device of a command, and set its precision, see `set_precision`.

    Args:
        requested: the value of --device, see `resolve_device`.
        visible: visible devices from the configuration, see `set_visible_devices`.
        jit_compile: see `set_compile_mode`; True keeps the default of the device.
    """
    set_visible_devices(visible or {}, requested)
    device = resolve_device(requested, local_rank)
    set_precision(device)
    if not jit_compile:
        set_compile_mode(device, jit_compile)
    return device


def set_visible_devices(config: Mapping, requested: str = "auto") -> None:
    """Restrict the process to the devices in the config, unless the environment already restricts the process.

    `requested` is the value of --device. The number in a numbered device such as `cuda:1` counts all devices of the
    machine, so a numbered device disables the restriction. After the first use of a device, this call has no effect.
    """
    for kind in DEVICE_KINDS.values():
        if kind.visible and config.get(kind.config_key) and ":" not in requested:
            os.environ.setdefault(kind.visible, str(config[kind.config_key]).replace(" ", ""))


def resolve_device(name: str = "auto", local_rank: int = 0) -> torch.device:
    """Return the torch device for `auto`, a device type, or a numbered device such as `cuda:1`.

    `auto` selects the first available accelerator, or the CPU if there is none. A device type without a number selects
    the device whose number is the local rank. If an accelerator is selected, the number of CPU threads is limited to
    HOST_THREADS. Raises UsageError with the reason if the device is not available.
    """
    if name == "auto":
        name = next(kind for kind in reversed(DEVICE_KINDS) if _is_available(kind))
    kind, _, number = name.partition(":")
    if kind not in DEVICE_KINDS or (number and not number.isdigit()):
        raise UsageError(f"--device {name}: unknown device; use auto, {', '.join(DEVICE_KINDS)}, or for example cuda:0")
    if kind == "cpu":
        keep_freed_memory()
        return torch.device("cpu")
    _require(kind)
    position = int(number) if number else local_rank
    if position >= _count(kind):
        raise UsageError(
            f"--device {kind}:{position}: this machine has {_count(kind)} {kind} devices, numbered from 0; use one of "
            "these numbers"
        )
    device = torch.device(kind, position)
    try:
        select(device)
    except RuntimeError as error:  # raised by the driver if the device is in use, faulty or not permitted
        raise UsageError(f"--device {device}: cannot be used ({first_line(error)})") from error
    torch.set_num_threads(min(HOST_THREADS, torch.get_num_threads()))
    return device


def keep_freed_memory() -> None:
    """Let the C library keep freed memory instead of returning it to the operating system.

    Each iteration on the CPU allocates the same hundreds of megabytes. If the operating system has to provide this
    memory again, with one page fault per four kilobytes, this takes about a fifth of the time of an iteration.
    """
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):  # the C library may have no mallopt
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _missing(kind: str) -> str | None:
    """Return the reason why torch does not support the device type, or None if torch supports the device type."""
    extension = DEVICE_KINDS[kind].extension
    return None if extension is None or hasattr(torch, kind) else load_extension(extension)


def _count(kind: str) -> int:
    module = getattr(torch, kind)
    return module.device_count() if module.is_available() else 0


def _is_available(kind: str) -> bool:
    """Return whether `auto` can select the device type. Warn if the extension is installed but unusable."""
    extension, missing = DEVICE_KINDS[kind].extension, _missing(kind)
    if missing is not None and is_installed(extension):
        log.warning("--device auto skips %s: %s", kind, missing)
    return missing is None and _count(kind) > 0


def _require(kind: str) -> None:
    missing = _missing(kind)
    if missing is not None:
        raise UsageError(f"--device {kind}: {missing}; or use --device cpu")
    if not _count(kind):
        row = DEVICE_KINDS[kind]
        chosen = os.environ.get(row.visible)
        hint = "" if chosen is None else f" and that {row.visible}={chosen} lists existing devices in ascending order"
        raise UsageError(
            f"--device {kind}: torch {torch.__version__} finds no {kind} device on this machine; check that "
            f"`{row.list_command}` lists devices{hint}, or use --device cpu"
        )


def processes_possible(name: str = "auto") -> int:
    """Return how many processes can run with one device each, or on the CPU with one core each.

    For a numbered device, such as `cuda:1`, return 1.
    """
    device = resolve_device(name)
    if ":" in name:
        return 1
    return core_count() if device.type == "cpu" else _count(device.type)
