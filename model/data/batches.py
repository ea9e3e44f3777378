"""Turns planned batches into silhouettes on the device, a few iterations ahead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.common.prefetch import prefetch
from model.data.augmentation import augment, changes_of
from model.data.sampler import PKSampler
from model.data.store import SilhouetteStore
from model.devices.device import copy_to, fits, select

RESIDENT_SHARE = 0.5  # of the free device memory that cached frames may take
PACK_TO = 64  # a packed batch has a multiple of this many frames, so that few sizes occur


class Batch(NamedTuple):
    """Silhouettes of P·K sequences on the device, uint8.

    Either sils [P·K, frame_num, 64, 44] and no ends; or packed: sils [f, 64, 44] without the frames that were drawn
    twice, and ends [P·K + 1] int32: sequence i has the frames ends[i] to ends[i + 1] - 1, those after the last belong
    to none.
    """

    sils: Tensor
    ends: Tensor | None = None


class Gathered(NamedTuple):
    """A batch before it travels: silhouettes or their rows, `ends` as in Batch, `changes` of `augmentation` or None."""

    chosen: Tensor
    ends: Tensor | None
    changes: Tensor | None


class BatchLoader:
    """Yields the batches that `sampler` plans, on `device`, from a given iteration on.

    Threads do the gathering: it is one indexed copy that runs outside the interpreter lock, so there is nothing
    to start, to pickle or to leave behind. `workers` = 0 gathers between the iterations. With `resident` all
    frames lie in the memory of the device and only row numbers travel. With `packed` each frame of a sequence
    comes once however often it was drawn: a set does not change by a second copy of a member. With `augmented` each
    sequence is changed a little on its way, by numbers that follow from seed, rank and iteration.
    """

    def __init__(
        self,
        store: SilhouetteStore,
        sampler: PKSampler,
        device: torch.device,
        workers: int,
        resident: bool = False,
        packed: bool = False,
        augmented: bool = False,
    ):
        self.sampler, self.device, self.workers, self.packed = sampler, device, workers, packed
        self.augmented = augmented
        self.frames = torch.from_numpy(store.frames)
        self.resident = resident
        if resident:
            self.frames = self.frames.to(device)

    def gather(self, iteration: int) -> Gathered:
        """What of an iteration's batch the host can prepare: the silhouettes, or their rows when they are resident."""
        rows = self.sampler.plan(iteration).rows
        ends = None
        if self.packed:
            rows, ends = pack(rows)
        chosen = torch.from_numpy(rows)
        if not self.resident:
            flat = self.frames.index_select(0, chosen.flatten())
            chosen = flat.view(*rows.shape, *flat.shape[1:])
        changes = None
        if self.augmented:
            sequences = self.sampler.subjects * self.sampler.sequences
            changes = changes_of(self.sampler.seed, self.sampler.rank, iteration, sequences)
        gathered = Gathered(chosen, None if ends is None else torch.from_numpy(ends), changes)
        if self.device.type == "cpu":
            return gathered
        return Gathered(*(None if part is None else part.pin_memory() for part in gathered))

    def deliver(self, gathered: Gathered) -> Batch:
        """The batch on the device. Nothing here waits for the device."""
        sils, ends, changes = (None if part is None else copy_to(part, self.device) for part in gathered)
        if self.resident:
            flat = self.frames.index_select(0, sils.flatten())
            sils = flat.view(*sils.shape, *flat.shape[1:])
        if changes is not None:
            sils = augment(sils.flatten(0, -3), _sequence_of_frames(sils, ends), changes).view(sils.shape)
        return Batch(sils, ends)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches of iterations `start` to `stop` - 1, in order."""
        if self.workers < 1:
            yield from (self.deliver(self.gather(iteration)) for iteration in range(start, stop))
            return
        iterations = range(start, stop)
        yield from map(
            self.deliver, prefetch(self.gather, iterations, self.workers, 2 * self.workers, select, (self.device,))
        )


def _sequence_of_frames(sils: Tensor, ends: Tensor | None) -> Tensor:
    """Which sequence each frame of a batch belongs to; those that belong to none go with the last."""
    if ends is None:
        n, frames = sils.shape[:2]
        return torch.arange(n, device=sils.device).repeat_interleave(frames, output_size=n * frames)
    frames = torch.arange(len(sils), device=sils.device, dtype=ends.dtype)
    return torch.searchsorted(ends[1:], frames, right=True).clamp(max=len(ends) - 2)


def pack(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows drawn with replacement, [n, s] -> each once, sequence after sequence, [f] int64, and ends [n + 1] int32.

    f is filled up to a multiple of PACK_TO (at most n·s) with a row that no sequence counts as its own.
    """
    ordered = np.sort(rows, axis=1)
    new = np.ones(rows.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ends = np.concatenate([[0], np.cumsum(new.sum(1))]).astype(np.int32)
    distinct = ordered[new]
    size = min(-(-len(distinct) // PACK_TO) * PACK_TO, rows.size)
    packed = np.full(size, distinct[0])
    packed[: len(distinct)] = distinct
    return packed, ends


def fits_device(store: SilhouetteStore, device: torch.device) -> bool:
    """Whether all frames may lie in the memory of `device` beside the network. Never on the CPU: they are there."""
    return device.type != "cpu" and fits(store.frames.nbytes, device, RESIDENT_SHARE)
