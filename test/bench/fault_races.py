"""Two jobs on one output: the second is told whose it is, and the first ends as if it had been alone; ranks of one job
never write the same file."""

from __future__ import annotations

import random
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fault_bench import Bench, contents, leftovers, spread
from fault_chain import COMMANDS, Command, start

TOLD = "another job is writing there, process"
# The lock of each is its second's first obstacle; commands that write single files may run side by side.
LOCKED = ("pretreatment", "training", "bins", "inference")
SIDE_BY_SIDE = ("store", "export", "report", "test", "embed")


def races(bench: Bench, count: int, seed: int, tell: Callable[[str], None]) -> dict:
    """Pairs of the same command, the second at a random moment of the first."""
    draw = random.Random(seed)
    tried: dict[str, int] = {}
    failures: list[str] = []
    for name, number in spread((*LOCKED, *SIDE_BY_SIDE), count, draw).items():
        for _ in range(number):
            failure = _race(bench, COMMANDS[name], draw)
            tried[name] = tried.get(name, 0) + 1
            if failure:
                failures.append(f"{name}: {failure}")
                tell(failures[-1])
        tell(f"{name}: {tried[name]} pairs")
    return {"tried": tried, "failures": failures}


def _race(bench: Bench, one: Command, draw: random.Random) -> str | None:
    folder = bench.fresh(one)
    first = start(one, folder)
    time.sleep(draw.uniform(0, 0.9) * bench.seconds[one.name])
    second = start(one, folder, fresh_log=False)
    statuses = first.wait() + second.wait()
    said = second.said()
    if "Traceback" in said:
        return f"a traceback: {said[-600:]}"
    told = said.count(TOLD)
    if one.name in LOCKED and sorted(statuses) == [0, 1]:
        if told != 1:
            return f"not told whose it is: {said[-300:]}"
    elif statuses != [0, 0]:
        return f"ended with {statuses}: {said[-300:]}"
    if contents(folder, one) != bench.undisturbed[one.name]:
        return "another end"
    left = leftovers(folder, one)
    return f"left behind: {left[:4]}" if left else None


def ranks(bench: Bench, count: int, seed: int, tell: Callable[[str], None]) -> dict:
    """One training and one test by `count` processes; every file that any of them opens to write, makes, renames or
    deletes is noted. Only the first may write what all share."""
    folder = bench.fresh(COMMANDS["training"])
    for made in ("work/results", "tested.json"):
        shutil.rmtree(folder / made, ignore_errors=True)
    notes = bench.trial.parent / "notes"
    failures: list[str] = []
    tried = {}
    for name in ("training", "test"):
        shutil.rmtree(notes, ignore_errors=True)
        notes.mkdir()
        one = COMMANDS[name]
        many = Command(name, one.script, one.arguments, one.makes, processes=count)
        job = start(many, folder, lambda: _note_writes(bench.trial, notes))
        if set(job.wait(300)) != {0}:
            failures.append(f"{name}: {job.said()[-600:]}")
        written = {note.name: set(note.read_text().splitlines()) for note in notes.iterdir()}
        tried[f"{name} by {count}"] = sum(len(paths) for paths in written.values())
        by_others = sorted(path for rank, paths in written.items() if rank != "0" for path in paths)
        if by_others:
            failures.append(f"{name}: ranks above 0 wrote {by_others[:5]}")
        tell(f"{name} by {count} processes: {tried[f'{name} by {count}']} changes of files, all by the first"
             if not by_others else failures[-1])  # fmt: skip
    return {"tried": tried, "failures": failures}


def _note_writes(root: Path, notes: Path) -> None:
    import os

    note = (notes / os.environ["RANK"]).open("a", buffering=1)

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, mode, flags = arguments
            if not (isinstance(mode, str) and re.search("[wax+]", mode)) and not (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            ):
                return
        elif event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link"):
            path = arguments[0]
        else:
            return
        if isinstance(path, str | bytes) and str(Path.cwd() / os.fsdecode(path)).startswith(f"{root}/"):
            note.write(f"{os.fsdecode(path)}\n")

    sys.addaudithook(hook)
