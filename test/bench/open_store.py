"""Measure how much faster a packed store opens than the aligned PNG tree from which it was built.

  python test/bench/open_store.py                          generated tree of 124 subjects × 22 sequences × 30 frames
  python test/bench/open_store.py --data_path work/CASIA-B-pre
  python test/bench/open_store.py --subjects 2 --frames 3  a short run

The benchmark compares three operations: listing the tree and reading all its frames; opening the store, including the
check whether the tree has changed; and opening it and reading all frames into memory. The last line is JSON with
medians and ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from model.data.raw.silhouette import write_png  # noqa: E402
from model.data.raw.tree import scan_tree  # noqa: E402
from model.data.source import read_sequence  # noqa: E402
from model.data.store import open_data  # noqa: E402


def make_tree(root: Path, subjects: int, frames: int) -> None:
    rng = np.random.default_rng(0)
    sils = [np.kron(rng.integers(2, size=(8, 8)), np.ones((8, 8))).astype(np.uint8) * 255 for _ in range(50)]
    for subject in range(1, subjects + 1):
        for take in ("nm-01", "nm-05"):
            for view in range(0, 181, 18):
                folder = root / f"{subject:03d}" / take / f"{view:03d}"
                folder.mkdir(parents=True)
                for frame in range(frames):
                    write_png(folder / f"{frame:03d}.png", sils[rng.integers(50)])


def median_seconds(job: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", type=Path, help="aligned tree (default: a generated one)")
    parser.add_argument("--subjects", type=int, default=124)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        tree = options.data_path or Path(scratch) / "tree"
        if options.data_path is None:
            make_tree(tree, options.subjects, options.frames)
        stores = Path(scratch) / "stores"
        store = open_data(tree, stores)
        read_tree = median_seconds(lambda: [read_sequence(s) for s in scan_tree(tree)], options.rounds)
        opened = median_seconds(lambda: open_data(tree, stores), options.rounds)
        cached = median_seconds(lambda: open_data(tree, stores, cache=True), options.rounds)
        print(
            json.dumps(
                {
                    "what": "opening a packed store instead of reading the PNG tree",
                    "sequences": len(store.index),
                    "frames": int(store.index.frames.sum()),
                    "read_tree_s": round(read_tree, 4),
                    "open_store_s": round(opened, 4),
                    "open_store_into_memory_s": round(cached, 4),
                    "ratio": round(read_tree / opened, 1),
                    "ratio_into_memory": round(read_tree / cached, 1),
                }
            )
        )


if __name__ == "__main__":
    main()
