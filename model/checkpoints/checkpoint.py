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
import io
import logging
import platform
import re
import time
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.checkpoints.opengait import is_opengait, plain_state
from model.common.errors import UserError
from model.common.files import atomic_file, read_json, remove_leftovers, write_json

log = logging.getLogger(__name__)

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
        """Whether the record is there and sound, and the three files are those it tells of."""
        record = sound_record(self.record(iteration))
        return record is not None and all(
            _digest(self.part(iteration, name)) == record["files"].get(name) for name in PARTS
        )

    def last_complete(self, launch: str | None = None) -> int | None:
        """The complete set written last: several runs may share the folder, so it is not the highest number.

        launch: count only what processes of this launch wrote.
        """
        records = {i: sound_record(self.record(i)) for i in self.iterations()}
        written = {i: record["time"] for i, record in records.items()
                   if record and (launch is None or record.get("launch") == launch)}  # fmt: skip
        newest_first = sorted(written, key=written.__getitem__, reverse=True)
        return next((i for i in newest_first if self.is_complete(i)), None)

    def run_of(self, iteration: int) -> str | None:
        """Which run wrote a set; None for files without a record, as published ones are."""
        return (sound_record(self.record(iteration)) or {}).get("run")

    def save(self, iteration: int, parts: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Write a set; each file appears whole, the record last, all of them on the disk before this returns."""
        remove_leftovers(self.folder, f"{self.experiment}-", keep_running=True)
        digests = {}
        for name in PARTS:
            # By way of memory: to a file on a full disk torch reports no error of the system, but one of its own.
            content = io.BytesIO()
            torch.save(parts[name], content)
            digests[name] = hashlib.sha256(content.getbuffer()).hexdigest()
            with atomic_file(self.part(iteration, name), durable=True) as aside:
                aside.write_bytes(content.getbuffer())
        versions = {"torch": torch.__version__, "python": platform.python_version()}
        record = {"iteration": iteration, "time": time.time(), "files": digests, "versions": versions, **facts}
        write_json(self.record(iteration), record, durable=True, sealed=True)

    def remove(self, iteration: int) -> None:
        """Delete a set, the encoder first: what is left without it, `remove_orphans` knows for what it is."""
        encoder, *others = (self.part(iteration, name) for name in PARTS)
        for path in (encoder, self.record(iteration), *others):
            path.unlink(missing_ok=True)


def sound_record(path: Path) -> dict[str, Any] | None:
    """The record at `path`; None where there is none, or, with a warning, a damaged one."""
    if not path.exists():
        return None
    fault = f"{path}: no record of a checkpoint"
    try:
        record = read_json(path, sealed=True)
        if isinstance(record["files"], dict) and type(record["time"]) in (int, float) and record["time"] > 0:
            return record
    except (UserError, KeyError, TypeError) as error:
        fault = str(error) if isinstance(error, UserError) else fault
    log.warning("%s (the checkpoint counts as one without a record)", fault)
    return None


def _digest(path: Path) -> str | None:
    """None where the file is not there, or cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def load_tensors(path: Path) -> Any:
    """Unpickle tensors and plain values, on the CPU. Raises UserError for anything else."""
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint{_neighbours(path)}")
    try:
        _refuse_unsound(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that it will refuse
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: no checkpoint of tensors, or damaged ({reason})") from error


MOST_BYTES = 1 << 30  # of a checkpoint; the optimizer's has 21 MB at hidden_dim 256


def _refuse_unsound(path: Path) -> None:
    """Raises ValueError for a file that would take far more memory than room on the disk, and for damage that shows."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{size:,} bytes, at most {MOST_BYTES:,} are read")
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its parts are compressed, which torch does not do")
        # For such a part torch's reader fetches nothing, says so to nobody, and leaves what was in memory as weights.
        if any(member.external_attr & 0x10 or member.compress_size != member.file_size for member in members):
            raise ValueError("one of its parts is said to be a folder, or of two sizes")
        if sum(member.file_size for member in members) > size:
            raise ValueError("its parts overlap")
        wrong = archive.testzip()  # torch itself does not look at the checksums that it writes
    if wrong:
        raise ValueError(f"the checksum of {wrong} is wrong")


def _neighbours(path: Path) -> str:
    there = sorted(p.name for p in path.parent.glob("*-encoder.ptm")) if path.parent.is_dir() else []
    return f"; {path.parent} holds {', '.join(there[-3:])}" if there else f"; {path.parent} holds none"


def plain_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without the prefix that wrappers put before every key."""
    return {key.removeprefix(PREFIX): value for key, value in state.items()}


def load_encoder(network: nn.Module, path: Path) -> None:
    """Load published weights, OpenGait's or ours into `network`.

    Raises UserError that says which keys and shapes disagree, which weights are no numbers, or that a record beside
    the file tells of another.
    """
    state = load_tensors(path)
    _compare_with_record(path)
    if is_opengait(state):
        state = plain_state(state)
    if not isinstance(state, Mapping) or not all(isinstance(k, str) and _is_plain(v) for k, v in state.items()):
        raise UserError(f"{path}: no state dict of a network")
    if len(plain_keys(state)) < len(state):
        raise UserError(f"{path}: has weights both with and without the prefix {PREFIX}")
    state = plain_keys(state)
    wanted = network.state_dict()
    faults = [f"lacks {key}" for key in wanted if key not in state]
    faults += [f"has the foreign key {key}" for key in state if key not in wanted]
    for key in wanted.keys() & state.keys():
        if wanted[key].shape != state[key].shape:
            faults.append(f"{key} is {tuple(state[key].shape)}, the network's is {tuple(wanted[key].shape)}")
            if key.startswith("fc_bin") and state[key].ndim:
                faults.append(f"so hidden_dim of the config must be {state[key].shape[-1]}")
    if faults:
        raise UserError(f"{path}: does not fit the network: {'; '.join(faults[:4])} ({len(faults)} faults)")
    bad = [key for key, value in state.items() if not value.isfinite().all()]
    if bad:
        raise UserError(f"{path}: {len(bad)} of {len(state)} weights hold values that are no finite numbers ({bad[0]})")
    network.load_state_dict(state)


def _compare_with_record(path: Path) -> None:
    record = record_beside(path)
    if record is not None and record["files"].get("encoder") != _digest(path):
        told = path.name.replace("-encoder.ptm", ".json")
        raise UserError(f"{path}: is not what {told} tells of: damaged, or of another run (to use it, rename it)")


def record_beside(encoder: Path) -> dict[str, Any] | None:
    """The record of the checkpoint that the encoder is of; None where there is none."""
    stem, suffix, _ = encoder.name.rpartition("-encoder.ptm")
    return sound_record(encoder.with_name(f"{stem}.json")) if suffix else None


def _is_plain(value: Any) -> bool:
    """Whether it is an ordinary tensor of floating point numbers, and as large as it says."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.is_floating_point()
        and value.untyped_storage().nbytes() >= value.numel() * value.element_size()
    )


def load_optimizer(optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Load the state of a published optimizer or ours. How a step is computed stays what `optimizer` was made for.

    Raises UserError when it does not fit, or holds values that are no finite numbers.
    """
    state = load_tensors(path)
    own = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    try:
        groups = [{**group, "params": saved["params"]} for group, saved in zip(own, state["param_groups"], strict=True)]
        optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        fault = next(filter(None, (_fault_of_state(w, optimizer.state[w]) for w in weights if optimizer.state)), None)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, IndexError) as error:
        raise UserError(f"{path}: does not fit the optimizer ({error})") from error
    if fault:
        raise UserError(f"{path}: does not fit the optimizer ({fault})")


def _fault_of_state(weight: Tensor, state: Mapping[str, Any]) -> str | None:
    """What is wrong with Adam's state of one weight."""
    for name in ("exp_avg", "exp_avg_sq"):
        mean = state[name]
        if not _is_plain(mean.cpu()) or mean.shape != weight.shape:
            return f"{name} is {tuple(mean.shape)}, its weight {tuple(weight.shape)}"
        if not mean.isfinite().all() or (name == "exp_avg_sq" and (mean < 0).any()):
            return f"{name} of a weight {tuple(weight.shape)} holds values that cannot be"
    if not 0 <= float(state["step"]) < 2**53:
        return f"step is {state['step']}"
    return None
