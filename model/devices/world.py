"""Find the rank of this process, the world size and the launcher in the environment variables."""

import ctypes
import os
import signal
import sys
from argparse import Namespace
from dataclasses import dataclass

from model.common.errors import UsageError, UserError

LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class World:
    """Rank, local rank and world size of this process."""

    rank: int = 0
    local_rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is rank 0, which writes files and prints messages."""
        return self.rank == 0


def world_from_environment() -> World:
    """Read WORLD_SIZE, RANK and LOCAL_RANK, which torchrun sets. An empty variable counts as unset.

    Without WORLD_SIZE, the world size is 1. Without LOCAL_RANK, the local rank is the rank if MASTER_ADDR is the
    loopback address, because all processes then run on one machine. Otherwise the local rank is 0, because Kubernetes,
    which does not set LOCAL_RANK, starts one process per pod.
    """
    size = _variable("WORLD_SIZE", 1)
    rank = _variable("RANK", 0 if size <= 1 else None)
    on_one_machine = os.environ.get("MASTER_ADDR") in LOOPBACK
    local_rank = _variable("LOCAL_RANK", rank if on_one_machine else 0)
    if not 0 <= rank < size or local_rank < 0:
        raise UserError(
            f"RANK={rank}, LOCAL_RANK={local_rank} and WORLD_SIZE={size} do not fit together: ranks count from 0 to "
            "WORLD_SIZE - 1; correct these variables or unset WORLD_SIZE for a single process"
        )
    return World(rank, local_rank, size)


def set_environment(options: Namespace) -> None:
    """Set the environment variables that torchrun sets, from the options that other launchers pass.

    Do nothing if no such option is given, or if a launcher has already set the variables for several processes.
    """
    processes = options.world_size or 1
    single = os.environ.get("WORLD_SIZE", "").strip() in ("", "1")
    if single and "TORCHELASTIC_RUN_ID" not in os.environ and (processes > 1 or options.local_rank):
        rank = options.rank
        if rank is None and processes > 1:
            raise UsageError("--world_size without --rank: give the rank of this process, or start with torchrun")
        local_rank = rank if options.local_rank is None else options.local_rank
        if processes == 1:  # in the NPU port, a single process selects its device with --local_rank
            rank = 0
        elif rank == 0:  # in the NPU port, --rank can be the number of the machine, and this is the first machine
            rank = local_rank
        os.environ |= {"WORLD_SIZE": str(processes), "RANK": str(rank), "LOCAL_RANK": str(local_rank)}
        os.environ["MASTER_ADDR"] = os.environ.get("MASTER_ADDR") or options.addr or "127.0.0.1"
        os.environ["MASTER_PORT"] = os.environ.get("MASTER_PORT") or str(options.port or 29500)


def _variable(name: str, default: int | None) -> int:
    """Return the number in an environment variable, or `default` if the variable is empty or unset.

    Raises UserError if the variable is not a number, or if it is empty or unset and there is no default.
    """
    text = os.environ.get(name, "").strip()
    if not text and default is not None:
        return default
    try:
        return int(text)
    except ValueError:
        found = f"{name}={text!r} is not a number" if text else f"WORLD_SIZE is set and {name} is not"
        raise UserError(
            f"{found}; with several processes, set WORLD_SIZE, RANK, MASTER_ADDR and MASTER_PORT, as torchrun does"
        ) from None


def end_with_parent() -> None:
    """Let the operating system terminate this process if torchrun started the process and torchrun is killed."""
    if launched_by_torchrun() and sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def survive_to_report() -> None:
    """Ignore SIGTERM from now on, so that this process can report its error.

    torchrun sends SIGTERM to all processes as soon as one process has ended, and no other process reports this error.
    """
    if launched_by_torchrun():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def launched_by_torchrun() -> bool:
    """Return whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launch_name() -> str | None:
    """Return a name of this launch by torchrun, which a restart of the processes does not change.

    Return None without torchrun.
    """
    return f"{os.environ['TORCHELASTIC_RUN_ID']}-{os.getppid()}" if launched_by_torchrun() else None
