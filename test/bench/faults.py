"""Count how often the commands of the chain survive interruptions, full disks, invalid files and concurrent jobs.

  python test/bench/faults.py                                all experiments, full counts (about an hour on one core)
  python test/bench/faults.py --small                        a few cases of each experiment
  python test/bench/faults.py --only fuzz --count 120000     one experiment
  python test/bench/faults.py --only stops --count 300 --seed 7

The chain is the sequence of commands from raw silhouettes to the report of a deployed model. The experiments are
network, fuzz, stops, launches, disks, failing_calls, races and ranks. They run on Linux only, and `disks` needs
permission to mount. The last line is JSON. The exit status is 1 if any case failed. Malicious pickles and option values
are tested in test/unit/data/test_array_pickle.py and test/unit/test_injection.py.
"""

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import fault_attacks
import fault_commands
import fault_fuzz
import fault_watching
import fault_workspace

# The function of each experiment, the number of its cases, and the number of cases with --small.
EXPERIMENTS: dict[str, tuple[Callable[..., dict], int, int]] = {
    "network": (fault_watching.network, 1, 1),
    "fuzz": (fault_fuzz.fuzz, 120_000, 300),
    "stops": (fault_attacks.stops, 240, 3),
    "launches": (fault_attacks.launches, 22, 0),
    "disks": (fault_attacks.small_disks, 160, 2),
    "failing_calls": (fault_attacks.failing_calls, 400, 3),
    "races": (fault_attacks.races, 80, 2),
    "ranks": (fault_watching.ranks, 8, 2),
}


def main() -> int:
    options = _options()
    start = time.perf_counter()
    fault_commands.preload()
    report: dict[str, dict] = {}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        workspace = functools.cache(lambda: fault_workspace.prepare(Path(folder, "chain")))
        for name, (run, *counts) in EXPERIMENTS.items():
            count = options.count or counts[options.small]
            if not count or (options.only and name not in options.only):
                continue
            print(f"== {name}", flush=True)
            begin = time.perf_counter()
            report[name] = run(*([] if name == "fuzz" else [workspace()]), count, options.seed)
            report[name]["seconds"] = round(time.perf_counter() - begin, 1)
    print("experiment     cases    passed")
    failed = 0
    for name, outcome in report.items():
        cases, failures = sum(outcome["cases"].values()), outcome.get("failed", len(outcome["failures"]))
        failed += failures
        note = f"  ({outcome['note']})" if "note" in outcome else ""
        print(f"{name:<14} {cases:<8} {cases - failures}{note}")
    seconds = round(time.perf_counter() - start, 1)
    print(json.dumps({"seconds": seconds, "seed": options.seed, "failed": failed, "experiments": report}))
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=EXPERIMENTS, help="run this experiment (can be repeated)")
    parser.add_argument("--count", type=int, help="number of cases (default: a number per experiment, such as "
                        "240 stops)")  # fmt: skip
    parser.add_argument("--small", action="store_true", help="run a few cases of each experiment")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choices (default: 0)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
