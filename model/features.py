"""Embeddings of whole sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model import distributed
from model.data.store import SilhouetteStore
from model.device import copy_to
from model.network.gaitset import GaitSet
from model.network.pooling import set_pooling

# Frames that pass the set layers at once, by kind of memory: few on the CPU, where maps should stay in its
# cache, many where a device must be kept busy. It bounds the memory however long a sequence is.
FRAMES_AT_ONCE_ON_CPU, FRAMES_AT_ONCE = 64, 4096


@torch.inference_mode()
def embed_sequences(
    network: GaitSet,
    frames: np.ndarray,
    lengths: Sequence[int],
    device: torch.device,
    frames_at_once: int = 0,
) -> Tensor:
    """Embeddings [n, 62, d] of n sequences whose frames lie one after another, on `device`.

    frames: uint8 [sum(lengths), 64, 44]. No sequence is padded: frames pass the set layers in pieces of
    `frames_at_once` whatever sequence they belong to, and set pooling goes on over a cut.
    """
    frames_at_once = frames_at_once or (FRAMES_AT_ONCE_ON_CPU if device.type == "cpu" else FRAMES_AT_ONCE)
    dtype = network.fc_bin[0].dtype  # half where apex has made the weights so
    pooled: list[list[Tensor]] = [[], [], []]  # per stage, per sequence [c, h, w]
    pieces = torch.from_numpy(frames).split(frames_at_once)
    for piece, (parts, goes_on) in zip(pieces, _cut(lengths, frames_at_once), strict=True):
        maps = network.frame_maps(copy_to(piece, device).to(dtype).div_(255))
        for stage, stage_maps in zip(pooled, maps, strict=True):
            of_parts = list(set_pooling(stage_maps, parts, len(parts)))
            if goes_on:
                stage[-1] = torch.maximum(stage[-1], of_parts.pop(0))
            stage += of_parts
    return network.embed(*map(torch.stack, pooled))


def _cut(lengths: Sequence[int], size: int) -> Iterator[tuple[list[int], bool]]:
    """Cut sequences laid end to end every `size` frames: for each piece the lengths in it, and whether the first
    goes on from the piece before."""
    parts: list[int] = []
    goes_on = False
    for length in lengths:
        left = length
        while left:
            taken = min(left, size - sum(parts))
            parts.append(taken)
            left -= taken
            if sum(parts) == size:
                yield parts, goes_on
                parts, goes_on = [], left > 0
    if parts:
        yield parts, goes_on


def extract(
    network: GaitSet,
    store: SilhouetteStore,
    device: torch.device,
    batch_size: int = 1,
    world: distributed.World | None = None,
    quiet: bool = False,
) -> Tensor | None:
    """Embeddings of all sequences of `store`, in the order of its index: float32 [N, 62, d] on the CPU.

    The processes of `world` share the work, each sequence going to one of them; the result is on rank 0,
    the others get None.
    """
    world = world or distributed.World()
    own = np.arange(world.rank, len(store.index), world.size)
    batches = [own[i : i + batch_size] for i in range(0, len(own), batch_size)]

    def load(batch: np.ndarray) -> np.ndarray:
        return np.concatenate([store.sequence(position) for position in batch])

    was_training = network.training
    network.eval()
    rows = []
    bar = tqdm(
        total=len(own),
        unit="sequence",
        desc="embedding",
        disable=True if quiet or not world.is_main else None,
    )
    with ThreadPoolExecutor(1) as ahead, bar:
        coming = ahead.submit(load, batches[0]) if batches else None
        for number, batch in enumerate(batches):
            frames = coming.result()
            if number + 1 < len(batches):
                coming = ahead.submit(load, batches[number + 1])
            rows.append(embed_sequences(network, frames, store.index.frames[batch].tolist(), device).float().cpu())
            bar.update(len(batch))
    network.train(was_training)
    # A process without any sequence still has to say so when all are gathered.
    own_rows = torch.cat(rows) if rows else torch.empty(0, *network.fc_bin[0].shape[::2])
    return distributed.gather_rows(own_rows, torch.from_numpy(own), len(store.index))
