"""Measure the rank-1 of nearest gait energy images (means of aligned frames), a simple recognition method.

  python test/bench/energy_images.py --data_path work/CASIA-A-pre --dataset CASIA-A
  python test/bench/energy_images.py --data_path work/walkers --dataset Synthetic

On real people, the method works well for the same view and poorly across views. Walkers for training should show the
same behaviour. All subjects are tested. The last line is JSON: rank-1 for the same view and across views by condition,
and the time in seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from model.data.store import open_data  # noqa: E402
from model.evaluation.cross_view import evaluate_index  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", required=True, metavar="DIR", help="aligned tree or store")
    parser.add_argument(
        "--dataset", default="Synthetic", metavar="NAME", help="selects the protocol (default: Synthetic)"
    )
    options = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="gaitset-bench-") as folder:
        store = open_data(options.data_path, folder, quiet=True)
        images = np.stack([store.sequence(i).mean(0, dtype=np.float32).ravel() for i in range(len(store.index))])
    result = evaluate_index(torch.from_numpy(images / 255), store.index, options.dataset)
    matrix = result.accuracy[..., 0]  # [condition, probe view, gallery view]
    same = np.eye(matrix.shape[1], dtype=bool)
    print(
        json.dumps(
            {
                "what": "rank-1 of nearest gait energy images, percent",
                "subjects": len(store.index.subjects),
                "sequences": len(store.index),
                "same_view": dict(
                    zip(result.conditions, np.nanmean(matrix[:, same], 1).round(2).tolist(), strict=True)
                ),
                "across": dict(zip(result.conditions, np.nanmean(matrix[:, ~same], 1).round(2).tolist(), strict=True)),
                "seconds": round(time.perf_counter() - start, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
