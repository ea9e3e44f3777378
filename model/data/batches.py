"""Load the planned batches of silhouettes onto the device, a few iterations ahead."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.common.prefetch import prefetch
from model.data.augmentation import augment, draw_changes
from model.data.sampler import PKSampler
from model.data.store import SilhouetteStore
from model.devices.device import copy_to, fits, select

RESIDENT_SHARE = 0.5  # maximum share of the free device memory for resident frames
PACK_TO = 64  # the number of frames of a packed batch is rounded up to a multiple of this, so that few sizes occur


class Batch(NamedTuple):
    """P·K sequences on the device: silhouettes `sils`, uint8, and the numbers of their subjects, `labels`, int64 [P·K].

    - Not packed: sils [P·K, frame_num, 64, 44]; ends is None.
    - Packed, without repeated frames: sils [f, 64, 44]; ends int32 [P·K + 1]. Sequence i consists of the frames ends[i]
      to ends[i + 1] - 1. Frames from ends[P·K] on belong to no sequence.
    """

    sils: Tensor
    ends: Tensor | None = None
    labels: Tensor | None = None


Gathered = tuple[Tensor, Tensor | None, Tensor, Tensor | None]  # see `BatchLoader.gather`


class BatchLoader:
    """Yields the batches that `sampler` plans, on `device`, starting at any iteration.

    Batches are gathered by threads, not by processes, because gathering is one indexed copy, which releases the
    interpreter lock.

    Args:
        workers: number of threads that prefetch batches; 0: each batch is gathered when it is needed.
        resident: keep all frames in device memory and transfer only row numbers.
        packed: transfer each frame of a sequence once, even if the frame was drawn several times. Repeated frames do
            not change the set of frames, so they do not change the embedding.
        augmented: change each sequence randomly. The changes depend only on seed, rank, iteration and the position of
            the sequence in the batch.
    """

    def __init__(
        self, store: SilhouetteStore, sampler: PKSampler, device: torch.device, workers: int, resident: bool = False,
        packed: bool = False, augmented: bool = False,
    ):  # fmt: skip
        self.sampler, self.device, self.workers = sampler, device, workers
        self.resident, self.packed, self.augmented = resident, packed, augmented
        frames = torch.from_numpy(store.frames)
        self.frames = frames.to(device) if resident else frames

    def gather(self, iteration: int) -> Gathered:
        """Prepare the batch of an iteration on the host.

        Returns:
            The silhouettes, or their rows if the frames are resident; ends and labels as in Batch; the parameters from
            `draw_changes`, or None without augmentation.
        """
        sampler = self.sampler
        sequences, rows = sampler.plan(iteration)
        rows, ends = pack(rows) if self.packed else (rows, None)
        chosen, labels = torch.from_numpy(rows), torch.from_numpy(sampler.labels[sequences])
        if not self.resident:
            chosen = self._frames_at(chosen)
        changes = draw_changes(sampler.seed, sampler.rank, iteration, len(sequences)) if self.augmented else None
        gathered = chosen, None if ends is None else torch.from_numpy(ends), labels, changes
        if self.device.type == "cpu":
            return gathered
        return tuple(None if part is None else part.pin_memory() for part in gathered)

    def _frames_at(self, rows: Tensor) -> Tensor:
        flat = self.frames.index_select(0, rows.flatten())
        return flat.view(*rows.shape, *flat.shape[1:])

    def deliver(self, gathered: Gathered) -> Batch:
        """Transfer a batch to the device and augment the batch, without synchronizing with the device."""
        sils, ends, labels, changes = (None if part is None else copy_to(part, self.device) for part in gathered)
        if self.resident:
            sils = self._frames_at(sils)
        if changes is not None:
            sils = augment(sils.flatten(0, -3), _sequence_of_frames(sils, ends), changes).view(sils.shape)
        return Batch(sils, ends, labels)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of the iterations `start` to `stop` - 1 in order."""
        gathered = map(self.gather, range(start, stop))
        if self.workers:
            prefetching = self.workers, 2 * self.workers, select, (self.device,)
            gathered = prefetch(self.gather, range(start, stop), *prefetching)
        yield from map(self.deliver, gathered)


def _sequence_of_frames(sils: Tensor, ends: Tensor | None) -> Tensor:
    """Return the position of the sequence of each frame, int64 [f]. Frames of no sequence get the last position."""
    if ends is None:
        n, frames = sils.shape[:2]
        return torch.arange(n, device=sils.device).repeat_interleave(frames, output_size=n * frames)
    frames = torch.arange(len(sils), device=sils.device, dtype=ends.dtype)
    return torch.searchsorted(ends[1:], frames, right=True).clamp(max=len(ends) - 2)


def pack(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Remove repeated rows within each sequence: [n, s] -> rows int64 [f], grouped by sequence, and ends int32 [n + 1].

    f is rounded up to a multiple of PACK_TO, but is at most n·s. The added rows are after the last end, so they belong
    to no sequence.
    """
    # After sorting, a repeated row equals its predecessor.
    ordered = np.sort(rows, axis=1)
    new = np.ones(rows.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ends = np.concatenate([[0], np.cumsum(new.sum(1))]).astype(np.int32)
    # Fill the additional rows with any valid row.
    distinct = ordered[new]
    size = min(-(-len(distinct) // PACK_TO) * PACK_TO, rows.size)
    packed = np.full(size, distinct[0])
    packed[: len(distinct)] = distinct
    return packed, ends


def fits_device(store: SilhouetteStore, device: torch.device) -> bool:
    """Return whether all frames fit into device memory in addition to the network. False on the CPU."""
    return device.type != "cpu" and fits(store.frames.nbytes, device, RESIDENT_SHARE)
