"""Measure the evaluation of CASIA-B's test set, and compare it with an evaluator that works like the original's.

    python test/bench/evaluate.py                               # 50 subjects: 5,500 embeddings of 15,872
    python test/bench/evaluate.py --subjects 6 --dim 512        # a short run
    python test/bench/evaluate.py --device cuda                 # embeddings on the device and in host memory

For each condition, probe view and gallery view, the baseline selects gallery and probes, computes a distance matrix and
sorts it completely, on the CPU. The accuracy of at most 0.5 % of the table cells may differ, because of rounding. Our
evaluation also computes mAP. The last line is JSON: `seconds` for our evaluation and `plain_seconds` for the baseline
(medians of the repeats), and `ratio` (baseline / ours).

With --gallery, a gallery and probes of any size are streamed through the device under OU-MVLP's protocol:

    python test/bench/evaluate.py --gallery 20000 --device_mib 8            # a short run with several pieces
    python test/bench/evaluate.py --gallery 1000000 --memory_mapped --device cuda --device_mib 2048

Up to 30,000 x 30,000 pairs, the result is compared with the baseline. For more pairs, compare two runs with different
--device_mib, which should give the same rank-1. The last line has `seconds`, `tflops` (operations of one product of all
pairs, divided by the time), `peak_rss_gib` (including pages of the mapped file, which the system can reclaim) and
`peak_device_gib`.
"""

import argparse
import itertools
import resource
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import median_seconds, report
from torch import Tensor

from model.common.command_line import CommandParser, positive
from model.common.errors import run_command
from model.data.index import SequenceIndex
from model.devices.device import describe, synchronize
from model.devices.opening import open_device
from model.evaluation.cross_view import evaluate_index
from model.evaluation.protocols import Protocol, protocol_of
from model.evaluation.streaming import Streaming

VIEWS = [f"{18 * v:03d}" for v in range(11)]
RANKS = 5
SUBJECT_CHUNK = 1024  # subjects that are generated together
MAX_COMPARED_PAIRS = 30_000**2  # more pairs are not compared with the baseline


def random_embeddings(
    takes: dict[str, int], views: list[str], dim: int, spread: float, device: torch.device, file: Path | None = None
) -> tuple[Tensor, SequenceIndex]:
    """Return embeddings of the given number of sequences per take, one per subject and view, and their labels.

    `spread` sets the distances between subjects, so that rank-1 is between 0 and 100. With `file`, the embeddings are
    memory-mapped.
    """
    random = torch.Generator(device).manual_seed(0)
    shape, most, size = (sum(takes.values()), dim), max(takes.values()), SUBJECT_CHUNK * len(views)
    embeddings = torch.empty(0 if file else shape[0], dim)
    labels: list[tuple[str, str, str]] = []
    with file.open("wb") if file else nullcontext() as target:
        for first in range(0, most, size):
            sequences = range(first, min(first + size, most))
            centres = torch.randn(-(-len(sequences) // len(views)), dim, generator=random, device=device)
            centres = (centres * (spread / dim**0.5) ** 0.5).repeat_interleave(len(views), dim=0)[: len(sequences)]
            for take, total in takes.items():
                rows = centres + torch.randn(centres.shape, generator=random, device=device)
                numbers = sequences[: max(0, total - first)]
                if target:
                    rows[: len(numbers)].cpu().numpy().tofile(target)
                else:
                    embeddings[len(labels) : len(labels) + len(numbers)] = rows[: len(numbers)]
                labels += [(f"{number // len(views):07d}", take, views[number % len(views)]) for number in numbers]
    if file:
        embeddings = torch.from_numpy(np.memmap(file, np.float32, "r+", shape=shape))
    return embeddings, SequenceIndex.from_lengths(*map(list, zip(*labels, strict=True)), [1] * len(labels))


def plain_accuracy(embeddings: Tensor, index: SequenceIndex, protocol: Protocol) -> np.ndarray:
    """Return rank-1..5 in percent [condition, probe view, gallery view, rank], computed cell by cell."""
    subject, take, view = index.subject, index.seq_type, index.view
    names = np.unique(view)
    accuracy = np.zeros((len(protocol.probes), len(names), len(names), RANKS))
    for c, wanted in enumerate(protocol.probes.values()):
        for i, probe_view in enumerate(names):
            for j, gallery_view in enumerate(names):
                in_gallery = np.isin(take, protocol.gallery) & (view == gallery_view)
                in_probe = np.isin(take, wanted) & (view == probe_view)
                gallery, probe = (embeddings[torch.from_numpy(rows)] for rows in (in_gallery, in_probe))
                squares = probe.square().sum(1)[:, None] + gallery.square().sum(1)[None, :]
                distance = torch.sqrt(torch.relu(squares - 2 * (probe @ gallery.T)))
                order = distance.sort(dim=1).indices.numpy()
                correct = subject[in_gallery][order[:, :RANKS]] == subject[in_probe][:, None]
                accuracy[c, i, j] = (correct.cumsum(axis=1) > 0).sum(axis=0) * 100 / len(probe)
    return accuracy


def differing_cells(accuracy: np.ndarray, plain: np.ndarray) -> int:
    """Count different cells. The matrix products round differently, which can swap neighbors of a few probes."""
    differing = int((np.abs(accuracy - plain) > 1e-9).sum())
    assert differing <= plain.size // 200, f"{differing} of {plain.size} cells differ from the baseline"
    return differing


def small_case(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    protocol = protocol_of("CASIA-B")
    takes = [*protocol.gallery, *itertools.chain(*protocol.probes.values())]
    counts = dict.fromkeys(takes, options.subjects * len(VIEWS))
    data = random_embeddings(counts, VIEWS, options.dim or 62 * 256, 1.4, device)
    embeddings, index = data
    on_device = embeddings.to(device)

    def ours(given: Tensor) -> Any:
        settings = Streaming(device, device_bytes=options.device_bytes)
        return evaluate_index(given, index, protocol, settings, RANKS)

    start = time.perf_counter()
    result = ours(on_device)  # the first call also loads libraries
    first = time.perf_counter() - start
    differing = differing_cells(result.accuracy, plain_accuracy(*data, protocol))
    probes, galleries = int(result.probe_counts.sum()), int(result.gallery_counts.sum())

    def product() -> None:
        on_device[:probes] @ on_device[-galleries:].T
        synchronize(device)

    works = [lambda: ours(on_device), lambda: plain_accuracy(*data, protocol), product, lambda: ours(embeddings)]
    own, baseline, product_only, from_host = median_seconds(works, options.repeats)
    return {
        "embeddings": list(embeddings.shape), "seconds": round(own, 4), "seconds_from_host": round(from_host, 4),
        "first_seconds": round(first, 4), "plain_seconds": round(baseline, 4), "ratio": round(baseline / own, 2),
        "matrix_product_seconds": round(product_only, 4), "rank1_including": result.including(),
        "differing_cells": differing,
    }  # fmt: skip


def large_case(options: argparse.Namespace, device: torch.device, folder: str) -> dict[str, Any]:
    protocol, dim, pairs = protocol_of("OUMVLP"), options.dim or 256, options.gallery * options.probes
    views, file = [f"{view:03d}" for view in range(options.views)], Path(folder, "embeddings.f32")
    takes = {"00": options.probes, "01": options.gallery}
    data = random_embeddings(takes, views, dim, 4, device, file if options.memory_mapped else None)
    print(f"{options.probes} probes and a gallery of {options.gallery} generated", flush=True)
    module = None if device.type == "cpu" else torch.get_device_module(device)
    if module is not None:
        module.empty_cache()
        module.reset_peak_memory_stats(device)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    settings = Streaming(device, device_bytes=options.device_bytes, quiet=False)
    result = evaluate_index(*data, protocol, settings, RANKS)
    elapsed = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB on Linux
    shown = ("gallery", "probes", "views", "memory_mapped", "device_mib")
    figures = {name: getattr(options, name) for name in shown} | {
        "dim": dim, "seconds": round(elapsed, 3), "tflops": round(2 * pairs * dim / elapsed / 1e12, 3),
        "embeddings_gib": round(4 * data[0].numel() / 2**30, 3),
        "rss_before_gib": round(before / 2**20, 3), "peak_rss_gib": round(after / 2**20, 3),
        "peak_device_gib": None if module is None else round(module.max_memory_allocated(device) / 2**30, 3),
        "rank1": result.including(rounded=False), "map": result.mean_average_precision(rounded=False),
    }  # fmt: skip
    if pairs <= MAX_COMPARED_PAIRS:
        figures["differing_cells"] = differing_cells(result.accuracy, plain_accuracy(*data, protocol))
    return figures


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, npu or auto (default: cpu)")
    parser.add_argument("--device_mib", type=positive, metavar="N",
                        help="memory limit on the device in MiB (default: that of the evaluation)")  # fmt: skip
    parser.add_argument("--dim", type=positive, help="length of an embedding (default: 15,872; 256 with --gallery)")
    parser.add_argument("--subjects", type=positive, default=50, help="number of subjects without --gallery")
    parser.add_argument("--repeats", type=positive, default=3, help="number of measurements, whose median is printed")
    group = parser.add_argument_group("large case")
    group.add_argument("--gallery", type=positive, metavar="N", help="number of gallery sequences")
    group.add_argument("--probes", type=positive, metavar="N", help="number of probes (default: the same as --gallery)")
    group.add_argument("--views", type=positive, default=14, help="number of views (default: 14)")
    group.add_argument("--memory_mapped", action="store_true", help="keep the embeddings in a memory-mapped file")
    group.add_argument("--folder", help="folder of the memory-mapped file (default: the system's temporary folder)")
    options = parser.parse_args()
    options.probes = options.probes or options.gallery
    options.device_bytes = options.device_mib and options.device_mib << 20

    device = open_device(options.device)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = large_case(options, device, folder) if options.gallery else small_case(options, device)
    report("evaluate", device=describe(device), threads=torch.get_num_threads(), **figures)


if __name__ == "__main__":
    run_command(main)
