"""Stops, full disks, bad input, attacks and races, counted: how many were tried, how many survived.

  python test/bench/faults.py                                all experiments, at full count (about an hour on one core)
  python test/bench/faults.py --small                        a few of each, for a quick look
  python test/bench/faults.py --only fuzz --count 120000     one of them
  python test/bench/faults.py --only stops --count 300 --seed 7

Experiments: payloads, injections, network, fuzz, stops, launches, disks, refusals, races, ranks. Linux only. Small
disks need the right to mount. The last line is JSON; the exit status is 1 when something did not survive.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import fault_bench
import fault_chain

COUNTS = {  # at full count, and small
    "payloads": (1, 1), "injections": (1.0, 0.05), "network": (1, 1), "fuzz": (120_000, 300), "stops": (240, 4),
    "launches": (21, 0), "disks": (160, 3), "refusals": (400, 4), "races": (80, 3), "ranks": (8, 2),
}  # fmt: skip


def experiments(bench: Callable[[], fault_bench.Bench], seed: int) -> dict[str, Callable[[float], dict]]:
    import fault_attack
    import fault_disk
    import fault_fuzz
    import fault_launch
    import fault_races
    import fault_stops

    return {
        "payloads": lambda count: fault_attack.payloads(tell),
        "injections": lambda count: fault_attack.injections(count, tell),
        "network": lambda count: fault_attack.network(bench(), tell),
        "fuzz": lambda count: fault_fuzz.fuzz(int(count), seed, tell),
        "stops": lambda count: fault_stops.stops(bench(), int(count), seed, tell),
        "launches": lambda count: fault_launch.launches(bench(), int(count), seed, tell),
        "disks": lambda count: fault_disk.small_disks(bench(), int(count), seed, tell),
        "refusals": lambda count: fault_disk.refusals(bench(), int(count), seed, tell),
        "races": lambda count: fault_races.races(bench(), int(count), seed, tell),
        "ranks": lambda count: fault_races.ranks(bench(), int(count), seed, tell),
    }


def tell(line: str) -> None:
    print(line, flush=True)


def tried_of(outcome: dict) -> int:
    return sum(one["inputs"] if isinstance(one, dict) else one for one in outcome["tried"].values())


def lost_of(outcome: dict) -> int:
    """How many did not survive: of fuzz, each reader tells of its first few only."""
    counted = [one.get("failed", 0) for one in outcome["tried"].values() if isinstance(one, dict)]
    return max(sum(counted), len(outcome["failures"]))


def main() -> int:
    options = _options()
    begun = time.perf_counter()
    fault_chain.preload()
    report: dict[str, dict] = {}
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        made: list[fault_bench.Bench] = []

        def bench() -> fault_bench.Bench:
            if not made:
                made.append(fault_bench.prepare(Path(name, "chain")))
            return made[0]

        for experiment, run in experiments(bench, options.seed).items():
            if options.only and experiment not in options.only:
                continue
            count = options.count or COUNTS[experiment][options.small]
            if not count:
                continue
            tell(f"== {experiment}")
            begin = time.perf_counter()
            report[experiment] = run(count)
            report[experiment]["seconds"] = round(time.perf_counter() - begin, 1)
    tell("experiment   tried    survived")
    failed = 0
    for experiment, outcome in report.items():
        tried, lost = tried_of(outcome), lost_of(outcome)
        failed += lost
        tell(f"{experiment:<12} {tried:<8} {tried - lost}" + (f"  ({outcome['note']})" if "note" in outcome else ""))
    seconds = round(time.perf_counter() - begun, 1)
    print(json.dumps({"seconds": seconds, "seed": options.seed, "failed": failed, "experiments": report}))
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(COUNTS), help="this experiment (may be given again)")
    parser.add_argument("--count", type=float, help="how many (of injections: which share of the values)")
    parser.add_argument("--small", action="store_true", help="a few of each")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
