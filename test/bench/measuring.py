"""Functions that the benchmarks share. Importing this module makes the packages of the repository and the helper
modules of the tests importable."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test" / "unit" / "support")]


def parser_of(description: str, **defaults) -> argparse.ArgumentParser:
    """Return a parser with an option for each default, of the default's type."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"(default: {default})")
    return parser


def run_python(*arguments, **environment: str) -> None:
    """Run the interpreter in the root folder. Its output goes to stderr, because stdout ends with JSON."""
    command = [sys.executable, *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=ROOT, env=os.environ | environment)


def train(store: Path, work: Path, options: argparse.Namespace, *more, launcher: Sequence = (), **environment) -> dict:
    """Train on a store with train.py, with the batch and the device of `options`. Returns the summary of train.py."""
    summary = work / "train.json"
    work.mkdir(exist_ok=True)
    run_python(
        *launcher, "train.py", "--device", options.device, "--data_path", store, "--dataset", "CASIA-B", "--pid_num",
        options.subjects, "--work_path", work, "--batch_size_p", options.p, "--batch_size_m", options.k, "--frame_num",
        options.frame_num, "--json", summary, "--quiet", *more, **environment,
    )  # fmt: skip
    return json.loads(summary.read_text(encoding="utf-8"))


def median_seconds(works: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median seconds of each function. They run in turn, so that other load affects all of them."""
    measured: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, times in zip(works, measured, strict=True):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in measured]


def report(what: str, **figures) -> None:
    """Print the result, the last line of every benchmark."""
    print(json.dumps({"what": what, **figures}))
