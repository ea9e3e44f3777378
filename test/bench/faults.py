"""Count how often the chain survives interruptions, full disks, invalid files and concurrent jobs.

  python test/bench/faults.py                                all experiments, full counts (about an hour on one core)
  python test/bench/faults.py --small                        a few cases of each experiment
  python test/bench/faults.py --only fuzz --count 120000     one experiment
  python test/bench/faults.py --only stops --count 300 --seed 7

Experiments: network, fuzz, stops, launches, disks, failing_calls, races, ranks. They run on Linux only. `disks` needs
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

import fault_commands
import fault_workspace

COUNTS = {  # number of cases: full, and with --small
    "network": (1, 1), "fuzz": (120_000, 300), "stops": (240, 3), "launches": (21, 0), "disks": (160, 2),
    "failing_calls": (400, 3), "races": (80, 2), "ranks": (8, 2),
}  # fmt: skip


def experiments(workspace: Callable[[], fault_workspace.Workspace], seed: int) -> dict[str, Callable[[int], dict]]:
    import fault_disks
    import fault_fuzz
    import fault_interruptions
    import fault_launches
    import fault_watching

    return {
        "network": lambda count: fault_watching.network(workspace()),
        "fuzz": lambda count: fault_fuzz.fuzz(count, seed),
        "stops": lambda count: fault_interruptions.stops(workspace(), count, seed),
        "launches": lambda count: fault_launches.launches(workspace(), count, seed),
        "disks": lambda count: fault_disks.small_disks(workspace(), count, seed),
        "failing_calls": lambda count: fault_disks.failing_calls(workspace(), count, seed),
        "races": lambda count: fault_interruptions.races(workspace(), count, seed),
        "ranks": lambda count: fault_watching.ranks(workspace(), count),
    }


def number_of_cases(outcome: dict) -> int:
    return sum(cases.get("inputs", 0) if isinstance(cases, dict) else cases for cases in outcome["cases"].values())


def number_of_failures(outcome: dict) -> int:
    """Return the number of failed cases. The fuzz experiment lists only the first failures of each reader."""
    counted = [cases.get("failed", 0) for cases in outcome["cases"].values() if isinstance(cases, dict)]
    return max(sum(counted), len(outcome["failures"]))


def main() -> int:
    options = _options()
    start = time.perf_counter()
    fault_commands.preload()
    report: dict[str, dict] = {}
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        workspace = functools.cache(lambda: fault_workspace.prepare(Path(name, "chain")))
        for experiment, run in experiments(workspace, options.seed).items():
            count = options.count or COUNTS[experiment][options.small]
            if not count or (options.only and experiment not in options.only):
                continue
            print(f"== {experiment}", flush=True)
            begin = time.perf_counter()
            report[experiment] = run(count)
            report[experiment]["seconds"] = round(time.perf_counter() - begin, 1)
    print("experiment     cases    passed")
    failed = 0
    for experiment, outcome in report.items():
        cases, failures = number_of_cases(outcome), number_of_failures(outcome)
        failed += failures
        note = f"  ({outcome['note']})" if "note" in outcome else ""
        print(f"{experiment:<14} {cases:<8} {cases - failures}{note}")
    seconds = round(time.perf_counter() - start, 1)
    print(json.dumps({"seconds": seconds, "seed": options.seed, "failed": failed, "experiments": report}))
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(COUNTS), help="run this experiment (can be repeated)")
    parser.add_argument("--count", type=int, help="number of cases (default: 240 stops, 120,000 fuzz inputs, ...)")
    parser.add_argument("--small", action="store_true", help="run a few cases of each experiment")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choices (default: 0)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
