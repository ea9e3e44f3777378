"""Functions that the tests run in several processes, with `python workers.py FUNCTION PROCESSES FOLDER`."""

import os
import sys
import time
from pathlib import Path

import torch
import torch.multiprocessing as mp

from model.common.cores import stopped
from model.common.errors import UserError
from model.devices import distributed, triton_support
from model.network.compute_mode import use_triton_kernels


def gather_worker(rank: int, folder: str) -> None:
    """Call the collective functions on one of three ranks, and save their results to FOLDER/<rank>.pt."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=3)
    cpu = torch.device("cpu")
    distributed.ROW_CHUNK = 2
    own = torch.arange(rank, 10, 3)[:, None].float()  # four, three and three rows, which take two messages per rank
    few = torch.arange(rank, 2, 3)[:, None].float()  # rank 2 has no rows
    up = distributed.any_process(rank == 1, cpu)
    mean = torch.tensor([float(rank)])
    distributed.average_in_place(mean)
    matrix, number = torch.nn.Parameter(torch.zeros(3, 2).t()), torch.nn.Parameter(torch.zeros(()))  # not contiguous
    flat = distributed.flatten_gradients([matrix, number])
    matrix.grad += torch.arange(6.0).view(3, 2).t() * (rank + 1)
    number.grad += 3.0 * rank
    distributed.average_in_place(flat)
    kernels = {}
    for where, works in (("nowhere", False), ("first", rank == 0), ("last", rank == 2), ("everywhere", True)):
        triton_support.works = lambda device, works=works: works
        kernels[where] = use_triton_kernels("auto", cpu)
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(2 - rank)  # ranks 1 and 2 are on machines that joined later
    result = {
        "restarts": distributed.restarts(),
        "rows": distributed.gather_rows(own * 10, 10, cpu),
        "by host": distributed.gather_rows(own, 10, torch.device("meta")),  # gloo cannot read tensors on this device
        "few": distributed.gather_rows(few, 2, cpu), "up": up,
        "mean": mean, "kernels": kernels, "matrix": matrix.grad, "number": number.grad,
    }  # fmt: skip
    torch.save(result, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def failing_worker(rank: int, folder: str) -> None:
    """Raise an unexpected error on rank 0. If rank 1 receives it as a UserError, it creates the file `reported`."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)

    def job():
        raise OSError("disk gone")

    try:
        distributed.run_on_rank0(job)
    except UserError:
        Path(folder, "reported").touch()
        raise
    finally:
        if rank == 0:  # wait for the file of rank 1, because torch ends all processes when one of them fails
            for _ in range(200):
                if Path(folder, "reported").exists():
                    break
                time.sleep(0.05)


def wait_until_stopped(seconds: float) -> bool:
    """Return whether the parent asked this worker to stop within `seconds`."""
    deadline = time.monotonic() + seconds
    while not stopped() and time.monotonic() < deadline:
        time.sleep(0.01)
    return stopped()


if __name__ == "__main__":
    mp.start_processes(globals()[sys.argv[1]], (sys.argv[3],), nprocs=int(sys.argv[2]), start_method="fork")
