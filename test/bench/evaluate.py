"""Seconds to evaluate CASIA-B's test set, against a plain evaluator that works the way the original's does.

    python test/bench/evaluate.py                               # 50 subjects: 5,500 embeddings of 15,872
    python test/bench/evaluate.py --subjects 6 --dim 512        # a quick look
    python test/bench/evaluate.py --device cuda                 # embeddings on the device, and brought there

The plain evaluator selects gallery and probes, computes a distance matrix and sorts it whole for each
condition, probe view and gallery view, on the CPU. Both must agree; ours computes mAP as well.
The last line is JSON: `seconds`, `plain_seconds` (medians of the repeats), `ratio` (plain / ours).

With --gallery, a gallery and probes of any number, under OU-MVLP's protocol, stream through the device instead:

    python test/bench/evaluate.py --gallery 20000 --device_mib 8            # a quick look: several pieces
    python test/bench/evaluate.py --gallery 1000000 --memory_mapped --device cuda --device_mib 2048

Up to 30,000 x 30,000 it is compared with the plain evaluator; larger, two runs with different --device_mib should
give one rank-1. The last line has `seconds`, `tflops` (of one product of all pairs over all seconds), `peak_rss_gib`
(pages of the mapped file count, though the system may take them back) and `peak_device_gib`.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from model.common.command_line import CommandParser, positive
from model.common.errors import run_command
from model.devices.device import describe, resolve_device, set_precision, synchronize
from model.evaluation.cross_view import evaluate
from model.evaluation.protocols import Protocol, protocol_of
from model.evaluation.streaming import Streaming

VIEWS = [f"{18 * v:03d}" for v in range(11)]
RANKS = 5
SUBJECTS_AT_ONCE = 1024  # of the large case, made together
COMPARED = 30_000**2  # pairs up to which the large case is compared with the plain evaluator
Labelled = tuple[Tensor, list[str], list[str], list[str]]


def random_embeddings(subjects: int, dim: int, protocol: Protocol) -> Labelled:
    """Every subject in every take and view, with just enough in common for a rank-1 between 0 and 100."""
    takes = [*protocol.gallery, *(take for wanted in protocol.probes.values() for take in wanted)]
    rows = [(f"{75 + s:03d}", take, view) for s in range(subjects) for take in takes for view in VIEWS]
    random = torch.Generator().manual_seed(0)
    embeddings = torch.randn(len(rows), dim, generator=random)
    centres = torch.randn(subjects, dim, generator=random) * (1.4 / dim**0.5) ** 0.5
    embeddings += centres.repeat_interleave(len(takes) * len(VIEWS), dim=0)
    names, seq_types, views = (list(column) for column in zip(*rows, strict=True))
    return embeddings, names, seq_types, views


def plain_accuracy(
    embeddings: Tensor, subjects: list[str], seq_types: list[str], views: list[str], protocol: Protocol
) -> np.ndarray:
    """Rank-1..5 in percent [condition, probe view, gallery view, rank], one cell after another."""
    subject, take, view = np.array(subjects), np.array(seq_types), np.array(views)
    names = np.unique(view)
    accuracy = np.zeros((len(protocol.probes), len(names), len(names), RANKS))
    for c, wanted in enumerate(protocol.probes.values()):
        for i, probe_view in enumerate(names):
            for j, gallery_view in enumerate(names):
                in_gallery = np.isin(take, protocol.gallery) & (view == gallery_view)
                in_probe = np.isin(take, wanted) & (view == probe_view)
                gallery, probe = (
                    embeddings[torch.from_numpy(in_gallery)],
                    embeddings[torch.from_numpy(in_probe)],
                )
                squares = probe.square().sum(1)[:, None] + gallery.square().sum(1)[None, :]
                distance = torch.sqrt(torch.relu(squares - 2 * (probe @ gallery.T)))
                order = distance.sort(dim=1).indices.numpy()
                right = subject[in_gallery][order[:, :RANKS]] == subject[in_probe][:, None]
                accuracy[c, i, j] = (right.cumsum(axis=1) > 0).sum(axis=0) * 100 / len(probe)
    return accuracy


def differing_cells(accuracy: np.ndarray, plain: np.ndarray) -> int:
    """The two round their matrix products differently, which may swap two neighbours in a rare probe."""
    differing = int((np.abs(accuracy - plain) > 1e-9).sum())
    assert differing <= plain.size // 200, f"{differing} of {plain.size} cells differ from the plain evaluator"
    return differing


def seconds(works: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median of each; they take turns, so that whatever else the machine does falls on all of them."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, times in zip(works, taken, strict=True):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]


def small_case(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    protocol = protocol_of("CASIA-B")
    data = random_embeddings(options.subjects, options.dim or 62 * 256, protocol)
    embeddings, *labels = data
    there = embeddings.to(device)

    def ours(given: Tensor) -> Any:
        return evaluate(
            given, *labels, protocol, ranks=RANKS, settings=Streaming(device, device_bytes=options.device_bytes)
        )

    start = time.perf_counter()
    result = ours(there)  # libraries load their parts now
    first = time.perf_counter() - start
    differing = differing_cells(result.accuracy, plain_accuracy(*data, protocol))
    probes, galleries = int(result.probe_counts.sum()), int(result.gallery_counts.sum())

    def product() -> None:
        there[:probes] @ there[-galleries:].T
        synchronize(device)

    works = [lambda: ours(there), lambda: plain_accuracy(*data, protocol), product, lambda: ours(embeddings)]
    own, theirs, floor, brought = seconds(works, options.repeats)
    return {
        "embeddings": list(embeddings.shape),
        "seconds": round(own, 4),
        "seconds_from_host": round(brought, 4),
        "first_seconds": round(first, 4),
        "plain_seconds": round(theirs, 4),
        "ratio": round(theirs / own, 2),
        "matrix_product_seconds": round(floor, 4),
        "rank1_including": result.including(),
        "differing_cells": differing,
    }


def subject_blocks(options: argparse.Namespace, dim: int, device: torch.device) -> Iterator[tuple[list[int], Tensor]]:
    """(take, subject and view of each row as one number, and rows [r, dim]): a block of subjects at a time."""
    random = torch.Generator(device).manual_seed(0)
    most = max(options.gallery, options.probes)
    for start in range(0, most, SUBJECTS_AT_ONCE * options.views):
        sequences = range(start, min(start + SUBJECTS_AT_ONCE * options.views, most))
        centres = torch.randn(SUBJECTS_AT_ONCE, dim, generator=random, device=device) * (4 / dim**0.5) ** 0.5
        centres = centres.repeat_interleave(options.views, dim=0)[: len(sequences)]
        for take, total in enumerate((options.probes, options.gallery)):
            rows = centres + torch.randn(centres.shape, generator=random, device=device)
            wanted = max(0, min(len(sequences), total - start))
            yield [take * most + sequence for sequence in sequences[:wanted]], rows[:wanted]


def large_embeddings(options: argparse.Namespace, dim: int, device: torch.device, folder: str) -> Labelled:
    """`--gallery` and `--probes` sequences, a subject once in each view and take; in a file where that is asked for."""
    total, most = options.gallery + options.probes, max(options.gallery, options.probes)
    labels: list[int] = []
    file = Path(folder) / "embeddings.f32"
    embeddings = torch.empty(0 if options.memory_mapped else total, dim)
    with file.open("wb") as target:
        for numbers, rows in subject_blocks(options, dim, device):
            if options.memory_mapped:
                rows.cpu().numpy().tofile(target)
            else:
                embeddings[len(labels) : len(labels) + len(numbers)] = rows
            labels += numbers
    if options.memory_mapped:
        embeddings = torch.from_numpy(np.memmap(file, np.float32, "r+", shape=(total, dim)))
    subjects = [f"{number % most // options.views:07d}" for number in labels]
    seq_types = [f"{number // most:02d}" for number in labels]
    return embeddings, subjects, seq_types, [f"{number % options.views:03d}" for number in labels]


def large_case(options: argparse.Namespace, device: torch.device, folder: str) -> dict[str, Any]:
    protocol, dim, pairs = protocol_of("OUMVLP"), options.dim or 256, options.gallery * options.probes
    data = large_embeddings(options, dim, device, folder)
    print(f"{options.probes} probes and a gallery of {options.gallery} are made; rank-1 is next", flush=True)
    module = None if device.type == "cpu" else torch.get_device_module(device)
    if module is not None:
        module.empty_cache()
        module.reset_peak_memory_stats(device)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    settings = Streaming(device, device_bytes=options.device_bytes, quiet=False)
    result = evaluate(*data, protocol, ranks=RANKS, settings=settings)
    taken = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB on Linux
    report = {
        "gallery": options.gallery,
        "probes": options.probes,
        "dim": dim,
        "views": options.views,
        "memory_mapped": options.memory_mapped,
        "device_mib": options.device_mib,
        "seconds": round(taken, 3),
        "tflops": round(2 * pairs * dim / taken / 1e12, 3),
        "embeddings_gib": round(4 * data[0].numel() / 2**30, 3),
        "rss_before_gib": round(before / 2**20, 3),
        "peak_rss_gib": round(after / 2**20, 3),
        "peak_device_gib": None if module is None else round(module.max_memory_allocated(device) / 2**30, 3),
        "rank1": result.including(rounded=False),
        "map": result.mean_average_precision(rounded=False),
    }
    if pairs <= COMPARED:
        report["differing_cells"] = differing_cells(result.accuracy, plain_accuracy(*data, protocol))
    return report


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, npu or auto (cpu)")
    parser.add_argument("--device_mib", type=positive, metavar="N", help="bound on what lies there (the evaluator's)")
    parser.add_argument("--dim", type=positive, help="length of a flattened embedding (15,872; 256 with --gallery)")
    parser.add_argument("--subjects", type=positive, default=50)
    parser.add_argument("--repeats", type=positive, default=3)
    group = parser.add_argument_group("large case")
    group.add_argument("--gallery", type=positive, metavar="N", help="so many gallery sequences")
    group.add_argument("--probes", type=positive, metavar="N", help="so many probes (as many as the gallery)")
    group.add_argument("--views", type=positive, default=14, help="that they are spread over (14)")
    group.add_argument("--memory_mapped", action="store_true", help="embeddings in a file, not in memory")
    group.add_argument("--folder", help="where that file is kept meanwhile (the system's for temporary files)")
    options = parser.parse_args()
    options.probes = options.probes or options.gallery
    options.device_bytes = options.device_mib and options.device_mib << 20

    device = resolve_device(options.device)
    set_precision(device)
    report = {"benchmark": "evaluate", "device": describe(device), "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report |= large_case(options, device, folder) if options.gallery else small_case(options, device)
    print(json.dumps(report))


if __name__ == "__main__":
    run_command(main)
