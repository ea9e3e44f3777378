"""Wrong entries before each mate, for a gallery of any size: pieces of it visit the device, probes stream past them.

Wrong entries can be counted only when all of a probe's mates are known. So pieces are cut by subject, all views of it
together, and probes are sorted by subject: the mates of a chunk of probes lie in one piece, or in neighbours. Once
that piece has come, the chunk is counted in it and in all after it; a second round brings the pieces before it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.common.messages import progress_bar
from model.devices.device import free_memory
from model.evaluation.distance import euclidean_distance
from model.evaluation.distance_record import DistanceRecord
from model.evaluation.metrics import INFINITE, entries_within, nearest_mates, wrong_before
from model.evaluation.protocols import Plan

SHARE_OF_DEVICE = 4  # of the free memory of an accelerator, one part in so many is taken
BYTES_ON_CPU = 2 << 30
STAGING_BYTES = 16 << 20  # of host memory through which rows travel to an accelerator
# Matrix products come with a multiple of so many gallery entries. What is left over at an edge some libraries
# compute in another order, and then equal embeddings are not equally far.
EVEN = 64


def count_wrong(
    embeddings: Tensor,
    squares: Tensor,
    subject_ids: np.ndarray,
    plan: Plan,
    device: torch.device,
    probe_chunk: int,
    device_bytes: int | None = None,
    quiet: bool = True,
    record: DistanceRecord | None = None,
) -> Tensor:
    """`wrong_before` of every probe of `plan` in the gallery of every view: [m, v, most mates] int32 on the CPU.

    `embeddings` [N, d] may lie on any device or in a memory-mapped file and are read a few rows at a time;
    `squares` [N] are their squared lengths, `subject_ids` [N] numbers from 0.
    What lies on `device` at a time stays within `device_bytes` (default: see `default_bytes`), but for what is kept
    of every probe: about 8 bytes per view and mate. One probe and `EVEN` gallery entries are the least it takes.
    `record` is shown every distance once, and has memory of its own.
    """
    subject = subject_ids[plan.probe_rows]
    order = np.argsort(subject, kind="stable")
    limit = default_bytes(device) if device_bytes is None else device_bytes
    sizes = sizes_within(limit, embeddings, len(order), len(plan.gallery_rows), probe_chunk)
    # Every chunk is full: the last probe stands in for those that the last chunk lacks.
    padded = np.pad(order, (0, -len(order) % sizes.chunk), mode="edge")
    pieces, most = _cut(plan, subject_ids, sizes.rows)
    products = _Products(embeddings, squares, plan.probe_rows[padded], sizes, device)
    subjects = torch.from_numpy(subject[padded].reshape(-1, sizes.chunk))

    counter = _Counter(subjects, len(plan.views), most, int(subject_ids.max()) + 1, device)
    visits = list(_visits(pieces, subjects.numpy()))
    bar = progress_bar(total=sum(len(v.chunks) for v in visits), unit="blocks", what="distances", quiet=quiet)
    with bar:
        for visit in visits:
            products.load(visit.piece)
            keys = visit.piece.keys.to(device)
            for chunk, finds_mates, counts in zip(visit.chunks, visit.finds_mates, visit.counts, strict=True):
                distance = products.distance(chunk)
                if finds_mates:
                    counter.find_mates(chunk, distance, keys)
                if counts:
                    counter.count(chunk, distance, visit.piece.runs)
                    if record is not None:
                        own = order[chunk * sizes.chunk : (chunk + 1) * sizes.chunk]
                        record.see(own, visit.piece.rows, visit.piece.runs, distance)
                bar.update()
    wrong = torch.empty(len(order), len(plan.views), most, dtype=torch.int32)
    wrong[torch.from_numpy(order)] = counter.wrong()[: len(order)].cpu()
    return wrong


def default_bytes(device: torch.device) -> int:
    """A quarter of what is free on an accelerator, 2 GiB on the CPU and where a device cannot tell."""
    free = free_memory(device)
    return BYTES_ON_CPU if free is None else free // SHARE_OF_DEVICE


class Sizes(NamedTuple):
    chunk: int  # probes at a time
    rows: int  # gallery entries at a time, a multiple of EVEN


def sizes_within(limit: int, embeddings: Tensor, probes: int, galleries: int, probe_chunk: int) -> Sizes:
    """How many probes and gallery entries may lie on the device together; chunks, and pieces, are about equal."""
    if probe_chunk < 1:
        raise ValueError(f"probe_chunk must be at least 1, not {probe_chunk}")
    numbers = embeddings.shape[1]
    per_probe = (4 + embeddings.element_size()) * numbers + 16  # as float32, and before that as it was
    chunk = _evenly(probes, max(1, min(probe_chunk, limit // 2 // per_probe)))
    # Itself; its distances, whether each is near, and the copy in the counts' type that torch sums those through.
    per_row = 4 * numbers + 16 + (4 + 1 + 4) * chunk
    rows = (limit - chunk * per_probe) // per_row // EVEN * EVEN
    rows = _evenly(galleries, max(EVEN, rows))
    return Sizes(chunk, rows + -rows % EVEN)


def _evenly(total: int, most: int) -> int:
    parts = -(-total // most)
    return -(-total // parts)


class _Piece(NamedTuple):
    rows: Tensor  # of the embeddings, sorted by view, then by subject
    keys: Tensor  # view * subjects + subject of each, ascending
    runs: list[tuple[slice, slice]]  # views, and where in `rows` they are: neighbours with equally many
    first_subject: int
    last_subject: int


def _cut(plan: Plan, subject_ids: np.ndarray, size: int) -> tuple[list[_Piece], int]:
    """The gallery in pieces of at most `size` rows, and the most mates that a probe can have in a view."""
    subject = subject_ids[plan.gallery_rows]
    view = np.repeat(np.arange(len(plan.views)), plan.gallery_counts)
    key = view * (int(subject_ids.max()) + 1) + subject
    looked_for = np.isin(subject, subject_ids[plan.probe_rows])
    most = int(np.unique(key[looked_for], return_counts=True)[1].max(initial=1))
    by_subject = np.argsort(subject, kind="stable")
    pieces = []
    for start in range(0, len(subject), size):
        part = by_subject[start : start + size]
        first, last = subject[part[0]], subject[part[-1]]
        part = part[np.argsort(key[part], kind="stable")]
        rows, keys = torch.from_numpy(plan.gallery_rows[part]), torch.from_numpy(key[part])
        runs = _runs(np.bincount(view[part], minlength=len(plan.views)))
        pieces.append(_Piece(rows, keys, runs, int(first), int(last)))
    return pieces, most


def _runs(counts: np.ndarray) -> list[tuple[slice, slice]]:
    """Where `counts` [v] entries of views stand one after another, what can be counted together (often everything)."""
    runs = []
    view = place = 0
    for each, group in groupby(counts.tolist()):
        length = len(list(group))
        if each:
            runs.append((slice(view, view + length), slice(place, place + length * each)))
        view, place = view + length, place + length * each
    return runs


class _Visit(NamedTuple):
    """One stay of a piece on the device: the chunks of probes it meets there, and what for."""

    piece: _Piece
    chunks: list[int]
    finds_mates: list[bool]  # of each chunk
    counts: list[bool]


def _visits(pieces: list[_Piece], subjects: np.ndarray) -> Iterator[_Visit]:
    """Every chunk meets every piece, those with its mates first. `subjects` [chunks, chunk], of probes, ascend."""
    # In `first` to `last`, if anywhere, are the mates of a chunk.
    first = np.searchsorted([piece.last_subject for piece in pieces], subjects[:, 0])
    last = np.searchsorted([piece.first_subject for piece in pieces], subjects[:, -1], side="right") - 1
    for second_round in (False, True):
        for number, piece in enumerate(pieces):
            finds = (first <= number) & (number <= last) & (not second_round)
            counts = number < last if second_round else number >= last
            chunks = np.flatnonzero(finds | counts)
            if len(chunks):
                yield _Visit(piece, chunks.tolist(), finds[chunks].tolist(), counts[chunks].tolist())


class _Products:
    """Distances of a chunk of probes to the piece of the gallery that is on the device.

    Whatever the piece and the chunk, the matrix product has one shape and works in the same memory, so that a pair
    has the same distance, to the last bit, whenever it is computed, and equal embeddings have equal distances.
    """

    def __init__(
        self, embeddings: Tensor, squares: Tensor, probe_rows: np.ndarray, sizes: Sizes, device: torch.device
    ) -> None:
        self._embeddings, self._squares = embeddings, squares
        self._probe_rows = torch.from_numpy(probe_rows).to(embeddings.device).view(-1, sizes.chunk)
        self._probe_squares = squares[self._probe_rows].to(device)
        numbers = embeddings.shape[1]
        # Zeros, because the last piece fills only a part.
        self._gallery = torch.zeros(sizes.rows, numbers, device=device)
        self._gallery_square = torch.empty(sizes.rows, device=device)
        self._probe = torch.empty(sizes.chunk, numbers, device=device)
        self._distance = torch.empty(sizes.chunk, sizes.rows, device=device)
        self._direct = embeddings.device == self._probe.device and embeddings.dtype == torch.float32
        if not self._direct:
            staged = max(1, min(sizes.chunk, STAGING_BYTES // (embeddings.element_size() * numbers)))
            travels = embeddings.device.type == "cpu" and device.type != "cpu"
            self._staging = embeddings.new_empty(staged, numbers, pin_memory=travels)

    def load(self, piece: _Piece) -> None:
        rows = piece.rows.to(self._embeddings.device)
        self._fetch(rows, self._gallery[: len(rows)])
        self._gallery_square.fill_(INFINITE)[: len(rows)] = self._squares[rows].to(self._gallery.device)

    def distance(self, chunk: int) -> Tensor:
        """[chunk, rows of a piece], infinite beyond the last of this piece; the next call overwrites it."""
        self._fetch(self._probe_rows[chunk], self._probe)
        squares = self._probe_squares[chunk], self._gallery_square
        return euclidean_distance(self._probe, self._gallery, *squares, out=self._distance)

    def _fetch(self, rows: Tensor, out: Tensor) -> None:
        if self._direct:
            torch.index_select(self._embeddings, 0, rows, out=out)
            return
        size = len(self._staging)
        for part, target in zip(rows.split(size), out.split(size), strict=True):
            # The copy returns when it is done, so the staged rows may be overwritten; meanwhile the device is at work
            # on the chunk before while these rows are being read.
            target.copy_(torch.index_select(self._embeddings, 0, part, out=self._staging[: len(part)]))


class _Counter:
    """What is known of every probe so far: the distances of its mates, and how many entries lie within each."""

    def __init__(self, subjects: Tensor, views: int, most_mates: int, all_subjects: int, device: torch.device) -> None:
        self._nearest = torch.full((*subjects.shape, views, most_mates), INFINITE, device=device)
        self._within = torch.zeros(self._nearest.shape, dtype=torch.int32, device=device)
        self._subjects = subjects.to(device)
        self._first_key = torch.arange(views, device=device) * all_subjects

    def find_mates(self, chunk: int, distance: Tensor, keys: Tensor) -> None:
        wanted = self._first_key + self._subjects[chunk, :, None]
        first, stop = torch.searchsorted(keys, wanted), torch.searchsorted(keys, wanted, right=True)
        known = self._nearest[chunk]
        found = nearest_mates(distance, first, stop, known.shape[-1])
        known.copy_(torch.cat([known, found], dim=-1).sort(dim=-1).values[..., : known.shape[-1]])

    def count(self, chunk: int, distance: Tensor, runs: list[tuple[slice, slice]]) -> None:
        for views, places in runs:
            by_view = distance[:, places].unflatten(1, (views.stop - views.start, -1))
            self._within[chunk, :, views] += entries_within(by_view, self._nearest[chunk, :, views])

    def wrong(self) -> Tensor:
        """`wrong_before` of all probes, [chunks * chunk, v, most_mates]; it takes the place of the counts."""
        for within, nearest in zip(self._within, self._nearest, strict=True):
            within.copy_(wrong_before(within, nearest))
        return self._within.flatten(0, 1)
