"""Measure how much faster a packed store opens than the aligned PNG tree from which it was built.

  python test/bench/open_store.py                          generated tree of 124 subjects × 22 sequences × 30 frames
  python test/bench/open_store.py --data_path work/CASIA-B-pre
  python test/bench/open_store.py --subjects 2 --frames 3  a short run

The benchmark compares three operations: listing the tree and reading all its frames; opening the store, including the
check whether the tree has changed; and opening it and reading all frames into memory. The last line is JSON with
medians and ratios.
"""

import tempfile
from pathlib import Path

import numpy as np
from measuring import median_seconds, parser_of, report

from model.data.raw.silhouette import write_png
from model.data.raw.tree import scan_tree
from model.data.source import read_sequence
from model.data.store import open_data


def make_tree(root: Path, subjects: int, frames: int) -> None:
    rng = np.random.default_rng(0)
    # A black border, because frames with a white one are rejected as inverted.
    sils = [np.kron(np.pad(rng.integers(2, size=(6, 6)), 1), np.ones((8, 8))).astype(np.uint8) * 255 for _ in range(50)]
    for subject in range(1, subjects + 1):
        for take in ("nm-01", "nm-05"):
            for view in range(0, 181, 18):
                folder = root / f"{subject:03d}" / take / f"{view:03d}"
                folder.mkdir(parents=True)
                for frame in range(frames):
                    write_png(folder / f"{frame:03d}.png", sils[rng.integers(50)])


def main() -> None:
    parser = parser_of(__doc__, subjects=124, frames=30, rounds=3)
    parser.add_argument("--data_path", type=Path, help="aligned tree (default: a generated one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        tree = options.data_path or Path(scratch) / "tree"
        if options.data_path is None:
            make_tree(tree, options.subjects, options.frames)
        stores = Path(scratch) / "stores"
        store = open_data(tree, stores)
        works = [
            lambda: [read_sequence(sequence) for sequence in scan_tree(tree)],
            lambda: open_data(tree, stores),
            lambda: open_data(tree, stores, cache=True),
        ]
        read_tree, opened, cached = median_seconds(works, options.rounds)
        report(
            "opening a packed store instead of reading the PNG tree",
            sequences=len(store.index), frames=int(store.index.frames.sum()), read_tree_s=round(read_tree, 4),
            open_store_s=round(opened, 4), open_store_into_memory_s=round(cached, 4),
            ratio=round(read_tree / opened, 1), ratio_into_memory=round(read_tree / cached, 1),
        )  # fmt: skip


if __name__ == "__main__":
    main()
