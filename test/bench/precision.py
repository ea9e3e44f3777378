"""Compare rank-1 on unseen walkers after the same training in float32 and in mixed precision, with several seeds.

  python test/bench/precision.py --device cuda                               5,000 iterations of 8×8×10, three seeds
  python test/bench/precision.py --device cpu --seeds 1 --iters 2 --subjects 6 --train 4 --p 2 --k 2 --frame_num 2 \\
      --frames 8 --views 000,090                                             a short run

Float32 does not use TF32. All runs use the same walkers. A seed determines the initial weights and the batches, so the
float32 run and the mixed-precision run of a seed start with the same weights and draw the same batches. Each run trains
with train.py and tests with test.py in the same precision. The last line is JSON: rank-1 of each run (mean over
conditions, excluding identical views), and the mean and the standard deviation over the seeds.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from measuring import parser_of, report, run_python, train

PRECISIONS = {"float32": ["--amp", "off"], "mixed": ["--amp", "torch"]}


def rank1(precision: str, seed: int, store: Path, folder: Path, options: argparse.Namespace) -> dict:
    work, figures = folder / f"{precision}-{seed}", folder / f"{precision}-{seed}.json"
    data = ["--dataset", "Synthetic", "--pid_num", options.train, *PRECISIONS[precision]]
    lengths = ["--iters", options.iters, "--save_iter", options.iters, "--log_iter", 1000]
    start = time.perf_counter()
    encoder = train(store, work, options, *data, "--seed", seed, *lengths)["checkpoint"]
    seconds = time.perf_counter() - start
    run_python(
        "test.py", "--device", options.device, "--data_path", store, *data, "--work_path", work, "--quiet",
        "--checkpoint", encoder, "--json", figures,
    )  # fmt: skip
    table = json.loads(figures.read_text(encoding="utf-8"))["rank1"]
    excluding = {condition: figure["excluding"] for condition, figure in table.items()}
    return {"mean": statistics.mean(excluding.values()), **excluding, "seconds": round(seconds, 1)}


def main() -> None:
    parser = parser_of(
        __doc__, device="auto", seeds=3, first_seed=0, iters=5000, p=8, k=8, frame_num=10, views="000,054,090,126"
    )
    parser.add_argument("--subjects", type=int, default=60, help="number of walkers")
    parser.add_argument("--train", type=int, default=30, help="number of training walkers")
    parser.add_argument("--frames", type=int, default=40, help="frames per sequence")
    parser.add_argument("--only", choices=PRECISIONS, action="append", help="run only this precision")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gaitset-bench-") as temporary:
        store = Path(temporary, "store")
        run_python(
            "-m", "model.synthetic", "--store", store, "--subjects", options.subjects, "--frames", options.frames,
            "--device", options.device, "--quiet", *(["--views", options.views] if options.views else []),
        )  # fmt: skip
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        runs = {
            precision: [rank1(precision, seed, store, Path(temporary), options) for seed in seeds]
            for precision in options.only or PRECISIONS
        }
    means = {precision: [run["mean"] for run in of_precision] for precision, of_precision in runs.items()}
    spread = {name: statistics.stdev(values) if len(values) > 1 else None for name, values in means.items()}
    report(
        "rank-1 after the same training in float32 and in mixed precision",
        iterations=options.iters, batch=[options.p, options.k, options.frame_num],
        unseen_walkers=options.subjects - options.train, runs=runs, spread=spread,
        mean={name: round(statistics.mean(values), 3) for name, values in means.items()},
    )  # fmt: skip


if __name__ == "__main__":
    main()
