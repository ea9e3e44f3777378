"""Seconds to evaluate CASIA-B's test set, against a plain evaluator that works the way the original's does.

    python test/bench/evaluate.py                               # 50 subjects: 5,500 embeddings of 15,872
    python test/bench/evaluate.py --subjects 6 --dim 512        # a quick look

The plain evaluator selects gallery and probes, computes a distance matrix and sorts it whole for each
condition, probe view and gallery view, on the CPU. Both must agree; ours computes mAP as well.
The last line is JSON: `seconds`, `plain_seconds` (medians of the repeats), `ratio` (plain / ours).
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from model.command_line import CommandParser, positive
from model.errors import run_command
from model.evaluation.cross_view import evaluate
from model.evaluation.protocols import Protocol, protocol_of

VIEWS = [f"{18 * v:03d}" for v in range(11)]
RANKS = 5


def random_embeddings(subjects: int, dim: int, protocol: Protocol) -> tuple[Tensor, list[str], list[str], list[str]]:
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
    accuracy = np.zeros((len(protocol.probes), len(VIEWS), len(VIEWS), RANKS))
    for c, wanted in enumerate(protocol.probes.values()):
        for i, probe_view in enumerate(VIEWS):
            for j, gallery_view in enumerate(VIEWS):
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


def seconds(works: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median of each; they take turns, so that whatever else the machine does falls on all of them."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, times in zip(works, taken, strict=True):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--subjects", type=positive, default=50)
    parser.add_argument("--dim", type=positive, default=62 * 256, help="length of a flattened embedding")
    parser.add_argument("--repeats", type=positive, default=3)
    options = parser.parse_args()

    protocol = protocol_of("CASIA-B")
    data = random_embeddings(options.subjects, options.dim, protocol)
    embeddings = data[0]
    result = evaluate(*data, protocol, ranks=RANKS)
    plain = plain_accuracy(*data, protocol)
    # The two round their matrix products differently, which may swap two neighbours in a rare probe.
    differing = int((np.abs(result.accuracy - plain) > 1e-9).sum())
    assert differing <= plain.size // 1000, f"{differing} of {plain.size} cells differ from the plain evaluator"

    probes, galleries = int(result.probe_counts.sum()), int(result.gallery_counts.sum())
    product = embeddings[:probes], embeddings[-galleries:].T
    ours, theirs, floor = seconds(
        (
            lambda: evaluate(*data, protocol, ranks=RANKS),
            lambda: plain_accuracy(*data, protocol),
            lambda: product[0] @ product[1],
        ),
        options.repeats,
    )
    report = {
        "benchmark": "evaluate",
        "embeddings": list(embeddings.shape),
        "threads": torch.get_num_threads(),
        "seconds": round(ours, 4),
        "plain_seconds": round(theirs, 4),
        "ratio": round(theirs / ours, 2),
        "matrix_product_seconds": round(floor, 4),
        "rank1_including": result.including(),
        "differing_cells": differing,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    run_command(main)
