"""Euclidean distances between flattened embeddings, with bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def euclidean_distance(probe: Tensor, gallery: Tensor, gallery_square: Tensor | None = None) -> Tensor:
    """sqrt(relu(|p|^2 + |g|^2 - 2 p.g)) for all pairs: [m, d] and [n, d] give [m, n] float32.

    `gallery_square` [n] is |g|^2 where the caller already has it. The expanded form is what the published
    figures were made with; it is one matrix product, and rounding can make the square of a tiny distance
    negative, hence the relu. Distances far below the length of the embeddings carry few correct digits.
    The product runs in the precision the process has set: leave TF32 and HF32 off here, or ranks may change.
    """
    if probe.ndim != 2 or gallery.ndim != 2 or probe.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"probe and gallery must be [m, d] and [n, d]; got {list(probe.shape)} and {list(gallery.shape)}"
        )
    probe, gallery = probe.float(), gallery.float()
    if gallery_square is None:
        gallery_square = squared_length(gallery)
    squares = squared_length(probe)[:, None] + gallery_square[None, :]
    return torch.addmm(squares, probe, gallery.T, alpha=-2).clamp_min_(0).sqrt_()


def squared_length(embeddings: Tensor) -> Tensor:
    """|x|^2 of each row: [n, d] gives [n] float32, without a temporary of the size of `embeddings`."""
    return torch.linalg.vector_norm(embeddings, dim=1, dtype=torch.float32).square()


def stream_distances(
    embeddings: Tensor, probe_rows: Tensor, gallery_rows: Tensor, probe_chunk: int, device: torch.device
) -> Iterator[tuple[slice, Tensor]]:
    """Distances of rows of `embeddings` [N, d], a chunk of probes against the whole gallery at a time.

    Yields (the chunk's places in `probe_rows`, distance [chunk, len(gallery_rows)] on `device`). The gallery
    is moved to `device` once; of the probes and the distances only one chunk is there at a time, so memory is
    gallery + probe_chunk * (d + gallery size) floats.
    """
    if probe_chunk < 1:
        raise ValueError(f"probe_chunk must be at least 1, not {probe_chunk}")
    home = embeddings.device
    gallery = embeddings.index_select(0, gallery_rows.to(home)).to(device, torch.float32)
    gallery_square = squared_length(gallery)
    # One buffer for all chunks: fresh memory of this size costs more, in page faults, than filling it.
    buffer = embeddings.new_empty(min(probe_chunk, len(probe_rows)), embeddings.shape[1])
    for start in range(0, len(probe_rows), probe_chunk):
        rows = probe_rows[start : start + probe_chunk].to(home)
        probe = torch.index_select(embeddings, 0, rows, out=buffer[: len(rows)]).to(device, torch.float32)
        yield slice(start, start + len(rows)), euclidean_distance(probe, gallery, gallery_square)
