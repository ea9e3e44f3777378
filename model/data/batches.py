"""Turns planned batches into tensors on the device, a few iterations ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from model.data.sampler import PKSampler
from model.data.store import SilhouetteStore
from model.device import copy_to, free_memory

RESIDENT_SHARE = 0.5  # of the free device memory that cached frames may take


class BatchLoader:
    """Yields silhouettes [P·K, frame_num, 64, 44], float32 of 0 to 1, on `device`, from a given iteration on.

    Threads do the gathering: it is one indexed copy that runs outside the interpreter lock, so there is nothing
    to start, to pickle or to leave behind. `workers` = 0 gathers between the iterations. With `resident` all
    frames lie in the memory of the device and only row numbers travel.
    """

    def __init__(
        self,
        store: SilhouetteStore,
        sampler: PKSampler,
        device: torch.device,
        workers: int,
        resident: bool = False,
    ):
        self.sampler, self.device, self.workers = sampler, device, workers
        self.frames = torch.from_numpy(store.frames)
        if resident:
            self.frames = self.frames.to(device)

    def gather(self, iteration: int) -> Tensor:
        rows = torch.from_numpy(self.sampler.plan(iteration).rows)
        flat = rows.flatten().to(self.frames.device)
        sils = copy_to(self.frames.index_select(0, flat), self.device)
        return sils.view(*rows.shape, *sils.shape[1:]).float().div_(255)

    def batches(self, start: int, stop: int) -> Iterator[Tensor]:
        """Batches of iterations `start` to `stop` - 1, in order."""
        if self.workers < 1:
            yield from map(self.gather, range(start, stop))
            return
        ahead: deque[Future[Tensor]] = deque()
        with ThreadPoolExecutor(self.workers, thread_name_prefix="gather") as pool:
            try:
                for iteration in range(start, stop):
                    ahead.append(pool.submit(self.gather, iteration))
                    if len(ahead) > 2 * self.workers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def fits_device(store: SilhouetteStore, device: torch.device) -> bool:
    """Whether all frames may lie in the memory of `device` beside the network. Never on the CPU: they are there."""
    free = free_memory(device)
    return free is not None and store.frames.nbytes <= RESIDENT_SHARE * free
