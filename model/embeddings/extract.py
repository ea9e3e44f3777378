"""Compute embeddings of complete sequences."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from model.common.messages import progress_bar
from model.common.prefetch import prefetch
from model.data.store import SilhouetteStore
from model.devices import distributed
from model.devices.all_cores import map_on_all_cores
from model.devices.device import copy_to, fits, select
from model.devices.world import World
from model.network.gaitset import GaitSet

# Number of frames that pass the set layers together. On the CPU, few frames keep the feature maps in the cache of a
# core. On a device, many frames keep the device busy. The chunks also limit the memory for long sequences.
FRAME_CHUNK_ON_CPU, FRAME_CHUNK = 16, 8192
READERS = 4  # threads that prefetch sequences from the store


@torch.inference_mode()
def embed_sequences(network: GaitSet, frames: Tensor, lengths: Sequence[int], device: torch.device) -> Tensor:
    """Embed n sequences whose frames are concatenated.

    Sequences are not padded. Frames pass the set layers in chunks, and set pooling combines the parts of a sequence.

    Args:
        frames: uint8 [sum(lengths), 64, 44].

    Returns:
        float32 [n, 62, d] on `device`.
    """
    chunks = frames.split(_frame_chunk(device))
    stages: list[list[Tensor]] = [[], [], []]  # per stage and chunk: [sequences in the chunk, c, h, w]
    with network.autocast():
        for chunk, (parts, continued) in zip(chunks, _cut(lengths, len(chunks[0])), strict=True):
            for stage, pooled in zip(stages, network.pooled_maps(copy_to(chunk, device), parts), strict=True):
                if continued:  # combine the first part with the last part of the previous chunk
                    cut = stage[-1][-1]
                    torch.maximum(cut, pooled[0], out=cut)
                    pooled = pooled[1:]
                if len(pooled):  # empty if the whole chunk was the middle or the end of a sequence
                    stage.append(pooled)
        return network.embed(*map(torch.cat, stages))


def _frame_chunk(device: torch.device) -> int:
    return FRAME_CHUNK_ON_CPU if device.type == "cpu" else FRAME_CHUNK


def _cut(lengths: Sequence[int], size: int) -> Iterator[tuple[list[int], bool]]:
    """Cut concatenated sequences into chunks of `size` frames.

    For each chunk, yields the lengths of its parts, and whether its first part continues the last sequence of the
    previous chunk.
    """
    ends = np.cumsum(lengths)
    for start in range(0, ends[-1], size):
        stop = min(start + size, ends[-1])
        inside = ends[(start < ends) & (ends < stop)]
        yield np.diff([start, *inside, stop]).tolist(), start > 0 and start not in ends


def extract(
    network: GaitSet, store: SilhouetteStore, device: torch.device, batch_size: int = 0, world: World | None = None
) -> Tensor | None:
    """Compute the embeddings of all sequences of a store, in the order of its index.

    Args:
        batch_size: sequences per batch; 0: as many as keep `device` busy.
        world: processes that share the work. Each sequence is embedded by one of them.

    Returns:
        float32 [N, 62, d] on rank 0, on `device` if it has enough memory and otherwise on the CPU. None on other ranks.
    """
    world = world or World()
    own = np.arange(world.rank, len(store.index), world.size)
    shape = (len(own), *network.fc_bin[0].shape[::2])
    rows = torch.empty(shape, device=device if fits(4 * np.prod(shape) * world.size, device) else "cpu")
    done = 0
    for batch, embeddings in stream(network, store, device, batch_size, own):
        rows[done : done + len(batch)] = embeddings
        done += len(batch)
    return distributed.gather_rows(rows, len(store.index), device)


def stream(
    network: GaitSet, store: SilhouetteStore, device: torch.device, batch_size: int, own: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield the embeddings in batches: increasing positions [b] in the index and float32 [b, 62, d] on `device`.

    The network is in evaluation mode until the generator is exhausted.

    Args:
        own: positions of the sequences that this process embeds. Default: all.
    """
    own = np.arange(len(store.index)) if own is None else own
    batches = _batches(own, store.index.frames[own], batch_size, _frame_chunk(device))

    def embed(read: tuple[np.ndarray, Tensor]) -> tuple[np.ndarray, Tensor]:
        batch, frames = read
        return batch, embed_sequences(network, frames, store.index.frames[batch].tolist(), device)

    was_training = network.training
    network.eval()
    with progress_bar(total=len(own), unit="sequences", what="embedding") as bar:
        for batch, embeddings in map_on_all_cores(embed, _prefetch_batches(store, batches, device), device):
            yield batch, embeddings
            bar.update(len(batch))
    network.train(was_training)


def _batches(own: np.ndarray, frames: np.ndarray, batch_size: int, frame_chunk: int) -> list[np.ndarray]:
    """Split positions into batches of `batch_size` sequences.

    If `batch_size` is 0, a batch has at most `frame_chunk` frames, or is one longer sequence.
    """
    batches, start, ends = [], 0, np.cumsum(frames)
    while start < len(own):
        last = ends[start] - frames[start] + frame_chunk  # the number of frames up to which sequences fit
        stop = start + batch_size if batch_size else max(start + 1, int(np.searchsorted(ends, last, side="right")))
        batches.append(own[start:stop])
        start = stop
    return batches


def _prefetch_batches(
    store: SilhouetteStore, batches: list[np.ndarray], device: torch.device
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield batches with their frames, uint8 [f, 64, 44]. Threads prefetch the frames."""

    def read(batch: np.ndarray) -> Tensor:
        shape = (int(store.index.frames[batch].sum()), *store.frames.shape[1:])
        frames = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type != "cpu")
        np.concatenate([store.sequence(position) for position in batch], out=frames.numpy())
        return frames

    readers = 1 if device.type == "cpu" else READERS
    yield from zip(batches, prefetch(read, batches, readers, 2 * readers, select, (device,)), strict=True)
