"""Set layers and set pooling for training on the CPU. Threads process the frames in chunks, one chunk per thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from model.devices.all_cores import map_on_all_cores
from model.network import sparse_layers
from model.network.pooling import set_pooling

FRAME_CHUNK = 20  # maximum number of frames in a chunk; a longer sequence is a chunk alone


def pooled_maps(network, frames: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the set-pooled maps after layers 2, 4 and 6, [n, c, h, w] each.

    Args:
        network: the GaitSet whose weights are used.
        frames: uint8 [f, 64, 44] on the CPU, the frames of one sequence after another.
        lengths: number of frames of each sequence.
    """
    weights = network.set_weights()
    if sparse_layers.are_faster(network):
        return _ChunkedSetLayers.apply(sparse_layers.pooled_maps, frames, lengths, *sparse_layers.kernels_of(weights))

    def pooled(_, part: Tensor, part_lengths: Sequence[int]) -> list[Tensor]:
        with network.autocast():
            return [set_pooling(maps, part_lengths, len(part_lengths)) for maps in network.frame_maps(part)]

    return _ChunkedSetLayers.apply(pooled, frames, lengths, *weights)


class _ChunkedSetLayers(torch.autograd.Function):
    """Run the forward and backward passes chunk by chunk, so that the maps of a chunk stay in the cache of a core.

    The function `pooled(weights, frames, lengths)` returns the set-pooled maps of one chunk. `weights` can be any
    tensors that `pooled` accepts. The gradients of the chunks are added in the order of the chunks, so the result does
    not depend on the number of threads.
    """

    @staticmethod
    def forward(ctx, pooled, frames: Tensor, lengths: Sequence[int], *weights: Tensor) -> tuple[Tensor, ...]:
        def of_chunk(chunk: tuple[Tensor, list[int]]) -> list[Tensor]:
            with torch.enable_grad():
                return pooled(weights, *chunk)

        ctx.chunks = list(map_on_all_cores(of_chunk, _chunks(frames, lengths), frames.device))
        ctx.weights = weights
        return tuple(torch.cat([maps.detach() for maps in stage]) for stage in zip(*ctx.chunks, strict=True))

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple:
        chunks, ctx.chunks = ctx.chunks, None
        parts = zip(*(gradient.split([len(chunk[0]) for chunk in chunks]) for gradient in gradients), strict=True)

        def of_weights(chunk: tuple[list[Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
            return torch.autograd.grad(chunk[0], ctx.weights, chunk[1])

        of_chunks = map_on_all_cores(of_weights, zip(chunks, parts, strict=True), gradients[0].device)
        total = next(of_chunks)
        for part in of_chunks:
            torch._foreach_add_(total, part)
        return None, None, None, *total


def _chunks(frames: Tensor, lengths: Sequence[int]) -> Iterator[tuple[Tensor, list[int]]]:
    """Split the frames into chunks of complete sequences. Yield the frames and the sequence lengths of each chunk."""
    start, group = 0, []
    for length in lengths:
        if group and sum(group) + length > FRAME_CHUNK:
            yield frames[start : start + sum(group)], group
            start, group = start + sum(group), []
        group.append(length)
    yield frames[start : start + sum(group)], group
