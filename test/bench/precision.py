"""Whether mixed precision learns as float32 does: rank-1 on unseen walkers after the same training, several seeds each.

  python test/bench/precision.py --device cuda                               5,000 iterations of 8×8×10, three seeds
  python test/bench/precision.py --device cpu --seeds 1 --iters 2 --subjects 6 --train 4 --p 2 --k 2 --frame_num 2 \\
      --frames 8 --views 000,090                                             for a quick look

Float32 is strict (no TF32). All runs see the same walkers; a seed decides the weights at the start and the batches, so
a seed's two runs start alike and draw alike. Each run is trained by train.py and tested by test.py in its own
precision. The last line is JSON: rank-1 (mean over conditions, identical views excluded) of each run, mean and
spread (standard deviation) over seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

WAYS = {"float32": ["--amp", "off"], "mixed": ["--amp", "torch"]}


def call(*arguments) -> None:
    subprocess.run([sys.executable, *map(str, arguments)], check=True, stdout=sys.stderr, cwd=ROOT)


def make_data(folder: Path, options: argparse.Namespace) -> Path:
    views = ["--views", options.views] if options.views else []
    call(
        "-m", "model.synthetic", "--store", folder / "store", "--subjects", options.subjects, "--frames",
        options.frames, "--device", options.device, "--quiet", *views,
    )  # fmt: skip
    return folder / "store"


def rank1(way: str, seed: int, data: Path, folder: Path, options: argparse.Namespace) -> dict:
    work, figures = folder / f"{way}-{seed}", folder / f"{way}-{seed}.json"
    common = [
        "--device", options.device, "--data_path", data, "--dataset", "Synthetic", "--pid_num", options.train,
        "--work_path", work, "--quiet", *WAYS[way],
    ]  # fmt: skip
    start = time.perf_counter()
    call(
        "train.py", *common, "--seed", seed, "--iters", options.iters, "--batch_size_p", options.p, "--batch_size_m",
        options.k, "--frame_num", options.frame_num, "--save_iter", options.iters, "--log_iter", 1000,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    checkpoint = next((work / "checkpoint" / "GaitSet").glob("*-encoder.ptm"))
    call("test.py", *common, "--checkpoint", checkpoint, "--json", figures)
    excluding = {
        condition: figure["excluding"]
        for condition, figure in json.loads(figures.read_text(encoding="utf-8"))["rank1"].items()
    }
    return {"mean": statistics.mean(excluding.values()), **excluding, "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--iters", type=int, default=5000)
    parser.add_argument("--p", type=int, default=8)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--frame_num", type=int, default=10)
    parser.add_argument("--subjects", type=int, default=60, help="walkers in all")
    parser.add_argument("--train", type=int, default=30, help="of them, to train on")
    parser.add_argument("--frames", type=int, default=40, help="of each sequence")
    parser.add_argument("--views", default="000,054,090,126")
    parser.add_argument("--only", choices=WAYS, action="append", help="this way alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gaitset-bench-") as temporary:
        data = make_data(Path(temporary), options)
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        runs = {
            way: [rank1(way, seed, data, Path(temporary), options) for seed in seeds] for way in options.only or WAYS
        }
    means = {way: [run["mean"] for run in of_way] for way, of_way in runs.items()}
    spread = {way: statistics.stdev(values) if len(values) > 1 else None for way, values in means.items()}
    print(
        json.dumps(
            {
                "what": "rank-1 after the same training in float32 and in mixed precision",
                "iterations": options.iters,
                "batch": [options.p, options.k, options.frame_num],
                "unseen_walkers": options.subjects - options.train,
                "runs": runs,
                "spread": spread,
                "mean": {way: round(statistics.mean(values), 3) for way, values in means.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
