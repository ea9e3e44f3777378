"""Measure the rank-1 of a simple recognition method: the nearest gait energy image (the mean of the aligned frames).

  python test/bench/energy_images.py --data_path work/CASIA-A-pre --dataset CASIA-A
  python test/bench/energy_images.py --data_path work/walkers --dataset Synthetic

On real people, the method works well if both sequences have the same view, and poorly across views. Walkers for
training should show the same behaviour. All subjects are tested. The last line is JSON: rank-1 for the same view and
across views by condition, and the time in seconds.
"""

import tempfile
import time

import numpy as np
import torch
from measuring import parser_of, report

from model.data.store import open_data
from model.evaluation.cross_view import evaluate_index


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data_path", required=True, metavar="DIR", help="aligned tree or store")
    parser.add_argument(
        "--dataset", default="Synthetic", metavar="NAME", help="selects the protocol (default: Synthetic)"
    )
    options = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="gaitset-bench-") as folder:
        store = open_data(options.data_path, folder)
        images = np.stack([store.sequence(i).mean(0, dtype=np.float32).ravel() for i in range(len(store.index))])
    result = evaluate_index(torch.from_numpy(images / 255), store.index, options.dataset)
    matrix = result.accuracy[..., 0]  # [condition, probe view, gallery view]
    same = np.eye(matrix.shape[1], dtype=bool)
    same_view, across = (
        dict(zip(result.conditions, np.nanmean(matrix[:, views], 1).round(2).tolist(), strict=True))
        for views in (same, ~same)
    )
    report(
        "rank-1 of nearest gait energy images, percent",
        subjects=len(store.index.subjects), sequences=len(store.index), same_view=same_view, across=across,
        seconds=round(time.perf_counter() - start, 2),
    )  # fmt: skip


if __name__ == "__main__":
    main()
