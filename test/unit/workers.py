"""What processes that tests start run: they must find it under a name that can be imported."""

import time
from pathlib import Path

import torch

from model import distributed
from model.errors import UserError


def gather_worker(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=3)
    positions = torch.arange(rank, 7, 3)
    rows = distributed.gather_rows(positions[:, None].float() * 10, positions, 7)
    up = distributed.any_process(rank == 1, torch.device("cpu"))
    mean = distributed.mean_over_processes(torch.tensor([float(rank)]))
    torch.save({"rows": rows, "up": up, "mean": mean}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def failing_worker(rank: int, folder: str) -> None:
    """Rank 0 fails in an unforeseen way; rank 1 must hear of it and notes so."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)

    def job():
        raise OSError("disk gone")

    try:
        distributed.main_first(job)
    except UserError:
        Path(folder, "told").touch()
        raise
    finally:
        if rank == 0:  # torch ends all processes as soon as one fails: let the other write first
            for _ in range(200):
                if Path(folder, "told").exists():
                    break
                time.sleep(0.05)
