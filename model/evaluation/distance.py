"""Euclidean distances between flattened embeddings."""

import torch
from torch import Tensor


def euclidean_distance(
    probe: Tensor,
    gallery: Tensor,
    probe_square: Tensor | None = None,
    gallery_square: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Return sqrt(relu(|p|^2 + |g|^2 - 2 p.g)) for all pairs of rows, [m, d] and [n, d] -> [m, n] float32.

    The published figures use this expanded form, which needs only one matrix product. Rounding can make the square of
    a small distance negative, so the relu sets it to 0. A distance that is much smaller than the lengths of the
    embeddings has few correct digits. The product uses the precision that is set for the process. TF32 and HF32 can
    change ranks, so disable them.

    Args:
        probe_square: |p|^2 [m] if already known.
        gallery_square: |g|^2 [n] if already known.
        out: tensor [m, n] for the result.
    """
    probe, gallery = probe.float(), gallery.float()
    probe_square = squared_length(probe) if probe_square is None else probe_square
    gallery_square = squared_length(gallery) if gallery_square is None else gallery_square
    squares = torch.add(probe_square[:, None], gallery_square[None, :], out=out)
    return squares.addmm_(probe, gallery.T, alpha=-2).clamp_min_(0).sqrt_()


def squared_length(embeddings: Tensor, block_bytes: int = 16 << 20) -> Tensor:
    """Return |x|^2 of each row, [n, d] -> [n] float32, with a temporary buffer of about `block_bytes`."""
    n, numbers = embeddings.shape
    squares = torch.empty(n, dtype=torch.float32, device=embeddings.device)
    size = min(n, max(1, block_bytes // (4 * max(1, numbers))))
    buffer = torch.empty(size, numbers, dtype=torch.float32, device=embeddings.device)
    for start in range(0, n, size or 1):
        # Equal rows must have equal squares, but the summation order within a row can depend on the block size. All
        # blocks therefore have the same size, and the last block overlaps the block before it.
        start = min(start, n - size)
        torch.sum(buffer.copy_(embeddings[start : start + size]).square_(), dim=1, out=squares[start : start + size])
    return squares
