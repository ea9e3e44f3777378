"""Divide a gallery into pieces and the probes into chunks that fit on a device, and order their comparisons.

The impostors of a probe can be counted only after all its mates are known. The gallery is therefore sorted by subject
before it is cut into pieces, with all views of a subject together. The probes are also sorted by subject, so the mates
of a chunk are in one piece or in adjacent pieces. The first round over the pieces finds the mates of each chunk. It
counts the impostors of the chunk in the last piece with such mates, and in all later pieces. The second round loads the
earlier pieces again and counts the impostors of the chunk in them.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.evaluation.protocols import Plan

# The number of gallery entries in a matrix product is a multiple of this number. Some libraries use a different
# summation order for the remainder, and equal embeddings would then have different distances.
ROW_MULTIPLE = 64


class Sizes(NamedTuple):
    chunk: int  # probes per chunk
    rows: int  # gallery entries per piece, a multiple of ROW_MULTIPLE


def sizes_within(limit: int, embeddings: Tensor, probes: int, galleries: int, probe_chunk: int) -> Sizes:
    """Return sizes such that one chunk and one piece fit in `limit` bytes.

    All chunks have about the same size, and all pieces have about the same size.
    """
    numbers = embeddings.shape[1]
    # A probe is stored in the type of the embeddings and as float32.
    per_probe = (4 + embeddings.element_size()) * numbers + 16
    chunk = _even_size(probes, max(1, min(probe_chunk, limit // 2 // per_probe)))
    # A gallery entry needs memory for its embedding. For each probe, it also needs a distance (4 bytes), a flag
    # (1 byte), and a copy of the flag that torch makes in the type of the counts to sum the flags (4 bytes).
    per_row = 4 * numbers + 16 + (4 + 1 + 4) * chunk
    rows = (limit - chunk * per_probe) // per_row // ROW_MULTIPLE * ROW_MULTIPLE
    rows = _even_size(galleries, max(ROW_MULTIPLE, rows))
    return Sizes(chunk, rows + -rows % ROW_MULTIPLE)


def _even_size(total: int, largest: int) -> int:
    parts = -(-total // largest)
    return -(-total // parts)


class Piece(NamedTuple):
    """A part of the gallery, whose entries are sorted by view, then by subject."""

    rows: Tensor  # rows of the entries in the embeddings
    keys: Tensor  # view * number of subjects + subject of each entry, ascending
    runs: list[tuple[slice, slice]]  # see `_runs`
    first_subject: int
    last_subject: int


def cut_gallery(plan: Plan, subject_ids: np.ndarray, size: int) -> tuple[list[Piece], int]:
    """Return pieces of at most `size` gallery entries, and the largest number of mates of a probe in one view."""
    subject = subject_ids[plan.gallery_rows]
    view = np.repeat(np.arange(len(plan.views)), plan.gallery_counts)
    key = view * (int(subject_ids.max()) + 1) + subject
    has_probe = np.isin(subject, subject_ids[plan.probe_rows])
    most_mates = int(np.unique(key[has_probe], return_counts=True)[1].max(initial=1))
    by_subject = np.argsort(subject, kind="stable")
    pieces = []
    for start in range(0, len(subject), size):
        part = by_subject[start : start + size]
        first, last = subject[part[0]], subject[part[-1]]
        part = part[np.argsort(key[part], kind="stable")]
        rows, keys = torch.from_numpy(plan.gallery_rows[part]), torch.from_numpy(key[part])
        runs = _runs(np.bincount(view[part], minlength=len(plan.views)))
        pieces.append(Piece(rows, keys, runs, int(first), int(last)))
    return pieces, most_mates


def _runs(counts: np.ndarray) -> list[tuple[slice, slice]]:
    """Group adjacent views with the same number of entries, because one operation can count such entries.

    `counts` [v] is the number of entries per view. Returns a slice of views and the slice of their entries for each
    group. Usually, all views form one group.
    """
    runs = []
    view = entry = 0
    for count, group in groupby(counts.tolist()):
        length = len(list(group))
        if count:
            runs.append((slice(view, view + length), slice(entry, entry + length * count)))
        view, entry = view + length, entry + length * count
    return runs


class Visit(NamedTuple):
    """The chunks that are compared with a piece while the piece is on the device, and the purpose per chunk."""

    piece: Piece
    chunks: list[int]
    finds_mates: list[bool]
    counts: list[bool]


def visits_of(pieces: list[Piece], subjects: np.ndarray) -> Iterator[Visit]:
    """Yield visits such that each chunk is counted once in every piece, after all mates of the chunk were found.

    `subjects` [chunks, chunk] are the subjects of the probes in ascending order.
    """
    # All mates of a chunk are in the pieces `first` to `last`.
    first = np.searchsorted([piece.last_subject for piece in pieces], subjects[:, 0])
    last = np.searchsorted([piece.first_subject for piece in pieces], subjects[:, -1], side="right") - 1
    for second_round in (False, True):
        for number, piece in enumerate(pieces):
            finds = (first <= number) & (number <= last) & (not second_round)
            counts = number < last if second_round else number >= last
            chunks = np.flatnonzero(finds | counts)
            if len(chunks):
                yield Visit(piece, chunks.tolist(), finds[chunks].tolist(), counts[chunks].tolist())
