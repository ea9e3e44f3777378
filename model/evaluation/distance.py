"""Euclidean distances between flattened embeddings."""

from __future__ import annotations

import torch
from torch import Tensor


def euclidean_distance(
    probe: Tensor,
    gallery: Tensor,
    probe_square: Tensor | None = None,
    gallery_square: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """sqrt(relu(|p|^2 + |g|^2 - 2 p.g)) for all pairs: [m, d] and [n, d] give [m, n] float32, in `out` if given.

    `probe_square` [m] is |p|^2 and `gallery_square` [n] is |g|^2 where the caller already has them; an infinite one
    puts its row infinitely far from everything. The expanded form is what the published figures were made with;
    it is one matrix product, and rounding can make the square of a tiny distance negative, hence the relu.
    Distances far below the length of the embeddings carry few correct digits. The product runs in the precision
    the process has set: leave TF32 and HF32 off here, or ranks may change.
    """
    if probe.ndim != 2 or gallery.ndim != 2 or probe.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"probe and gallery must be [m, d] and [n, d]; got {list(probe.shape)} and {list(gallery.shape)}"
        )
    probe, gallery = probe.float(), gallery.float()
    probe_square = squared_length(probe) if probe_square is None else probe_square
    gallery_square = squared_length(gallery) if gallery_square is None else gallery_square
    squares = torch.add(probe_square[:, None], gallery_square[None, :], out=out)
    return squares.addmm_(probe, gallery.T, alpha=-2).clamp_min_(0).sqrt_()


def squared_length(embeddings: Tensor, block_bytes: int = 16 << 20) -> Tensor:
    """|x|^2 of each row: [n, d] gives [n] float32, through a temporary of about `block_bytes`."""
    n, numbers = embeddings.shape
    squares = torch.empty(n, dtype=torch.float32, device=embeddings.device)
    size = min(n, max(1, block_bytes // (4 * max(1, numbers))))
    buffer = torch.empty(size, numbers, dtype=torch.float32, device=embeddings.device)
    for start in range(0, n, size or 1):
        # The last block overlaps the one before: in which order a row is summed may depend on the block's size, and
        # equal rows are to have equal squares.
        start = min(start, n - size)
        torch.sum(buffer.copy_(embeddings[start : start + size]).square_(), dim=1, out=squares[start : start + size])
    return squares
