"""Measure iterations per second of `train.py`, including sampling, reading, logging and checkpoints.

  python test/bench/training.py --device cuda                        batch of the full recipe, 8×16×30, five settings
  python test/bench/training.py --device cuda --only fused --iters 20000 --log_iter 1000
  python test/bench/training.py --device cpu --p 2 --k 2 --frame_num 4 --iters 3 --subjects 4 --frames 5 --only float32
                                                                     a short run

Sequences have 80 frames on average, as in CASIA-B. The settings are float32 (without TF32), tf32, autocast (--amp torch
--kernels plain), fused (--amp torch) and streamed (like fused, but with frames from the memory map instead of the
device). The last line is JSON.
"""

import argparse
import tempfile
from pathlib import Path

from made_store import make_store
from measuring import parser_of, report, train

SETTINGS = {
    "float32": ["--amp", "off"],
    "tf32": ["--amp", "off"],
    "autocast": ["--amp", "torch", "--kernels", "plain"],
    "fused": ["--amp", "torch"],
    "streamed": ["--amp", "torch", "--cache", "False"],
}
ITERATION_DIVISORS = {"float32": 10, "tf32": 4, "autocast": 4}  # slow settings run fewer iterations


def measure(setting: str, options: argparse.Namespace, folder: Path) -> dict:
    iters = max(1, options.iters // ITERATION_DIVISORS.get(setting, 1))
    lengths = ["--iters", iters, "--log_iter", options.log_iter, "--save_iter", options.save_iter]
    environment = {"ALLOW_TF32": "1"} if setting == "tf32" else {}
    summary = train(folder / "store", folder / setting, options, *lengths, *SETTINGS[setting], **environment)
    return {key: summary[key] for key in ("iterations", "seconds", "iterations_per_second", "device")}


def main() -> None:
    parser = parser_of(
        __doc__, device="auto", p=8, k=16, frame_num=30, iters=2000, log_iter=100, save_iter=1000, subjects=30
    )
    parser.add_argument("--frames", type=int, default=80, help="mean number of frames per sequence")
    parser.add_argument("--sequences", type=int, help="number of sequences (default: all takes and views)")
    parser.add_argument("--only", choices=SETTINGS, action="append", help="run only this setting (can be repeated)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gaitset-bench-") as folder:
        data = make_store(Path(folder, "store"), "CASIA-B", options.subjects, options.frames, options.sequences)
        results = {name: measure(name, options, Path(folder)) for name in options.only or SETTINGS}
    [device] = {result.pop("device") for result in results.values()}
    batch = [options.p, options.k, options.frame_num]
    report("iterations per second of train.py", batch=batch, data=data, device=device, **results)


if __name__ == "__main__":
    main()
