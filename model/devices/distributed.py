"""One process or many. No process group is normal: then the world has size 1 and this is rank 0."""

from __future__ import annotations

import ctypes
import datetime
import gc
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.common.errors import UsageError, UserError
from model.devices.device import INTERFACE_VARIABLES, kind_of

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    rank: int = 0
    local_rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0


def world_from_environment() -> World:
    """What torchrun says in RANK, LOCAL_RANK and WORLD_SIZE (alone when it says nothing)."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    if "WORLD_SIZE" not in os.environ:
        return World()
    try:
        return World(*(int(os.environ[name]) for name in names))
    except (KeyError, ValueError) as error:
        raise UserError(f"RANK, LOCAL_RANK and WORLD_SIZE must be numbers as torchrun sets them ({error})") from None


def start(world: World, device: torch.device, backend: str | None = None) -> None:
    """Join the process group when there is more than one process. Raises UsageError for a backend that cannot carry
    the tensors of `device`.

    Processes that meet at the loopback address, as those of one machine do, talk through it alone.
    """
    if world.size > 1 and not dist.is_initialized():
        row = kind_of(device)
        backend = backend or row.backends[0]
        if backend not in row.backends:
            raise UsageError(
                f"--dist_backend {backend} does not go with --device {device.type}, which takes "
                f"{' or '.join(row.backends)}"
            )
        end_with_parent()
        # Others wait while the first packs a large tree or evaluates; the standard ten minutes can be too short.
        wait = datetime.timedelta(hours=3)
        local = os.environ.get("MASTER_ADDR") in LOOPBACK
        if local and backend in INTERFACE_VARIABLES and any(name == "lo" for _, name in socket.if_nameindex()):
            os.environ.setdefault(INTERFACE_VARIABLES[backend], "lo")
        store = _loopback_store(world, wait) if local else None
        # Read before there is a group: its functions take the group of that moment as their standard one, and keep it.
        import torch.distributed.nn.functional  # noqa: F401

        dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=wait)


LOOPBACK = ("127.0.0.1", "localhost")


def _loopback_store(world: World, wait: datetime.timedelta) -> dist.Store | None:
    """Where the processes meet. torch's own server listens on all of the machine's addresses; this one is given a port
    of the loopback address. None where torchrun has started a server already."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return None
    try:
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        listener = socket.create_server(address).detach() if world.is_main else None
    except (KeyError, ValueError, OverflowError) as error:
        raise UserError(f"MASTER_ADDR and MASTER_PORT must be an address and a port ({error})") from None
    return dist.TCPStore(*address, world.size, world.is_main, wait, master_listen_fd=listener)


def end_with_parent() -> None:
    """Have the system tell this process to stop when torchrun, which started it, ends without having told it."""
    if launched_by_torchrun() and sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def launched_by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def launch_name() -> str | None:
    """Of the torchrun that started this process: the same after a restart, another for another command."""
    return f"{os.environ['TORCHELASTIC_RUN_ID']}-{os.getppid()}" if launched_by_torchrun() else None


def restarts() -> int:
    """How often torchrun has started these processes again."""
    count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return int(count) if count.isdecimal() else 0


def finish() -> None:
    """Leave the group, whose last user ends its threads.

    Where one outlives it, gloo's threads go on while the interpreter ends. One that then lets go of a tensor, as after
    the last exchange, waits for an interpreter that is no more, and the process is aborted after all its work is done.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
        gc.collect()  # a wrapped network is in a circle


def active() -> bool:
    return dist.is_available() and dist.is_initialized()


def wrap(network: nn.Module, device: torch.device) -> nn.Module:
    """The network whose gradients become the mean over processes while they come in; itself when alone."""
    if not active():
        return network
    # A kernel of one input channel has two layouts that are the same in memory; some libraries answer with the other.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    ids = None if device.type == "cpu" else [device.index]
    return nn.parallel.DistributedDataParallel(network, device_ids=ids)


def backend() -> str | None:
    """What the processes talk through; None when alone."""
    return dist.get_backend() if active() else None


def is_wrapped(network: nn.Module) -> bool:
    return isinstance(network, nn.parallel.DistributedDataParallel)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Each gradient becomes its mean over processes, in one exchange; all must call this. Nothing when alone."""
    if not active():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    average_in_place(flat)
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def gradients_in_one(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Give each parameter a gradient of zeros, laid out like it, within one tensor: one exchange moves all of them."""
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    flat = parameters[0].new_zeros(sum(parameter.numel() for parameter in parameters))
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.as_strided(parameter.shape, parameter.stride(), part.storage_offset())
    return flat


def average_in_place(values: Tensor) -> None:
    """`values` become their mean over processes; all must call this. Nothing when alone."""
    if active():
        dist.all_reduce(values)
        values /= dist.get_world_size()


def mean_over_processes(values: Tensor) -> Tensor:
    if active():
        dist.all_reduce(values)
        values = values / dist.get_world_size()
    return values


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is up in any process; all must ask."""
    if not active():
        return flag
    raised = torch.tensor(float(flag), device=device)
    dist.all_reduce(raised)
    return raised.item() > 0


def every_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is up in all processes; all must ask."""
    return not any_process(not flag, device)


ROWS_AT_ONCE = 1024  # that travel in one message


def gather_rows(rows: Tensor, total: int, device: torch.device) -> Tensor | None:
    """Put together the rows that process r of w made for the positions r, r + w, r + 2w ... below `total`.

    rows: [share of this process, ...]. Returns [total, ...] on rank 0, where `rows` is, and None elsewhere. Messages
    travel between `device`s (gloo's: between hosts), a few rows at a time.
    """
    if not active():
        return rows
    if backend() == "gloo":  # it would read the device's memory as its own
        device = torch.device("cpu")
    rank, size = dist.get_rank(), dist.get_world_size()
    assert len(rows) == len(range(rank, total, size)), "each sequence must be counted exactly once"
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
    """Rows cut into messages; none for no rows, as not every backend carries empty ones."""
    return rows.split(ROWS_AT_ONCE) if len(rows) else ()


def from_main(job: Callable[[], T]) -> T:
    """What a job gives on rank 0, which alone does it: all get that.

    When rank 0 fails, the others end too instead of waiting for it.
    """
    if not active():
        return job()
    outcome: list = [None, None]  # the result, the error
    if dist.get_rank() == 0:
        try:
            outcome[0] = job()
        except UserError as error:
            outcome[1] = error
        except Exception:  # a fault of ours, which keeps its traceback; the others must not wait for us
            dist.broadcast_object_list([None, UserError("the first process failed")])
            raise
    dist.broadcast_object_list(outcome)
    result, error = outcome
    if error is not None:
        error.told = dist.get_rank() > 0
        raise error
    return result
