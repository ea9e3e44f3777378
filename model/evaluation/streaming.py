"""Count the impostors that are at least as close as each mate, for a gallery of any size and in bounded memory.

`gallery_pieces.py` describes the order in which probes and gallery are compared.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.common.messages import progress_bar
from model.devices.device import free_memory
from model.evaluation.distance import euclidean_distance
from model.evaluation.distance_statistics import DistanceStatistics
from model.evaluation.gallery_pieces import Piece, Sizes, cut_gallery, sizes_within, visits_of
from model.evaluation.metrics import INFINITE, closer_impostors, entries_within, mate_distances
from model.evaluation.protocols import Plan

PROBE_CHUNK = 1024
FREE_MEMORY_DIVISOR = 4  # use one quarter of the free memory of an accelerator
CPU_BYTES = 2 << 30
STAGING_BYTES = 16 << 20  # host buffer for copies to an accelerator


@dataclass(frozen=True)
class Streaming:
    """Settings of a streamed evaluation.

    device: device that computes the distances (default: the device of the embeddings).
    probe_chunk: largest number of probes per chunk.
    device_bytes: limit for the memory on `device` (default: see `default_bytes`). The limit does not include about
        8 bytes for each combination of a probe, a view and a mate. If one probe and ROW_MULTIPLE gallery entries need
        more memory, the limit is exceeded.
    quiet: show no progress bar.
    statistics: receives every distance once. Its memory is not included in `device_bytes`.
    """

    device: torch.device | None = None
    probe_chunk: int = PROBE_CHUNK
    device_bytes: int | None = None
    quiet: bool = True
    statistics: DistanceStatistics | None = None


def count_closer_impostors(
    embeddings: Tensor, squares: Tensor, subject_ids: np.ndarray, plan: Plan, settings: Streaming
) -> Tensor:
    """Return `closer_impostors` of every probe of `plan` in the gallery of every view: [m, v, r] int32 on the CPU.

    The last axis has the largest number of mates of a probe in one view, r.

    Args:
        embeddings: [N, d] on any device or in a memory-mapped file. A few rows are read at a time.
        squares: [N] squared lengths of the embeddings.
        subject_ids: [N] numbers from 0.
        settings: `settings.device` must be set.
    """
    device = settings.device
    # Sort the probes by subject, and pad the last chunk with copies of the last probe so that all chunks are full.
    subject = subject_ids[plan.probe_rows]
    order = np.argsort(subject, kind="stable")
    limit = default_bytes(device) if settings.device_bytes is None else settings.device_bytes
    sizes = sizes_within(limit, embeddings, len(order), len(plan.gallery_rows), settings.probe_chunk)
    padded = np.pad(order, (0, -len(order) % sizes.chunk), mode="edge")

    pieces, most_mates = cut_gallery(plan, subject_ids, sizes.rows)
    distances = _Distances(embeddings, squares, plan.probe_rows[padded], sizes, device)
    subjects = torch.from_numpy(subject[padded].reshape(-1, sizes.chunk))
    counter = _Counter(subjects, len(plan.views), most_mates, int(subject_ids.max()) + 1, device)

    visits = list(visits_of(pieces, subjects.numpy()))
    total = sum(len(visit.chunks) for visit in visits)
    with progress_bar(total=total, unit="blocks", what="distances", quiet=settings.quiet) as bar:
        for visit in visits:
            distances.load(visit.piece)
            keys = visit.piece.keys.to(device)
            for chunk, finds_mates, counts in zip(visit.chunks, visit.finds_mates, visit.counts, strict=True):
                distance = distances.of_chunk(chunk)
                if finds_mates:
                    counter.find_mates(chunk, distance, keys)
                if counts:
                    counter.count(chunk, distance, visit.piece.runs)
                    if settings.statistics is not None:
                        probes = order[chunk * sizes.chunk : (chunk + 1) * sizes.chunk]
                        settings.statistics.update(probes, visit.piece.rows, visit.piece.runs, distance)
                bar.update()
    # Undo the sorting and drop the padding.
    impostors = torch.empty(len(order), len(plan.views), most_mates, dtype=torch.int32)
    impostors[torch.from_numpy(order)] = counter.impostors()[: len(order)].cpu()
    return impostors


def default_bytes(device: torch.device) -> int:
    """Return a quarter of the free memory of an accelerator. Return 2 GiB if the device does not report free memory."""
    free = free_memory(device)
    return CPU_BYTES if free is None else free // FREE_MEMORY_DIVISOR


class _Distances:
    """Distances between a chunk of probes and the piece of the gallery that is on the device.

    The matrix product has the same shape and the same buffers for every piece and chunk. The distance of a pair is
    therefore the same in every bit each time it is computed, and equal embeddings have equal distances.
    """

    def __init__(
        self, embeddings: Tensor, squares: Tensor, probe_rows: np.ndarray, sizes: Sizes, device: torch.device
    ) -> None:
        self._embeddings, self._squares = embeddings, squares
        self._probe_rows = torch.from_numpy(probe_rows).to(embeddings.device).view(-1, sizes.chunk)
        self._probe_squares = squares[self._probe_rows].to(device)
        numbers = embeddings.shape[1]
        # A piece can leave the last rows of these buffers unused. Zeros keep their distances finite.
        self._gallery = torch.zeros(sizes.rows, numbers, device=device)
        self._gallery_square = torch.zeros(sizes.rows, device=device)
        self._probe = torch.empty(sizes.chunk, numbers, device=device)
        self._distance = torch.empty(sizes.chunk, sizes.rows, device=device)
        self._direct = embeddings.device == self._probe.device and embeddings.dtype == torch.float32
        if not self._direct:
            staged = max(1, min(sizes.chunk, STAGING_BYTES // (embeddings.element_size() * numbers)))
            pin = embeddings.device.type == "cpu" and device.type != "cpu"
            self._staging = embeddings.new_empty(staged, numbers, pin_memory=pin)

    def load(self, piece: Piece) -> None:
        """Copy a piece of the gallery to the device."""
        rows = piece.rows.to(self._embeddings.device)
        self._fetch(rows, self._gallery[: len(rows)])
        self._gallery_square[: len(rows)] = self._squares[rows].to(self._gallery.device)

    def of_chunk(self, chunk: int) -> Tensor:
        """Return distances [chunk, rows]. Columns after the last entry of the piece have no meaning.

        The next call overwrites the returned tensor.
        """
        self._fetch(self._probe_rows[chunk], self._probe)
        squares = self._probe_squares[chunk], self._gallery_square
        return euclidean_distance(self._probe, self._gallery, *squares, out=self._distance)

    def _fetch(self, rows: Tensor, out: Tensor) -> None:
        if self._direct:
            torch.index_select(self._embeddings, 0, rows, out=out)
            return
        size = len(self._staging)
        for part, target in zip(rows.split(size), out.split(size), strict=True):
            # `copy_` returns after the copy is complete, so the next part can overwrite the staging buffer. The device
            # can still compute the previous chunk while these rows are read.
            target.copy_(torch.index_select(self._embeddings, 0, part, out=self._staging[: len(part)]))


class _Counter:
    """Distances of the mates of each probe, and the number of gallery entries within each of these distances."""

    def __init__(self, subjects: Tensor, views: int, most_mates: int, all_subjects: int, device: torch.device) -> None:
        self._nearest = torch.full((*subjects.shape, views, most_mates), INFINITE, device=device)
        self._within = torch.zeros(self._nearest.shape, dtype=torch.int32, device=device)
        self._subjects = subjects.to(device)
        self._first_key = torch.arange(views, device=device) * all_subjects

    def find_mates(self, chunk: int, distance: Tensor, keys: Tensor) -> None:
        """Merge the distances of the mates in this piece into the known distances of the mates of the chunk."""
        mate_keys = self._first_key + self._subjects[chunk, :, None]
        first, stop = torch.searchsorted(keys, mate_keys), torch.searchsorted(keys, mate_keys, right=True)
        known = self._nearest[chunk]
        found = mate_distances(distance, first, stop, known.shape[-1])
        known.copy_(torch.cat([known, found], dim=-1).sort(dim=-1).values[..., : known.shape[-1]])

    def count(self, chunk: int, distance: Tensor, runs: list[tuple[slice, slice]]) -> None:
        """Count the entries of this piece within the distance of each mate."""
        for views, entries in runs:
            by_view = distance[:, entries].unflatten(1, (views.stop - views.start, -1))
            self._within[chunk, :, views] += entries_within(by_view, self._nearest[chunk, :, views])

    def impostors(self) -> Tensor:
        """Return `closer_impostors` of all probes, [chunks * chunk, v, most_mates]. This call overwrites the counts."""
        for within, nearest in zip(self._within, self._nearest, strict=True):
            within.copy_(closer_impostors(within, nearest))
        return self._within.flatten(0, 1)
