"""Tiny data for the chain, a folder in which its commands are tried again and again, and what is in it afterwards."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fault_chain import COMMANDS, RECIPE, Command, start


@dataclass(frozen=True)
class Bench:
    """`whole`: a folder with everything that the commands read and make; `trial`: where they are run, always the same,
    because the name of a store tells where its tree is. undisturbed: contents by command."""

    whole: Path
    trial: Path
    undisturbed: dict[str, dict[str, str]]
    seconds: dict[str, float]

    def fresh(self, one: Command, keep: bool = False) -> Path:
        """The trial's folder with what a command reads; with `keep` also what an earlier run of it has made."""
        shutil.rmtree(self.trial, ignore_errors=True)
        shutil.copytree(self.whole, self.trial, symlinks=True)
        for made in () if keep else one.makes:
            path = self.trial / made
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return self.trial


def prepare(folder: Path) -> Bench:
    from walkers import write_aligned_tree

    trial, whole = folder / "trial", folder / "whole"
    trial.mkdir(parents=True)
    (trial / "recipe.py").write_text(RECIPE)
    write_aligned_tree(trial / "aligned", subjects=4, frames=4)
    _write_raw_tree(trial / "raw")
    bench = Bench(whole, trial, {}, {})
    for one in COMMANDS.values():
        if one.processes == 1:
            _note(bench, one)
    shutil.copytree(trial, whole)
    for one in COMMANDS.values():
        if one.processes > 1:
            bench.fresh(one)
            _note(bench, one)
    return bench


def _note(bench: Bench, one: Command) -> None:
    """Run a command undisturbed, and note what it makes and how long it takes."""
    begin = time.perf_counter()
    job = start(one, bench.trial)
    assert set(job.wait()) == {0}, (one.name, job.said())
    bench.seconds[one.name] = time.perf_counter() - begin
    bench.undisturbed[one.name] = contents(bench.trial, one)


def _write_raw_tree(root: Path) -> None:
    import cv2
    import numpy as np

    for number in range(24):
        folder = root / f"{number // 4 + 1:03d}" / f"nm-0{number % 2 + 1}" / f"{number // 2 % 2 * 90:03d}"
        folder.mkdir(parents=True)
        for frame in range(12):
            image = np.zeros((120, 160), np.uint8)
            cv2.ellipse(image, (70 + frame, 60), (12 + number % 5, 50), 0, 0, 360, 255, -1)
            (folder / f"f-{frame:03d}.png").write_bytes(cv2.imencode(".png", image)[1])


def spread(
    names: Sequence[str], count: int, draw: random.Random, shares: Sequence[float] | None = None
) -> dict[str, int]:
    """`count` tries over the commands, evenly or by their shares; with fewer tries than commands some get none."""
    weights = shares or [1] * len(names)
    numbers = {name: int(count * weight / sum(weights)) for name, weight in zip(names, weights, strict=True)}
    for name in draw.sample(list(names), k=min(len(names), count - sum(numbers.values()))):
        numbers[name] += 1
    return {name: number for name, number in numbers.items() if number}


VOLATILE = re.compile(r"(^|/)(events\.out\.tfevents|pretreatment\.log|perf_vision|train-\d)")
LEFTOVER = re.compile(r"(^|/)\.[^/]*\.(part|old|lock)(/|$)")


def contents(folder: Path, one: Command) -> dict[str, str]:
    """Name and digest of each file that a command has made, what differs from run to run left out of account."""
    found = {}
    for made in one.makes:
        path = folder / made
        for file in sorted(path.rglob("*")) if path.is_dir() else [path] if path.exists() else []:
            name = file.relative_to(folder).as_posix()
            if file.is_file() and not VOLATILE.search(name) and not LEFTOVER.search(name):
                found[name] = hashlib.sha256(_lasting(file)).hexdigest()
    return found


def leftovers(folder: Path, one: Command) -> list[str]:
    """What a stopped run has left behind under hidden names, beside and below what it makes."""
    places = {(folder / made).parent for made in one.makes} | {folder / made for made in one.makes}
    names = {file.relative_to(folder).as_posix() for place in places if place.is_dir() for file in place.rglob(".*")}
    return sorted(name for name in names if LEFTOVER.search(name))


def _lasting(file: Path) -> bytes:
    """The content without times, speeds and random names."""
    content = file.read_bytes()
    if file.suffix == ".jsonl":
        points = [json.loads(line) for line in content.splitlines() if line.endswith(b"}")]
        return json.dumps([{k: v for k, v in p.items() if k != "iterations_per_second"} for p in points]).encode()
    if file.suffix == ".json" and "store" not in file.parts:
        value = json.loads(content)
        for key in ("time", "run", "launch", "details", "seconds", "sha256_of_the_rest"):
            value.pop(key, None)
        return json.dumps(value, sort_keys=True).encode()
    if file.suffix == ".html":
        assert content.endswith(b"</html>\n"), file
        return b"whole page"
    if file.suffix == ".nc":
        import xarray

        with xarray.open_dataset(file, engine="netcdf4") as dataset:
            return dataset["accuracy" if "accuracy" in dataset else "embeddings"].values.tobytes()
    return content
