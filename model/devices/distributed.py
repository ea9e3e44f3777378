"""Start and use the process group. All functions also work in a single process without a process group."""

import datetime
import gc
import os
import socket
import warnings
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.common.errors import UsageError, UserError
from model.devices.device import INTERFACE_VARIABLES, TIMEOUT_VARIABLES, kind_of
from model.devices.world import LOOPBACK, World, end_with_parent, survive_to_report

T = TypeVar("T")


def start(world: World, device: torch.device, backend: str | None = None) -> None:
    """Initialize the process group if there is more than one process.

    If the master address is the loopback address, the processes communicate only through the loopback interface.
    Raises UsageError if `backend` does not support the tensors of `device`.
    """
    if world.size > 1 and not dist.is_initialized():
        row = kind_of(device)
        backend = backend or row.backends[0]
        if backend not in row.backends:
            raise UsageError(
                f"--dist_backend {backend} does not support --device {device.type}; use {' or '.join(row.backends)}"
            )
        end_with_parent()
        # The other processes wait while rank 0 packs a large tree or evaluates. This can take longer than the default
        # timeout of ten minutes.
        timeout = datetime.timedelta(hours=3)
        if backend in TIMEOUT_VARIABLES:
            extend_timeouts(*TIMEOUT_VARIABLES[backend], timeout)
        address = _master_address()
        local = address[0] in LOOPBACK
        if local and backend in INTERFACE_VARIABLES and any(name == "lo" for _, name in socket.if_nameindex()):
            os.environ.setdefault(INTERFACE_VARIABLES[backend], "lo")
        store = _loopback_store(address, world, timeout) if local else None
        # Import this module before the group exists, because the default arguments of its functions hold the group that
        # exists at the time of the import.
        import torch.distributed.nn.functional  # noqa: F401

        dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=timeout)


def extend_timeouts(connect: str, collective: str, event: str, timeout: datetime.timedelta) -> None:
    """Set the timeouts of a backend to which the process group does not pass its own `timeout`.

    `connect`, `collective` and `event` are names of environment variables, see TIMEOUT_VARIABLES. Variables that the
    user has set are not changed. The timeout of an event is longer than the timeout of a collective.
    """
    step = 68  # seconds; the Ascend 910 rounds the timeout of a collective down to a multiple of this
    os.environ.setdefault(connect, "7200")
    longest = -(int(-timeout.total_seconds()) // step) * step
    if collective not in os.environ:
        of_event = int(os.environ[event]) if os.environ.get(event, "").isdecimal() else 0
        os.environ[collective] = str(min(longest, max(of_event - step, 1)) if of_event else longest)
    if event not in os.environ and os.environ[collective].isdecimal():
        seconds = int(os.environ[collective])
        os.environ[event] = str(seconds + step if seconds else 0)


def _master_address() -> tuple[str, int]:
    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        if not address or not 0 < port < 1 << 16:
            raise ValueError(f"found {address!r} and {port}")
    except (KeyError, ValueError) as error:
        raise UserError(
            f"MASTER_ADDR and MASTER_PORT must be set to an address and a port ({error}); set both, or start with "
            "torchrun, which sets them"
        ) from None
    return address, port


def _loopback_store(address: tuple[str, int], world: World, timeout: datetime.timedelta) -> dist.Store | None:
    """Return a store that listens only on the loopback address. The store that torch creates listens on all addresses.

    Return None if torchrun has already started a store.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return None
    listener = socket.create_server(address).detach() if world.is_main else None
    return dist.TCPStore(*address, world.size, world.is_main, timeout, master_listen_fd=listener)


def restarts() -> int:
    """Return how often torchrun has restarted the processes. Collective call.

    If a machine was replaced, the processes of the new machine count from 0. The largest number is therefore returned.
    """
    text = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    count = int(text) if text.isdecimal() else 0
    if not active():
        return count
    counts: list[int] = [0] * dist.get_world_size()
    dist.all_gather_object(counts, count)
    return max(counts)


def finish() -> None:
    """Destroy the process group and delete all objects that use it.

    If an object keeps the group alive, gloo's threads still run when the interpreter ends. If such a thread then
    releases a tensor, the thread needs the interpreter, and the process is aborted although its work is complete.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
        # A network in DistributedDataParallel is part of a reference cycle, so only the garbage collector deletes it.
        gc.collect()


def active() -> bool:
    """Return whether there is a process group."""
    return dist.is_available() and dist.is_initialized()


def wrap(network: nn.Module, device: torch.device) -> nn.Module:
    """Wrap the network in DistributedDataParallel, or return it unchanged without a process group."""
    if not active():
        return network
    # For weights with one input channel, contiguous and channels-last memory are identical. Libraries may return either
    # format for the gradient, and torch then warns without reason.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    ids = None if device.type == "cpu" else [device.index]
    return nn.parallel.DistributedDataParallel(network, device_ids=ids)


def backend() -> str | None:
    """Return the backend of the process group, or None without a process group."""
    return dist.get_backend() if active() else None


def flatten_gradients(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Give each parameter a zero gradient that is a view of one flat tensor, and return the flat tensor.

    A single all-reduce of the flat tensor then averages all gradients.
    """
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    flat = parameters[0].new_zeros(sum(parameter.numel() for parameter in parameters))
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.as_strided(parameter.shape, parameter.stride(), part.storage_offset())
    return flat


def average_in_place(values: Tensor) -> None:
    """Replace `values` with their mean over all processes. Collective call."""
    if active():
        dist.all_reduce(values)
        values /= dist.get_world_size()


def any_process(flag: bool, device: torch.device) -> bool:
    """Return whether the flag is true in any process. Collective call."""
    if not active():
        return flag
    total = torch.tensor(float(flag), device=device)
    dist.all_reduce(total)
    return total.item() > 0


def every_process(flag: bool, device: torch.device) -> bool:
    """Return whether the flag is true in all processes. Collective call."""
    return not any_process(not flag, device)


ROW_CHUNK = 1024  # rows per message


def gather_rows(rows: Tensor, total: int, device: torch.device) -> Tensor | None:
    """Gather rows on rank 0. Rank r of w has the rows r, r + w, r + 2w, ... below `total`. Collective call.

    Args:
        rows: [rows of this process, ...].
        device: device of the messages. With gloo, messages are always on the CPU.

    Returns:
        On rank 0, all rows [total, ...] on the device of `rows`. None on the other ranks.
    """
    if not active():
        return rows
    if backend() == "gloo":  # gloo reads CPU memory only
        device = torch.device("cpu")
    rank, size = dist.get_rank(), dist.get_world_size()
    assert len(rows) == len(range(rank, total, size)), "each sequence must belong to exactly one process"
    if rank:
        for piece in _pieces(rows):
            dist.send(piece.to(device), 0)
        return None
    result = rows.new_empty(total, *rows.shape[1:])
    result[::size] = rows
    for other in range(1, size):
        for piece in _pieces(result[other::size]):
            message = torch.empty(piece.shape, dtype=rows.dtype, device=device)
            dist.recv(message, other)
            piece.copy_(message)
    return result


def _pieces(rows: Tensor) -> tuple[Tensor, ...]:
    """Split rows into messages. Zero rows need no message, and some backends do not support empty tensors."""
    return rows.split(ROW_CHUNK) if len(rows) else ()


def run_on_rank0(job: Callable[[], T]) -> T:
    """Run `job` on rank 0 and broadcast its result. Collective call.

    If `job` raises on rank 0, all other processes also raise, instead of waiting for the result.
    """
    if not active():
        return job()
    outcome: list = [None, None]  # the result, the error
    if dist.get_rank() == 0:
        try:
            outcome[0] = job()
        except UserError as error:
            survive_to_report()
            outcome[1] = error
        except Exception:  # a bug: rank 0 prints the traceback, and the other processes must not wait
            survive_to_report()
            dist.broadcast_object_list([None, UserError("rank 0 failed")])
            raise
    dist.broadcast_object_list(outcome)
    result, error = outcome
    if error is not None:
        error.already_reported = dist.get_rank() > 0
        raise error
    return result
