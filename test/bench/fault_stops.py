"""SIGKILL, SIGTERM and Ctrl-C at random moments of every command: nothing that claims to be whole is not, the same
command goes on, and the end is that of a run that was never stopped, byte for byte."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from fault_bench import Bench, contents, leftovers, spread
from fault_chain import COMMANDS, Command, start

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# How often each is stopped, of a hundred.
SHARES = {
    "pretreatment": 15, "store": 10, "training": 20, "training, 2 processes": 15, "export": 8, "bins": 8,
    "inference": 8, "report": 7, "test": 6, "embed": 3,
}  # fmt: skip
REPLACES = ("export", "bins", "inference", "report", "test", "embed")  # what stood there before is written anew
# With the first of a pair there, all of the second must be.
PROMISES = {"bins.info": "bins.json", "bins.json": "bins/", "result/dumpOutput_device0_record.json": "result/dump"}


def stops(bench: Bench, count: int, seed: int, tell: Callable[[str], None]) -> dict:
    """Stop commands `count` times in all. Returns how often, by command, and what did not survive."""
    draw = random.Random(seed)
    tried: dict[str, int] = {}
    failures: list[str] = []
    for name, number in spread(list(SHARES), count, draw, list(SHARES.values())).items():
        for _ in range(number):
            failure = stop_once(bench, COMMANDS[name], draw)
            tried[name] = tried.get(name, 0) + 1
            if failure:
                failures.append(f"{name}: {failure}")
                tell(failures[-1])
        tell(f"{name}: stopped {number} times")
    return {"tried": tried, "failures": failures}


def stop_once(bench: Bench, one: Command, draw: random.Random) -> str | None:
    """One stop and what comes of it; None when all is as it should be."""
    before = one.name in REPLACES and draw.random() < 0.5
    folder = bench.fresh(one, keep=before)
    number, which = draw.choice(SIGNALS), draw.randrange(one.processes)
    everybody = number == signal.SIGINT or (one.processes > 1 and draw.random() < 0.5)
    moment = draw.uniform(0, 1.02) * bench.seconds[one.name]
    job = start(one, folder)
    time.sleep(moment)
    job.signal(number, everybody, which)
    statuses = job.wait()
    told = f"{signal.Signals(number).name} to {'all' if everybody else which} after {moment:.3f} s"
    fault = (
        _fault_of_end(one, job.said(), statuses, number)
        or _fault_of_files(bench, one, folder, before)
        or _fault_of_going_on(bench, one, folder)
    )
    return f"{told}: {fault}" if fault else None


def _fault_of_end(one: Command, said: str, statuses: list[int], number: int) -> str | None:
    if number == signal.SIGKILL or one.processes > 1:
        return None  # nobody was left to say anything; the other process lost its partner
    if "Traceback" in said:
        return f"a traceback: {said[-600:]}"
    early = -number  # before the command had begun to listen
    return None if statuses[0] in (0, 128 + number, early) else f"status {statuses[0]}: {said[-300:]}"


def _fault_of_files(bench: Bench, one: Command, folder: Path, before: bool) -> str | None:
    found, wanted = contents(folder, one), bench.undisturbed[one.name]
    for name, digest in found.items():
        if name.endswith(".jsonl") or "/checkpoint/" in name:
            continue  # grows; checkpoints of earlier iterations are looked at by what comes of them
        if wanted.get(name) != digest:
            return f"{name} is not whole"
    for name, needed in PROMISES.items():
        if name in found and {n for n in wanted if n.startswith(needed)} - found.keys():
            return f"{name} promises {needed} and does not keep it"
    if before and one.name != "bins" and wanted.keys() - found.keys():  # bins lose list and manifest for a moment
        return f"lost {sorted(wanted.keys() - found.keys())[:3]}"
    return None


def _fault_of_going_on(bench: Bench, one: Command, folder: Path) -> str | None:
    job = start(one, folder)
    statuses = job.wait()
    if set(statuses) != {0}:
        return f"the same command ended with {statuses}: {job.said()[-600:]}"
    found, wanted = contents(folder, one), bench.undisturbed[one.name]
    if found != wanted:
        return f"another end: {sorted(n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n))[:4]}"
    left = leftovers(folder, one)
    return f"left behind: {left[:4]}" if left else None
