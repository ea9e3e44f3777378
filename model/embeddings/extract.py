"""Embeddings of whole sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from model.common.messages import progress_bar
from model.common.prefetch import prefetch
from model.data.store import SilhouetteStore
from model.devices import distributed
from model.devices.device import copy_to, fits, select
from model.network.gaitset import GaitSet

# Frames that pass the set layers at once, by kind of memory: few on the CPU, where maps should stay in its
# cache, many where a device must be kept busy. It bounds the memory however long a sequence is.
FRAME_CHUNK_ON_CPU, FRAME_CHUNK = 64, 8192
READERS = 4  # threads that copy sequences out of the store, ahead of the device


@torch.inference_mode()
def embed_sequences(
    network: GaitSet,
    frames: Tensor,
    lengths: Sequence[int],
    device: torch.device,
    frame_chunk: int = 0,
) -> Tensor:
    """Embeddings [n, 62, d] of n sequences whose frames lie one after another, on `device`.

    frames: uint8 [sum(lengths), 64, 44]. No sequence is padded: frames pass the set layers in pieces of
    `frame_chunk` whatever sequence they belong to, and set pooling goes on over a cut.
    """
    pieces = frames.split(frame_chunk or _frame_chunk(device))
    stages: list[list[Tensor]] = [[], [], []]  # per stage, of each piece [sequences in it, c, h, w]
    with network.autocast():
        for piece, (parts, goes_on) in zip(pieces, _cut(lengths, len(pieces[0])), strict=True):
            for stage, pooled in zip(stages, network.pooled_maps(copy_to(piece, device), parts), strict=True):
                if goes_on:
                    cut = stage[-1][-1]
                    torch.maximum(cut, pooled[0], out=cut)
                    pooled = pooled[1:]
                if len(pooled):  # none in a piece from the middle of a sequence
                    stage.append(pooled)
        return network.embed(*map(torch.cat, stages))


def _frame_chunk(device: torch.device) -> int:
    return FRAME_CHUNK_ON_CPU if device.type == "cpu" else FRAME_CHUNK


def _cut(lengths: Sequence[int], size: int) -> Iterator[tuple[list[int], bool]]:
    """Cut sequences laid end to end every `size` frames: for each piece the lengths in it, and whether the first
    goes on from the piece before."""
    parts: list[int] = []
    taken_so_far = 0
    goes_on = False
    for length in lengths:
        left = length
        while left:
            taken = min(left, size - taken_so_far)
            parts.append(taken)
            left -= taken
            taken_so_far += taken
            if taken_so_far == size:
                yield parts, goes_on
                parts, taken_so_far, goes_on = [], 0, left > 0
    if parts:
        yield parts, goes_on


def extract(
    network: GaitSet,
    store: SilhouetteStore,
    device: torch.device,
    batch_size: int = 0,
    world: distributed.World | None = None,
    quiet: bool = False,
) -> Tensor | None:
    """Embeddings of all sequences of `store`, in the order of its index: float32 [N, 62, d].

    batch_size: sequences at once; 0 for as many as keep `device` busy. The processes of `world` share the work, each
    sequence going to one of them; the result is on rank 0, on `device` where it has room for it and else on the CPU;
    the others get None.
    """
    world = world or distributed.World()
    own = np.arange(world.rank, len(store.index), world.size)
    shape = (len(own), *network.fc_bin[0].shape[::2])
    rows = torch.empty(shape, device=device if fits(4 * np.prod(shape) * world.size, device) else "cpu")
    done = 0
    for batch, embeddings in stream(network, store, device, batch_size, own, quiet or not world.is_main):
        rows[done : done + len(batch)] = embeddings
        done += len(batch)
    return distributed.gather_rows(rows, len(store.index), device)


def stream(
    network: GaitSet,
    store: SilhouetteStore,
    device: torch.device,
    batch_size: int = 0,
    positions: np.ndarray | None = None,
    quiet: bool = False,
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """The same a batch at a time: positions [b] in the index of `store`, ascending, and float32 [b, 62, d] on `device`.

    positions: which sequences (all). The network is in evaluation mode until the last batch has been taken.
    """
    own = np.arange(len(store.index)) if positions is None else positions
    batches = _batches(own, store.index.frames[own], batch_size, _frame_chunk(device))
    was_training = network.training
    network.eval()
    bar = progress_bar(total=len(own), unit="sequences", what="embedding", quiet=quiet)
    with bar:
        for batch, frames in _read_ahead(store, batches, device):
            yield batch, embed_sequences(network, frames, store.index.frames[batch].tolist(), device)
            bar.update(len(batch))
    network.train(was_training)


def _batches(own: np.ndarray, frames: np.ndarray, batch_size: int, frame_chunk: int) -> list[np.ndarray]:
    """Cut the positions `own` after every `batch_size`, or, for 0, before their frames exceed `frame_chunk`."""
    if batch_size:
        return [own[i : i + batch_size] for i in range(0, len(own), batch_size)]
    batches, start = [], 0
    ends = np.cumsum(frames)
    while start < len(own):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + frame_chunk, side="right")))
        batches.append(own[start:stop])
        start = stop
    return batches


def _read_ahead(
    store: SilhouetteStore, batches: list[np.ndarray], device: torch.device
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Batches with their frames, uint8 [f, 64, 44], read by threads while the device is at work on earlier ones."""

    def read(batch: np.ndarray) -> Tensor:
        frames = torch.empty(
            int(store.index.frames[batch].sum()), *store.frames.shape[1:], dtype=torch.uint8,
            pin_memory=device.type != "cpu",
        )  # fmt: skip
        np.concatenate([store.sequence(position) for position in batch], out=frames.numpy())
        return frames

    readers = 1 if device.type == "cpu" else READERS
    yield from zip(batches, prefetch(read, batches, readers, 2 * readers, select, (device,)), strict=True)
