"""Checkpoints: the two published files, what exact resuming needs beside them, and a record that makes them one.

    <experiment>-<iteration>-encoder.ptm      state dict of the network, with the published keys
    <experiment>-<iteration>-optimizer.ptm    state dict of the optimizer
    <experiment>-<iteration>-state.ptm        random states and gradient scaler
    <experiment>-<iteration>.json             written last: digests of the three, config, versions, results

A set is complete when its record is there and the digests agree; a run that was killed while writing leaves
the set before it as the last. Only tensors and plain values are ever unpickled.
"""

from __future__ import annotations

import glob
import hashlib
import pickle
import platform
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.errors import UserError
from model.files import read_json, remove_leftovers, whole_file, write_json
from model.opengait_weights import is_opengait, plain_state

PARTS = ("encoder", "optimizer", "state")
PREFIX = "module."  # of networks that DataParallel or DistributedDataParallel wrapped


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of one experiment in one folder."""

    folder: Path
    experiment: str

    def part(self, iteration: int, name: str) -> Path:
        return self.folder / f"{self.experiment}-{iteration:05d}-{name}.ptm"

    def record(self, iteration: int) -> Path:
        return self.folder / f"{self.experiment}-{iteration:05d}.json"

    def iterations(self) -> list[int]:
        """Iterations that have an encoder, ascending."""
        pattern = re.compile(re.escape(self.experiment) + r"-(\d{5,})-encoder\.ptm")
        matches = (pattern.fullmatch(path.name) for path in self.folder.glob(f"{glob.escape(self.experiment)}-*"))
        return sorted(int(match[1]) for match in matches if match)

    def is_complete(self, iteration: int) -> bool:
        record = self.record(iteration)
        if not record.exists():
            return False
        digests = read_json(record)["files"]
        paths = {name: self.part(iteration, name) for name in PARTS}
        return all(path.exists() and _digest(path) == digests.get(name) for name, path in paths.items())

    def last_complete(self) -> int | None:
        """The complete set written last: several runs may share the folder, so it is not the highest number."""
        written = {i: read_json(self.record(i))["time"] for i in self.iterations() if self.is_complete(i)}
        return max(written, key=written.__getitem__, default=None)

    def run_of(self, iteration: int) -> str | None:
        """Which run wrote a set; None for files without a record, as published ones are."""
        record = self.record(iteration)
        return read_json(record).get("run") if record.exists() else None

    def save(self, iteration: int, parts: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Write a set; each file appears whole, the record last, all of them on the disk before this returns."""
        remove_leftovers(self.folder, f"{self.experiment}-", spare_living=True)
        digests = {}
        for name in PARTS:
            path = self.part(iteration, name)
            with whole_file(path, durable=True) as aside:
                torch.save(parts[name], aside)
                digests[name] = _digest(aside)
        versions = {"torch": torch.__version__, "python": platform.python_version()}
        record = {"iteration": iteration, "time": time.time(), "files": digests, "versions": versions, **facts}
        write_json(self.record(iteration), record, durable=True)

    def remove(self, iteration: int) -> None:
        """Delete a set, the record first: without it the others are no complete set."""
        for path in (self.record(iteration), *(self.part(iteration, name) for name in PARTS)):
            path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_tensors(path: Path) -> Any:
    """Unpickle tensors and plain values, on the CPU. Raises UserError for anything else."""
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint{_neighbours(path)}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: no checkpoint of tensors, or damaged ({reason})") from error


def _neighbours(path: Path) -> str:
    there = sorted(p.name for p in path.parent.glob("*-encoder.ptm")) if path.parent.is_dir() else []
    return f"; {path.parent} holds {', '.join(there[-3:])}" if there else f"; {path.parent} holds none"


def plain_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without the prefix that wrappers put before every key."""
    return {key.removeprefix(PREFIX): value for key, value in state.items()}


def load_encoder(network: nn.Module, path: Path) -> None:
    """Load published weights, OpenGait's or ours into `network`.

    Raises UserError that says which keys and shapes disagree.
    """
    state = load_tensors(path)
    if is_opengait(state):
        state = plain_state(state)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: no state dict of a network")
    state = plain_keys(state)
    wanted = network.state_dict()
    faults = [f"lacks {key}" for key in wanted if key not in state]
    faults += [f"has the foreign key {key}" for key in state if key not in wanted]
    for key in wanted.keys() & state.keys():
        if wanted[key].shape != state[key].shape:
            faults.append(f"{key} is {tuple(state[key].shape)}, the network's is {tuple(wanted[key].shape)}")
            if key.startswith("fc_bin"):
                faults.append(f"so hidden_dim of the config must be {state[key].shape[-1]}")
    if faults:
        raise UserError(f"{path}: does not fit the network: {'; '.join(faults[:4])} ({len(faults)} faults)")
    network.load_state_dict(state)


def load_optimizer(optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Load a published optimizer or ours. How a step is computed stays what `optimizer` was made for.

    Raises UserError when it does not fit.
    """
    state = load_tensors(path)
    computed = [{key: group.get(key) for key in ("foreach", "fused", "capturable")} for group in optimizer.param_groups]
    try:
        state["param_groups"] = [group | own for group, own in zip(state["param_groups"], computed, strict=True)]
        optimizer.load_state_dict(state)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: does not fit the optimizer ({error})") from error
