"""Configurations: plain dicts in Python files, checked key by key, with defaults for what they leave out."""

from __future__ import annotations

import copy
import difflib
import math
import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from model.common.errors import NO_TEXT, UsageError
from model.common.files import is_plain_name
from model.evaluation.protocols import canonical_name

NAMES = ("conf_1p", "conf_8p", "conf")  # what a config file may call its dict


@dataclass(frozen=True)
class DataConfig:
    dataset_path: str = ""  # aligned tree or store
    resolution: str = "64"
    dataset: str = "CASIA-B"  # picks the protocol and names the checkpoints
    pid_num: int = 73  # training subjects
    pid_shuffle: bool = False


@dataclass(frozen=True)
class ModelConfig:
    hidden_dim: int = 256
    lr: float = 1e-4
    hard_or_full_trip: str = "full"
    batch_size: tuple[int, int] = (8, 16)  # P subjects × K sequences, per process
    restore_iter: int = 0  # 0: from the start; -1: from the last checkpoint; -2: from that, if there is one
    total_iter: int = 80000
    margin: float = 0.2
    num_workers: int = 3  # threads that read ahead
    frame_num: int = 30
    augment: bool = False  # flip, turn, stretch and erase sequences; not in the published recipe
    model_name: str = "GaitSet"
    save_iter: int = 1000
    log_iter: int = 100
    eval_iter: int = 0  # 0: no evaluation while training
    keep: int = 0  # checkpoints kept beside the last and the best
    amp: str = "off"
    amp_dtype: str = ""  # empty: the device's own
    loss_scale: str = "dynamic"  # or a number
    kernels: str = "auto"  # plain: torch's own everywhere; auto: the project's where they run
    seed: int = 0


@dataclass(frozen=True)
class Config:
    work_path: Path = Path("work")
    visible_devices: Mapping[str, str] = field(default_factory=dict)  # by config key
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)

    @property
    def experiment(self) -> str:
        """The name that spells the experiment, as checkpoints of the original bear it."""
        d, m = self.data, self.model
        p, k = m.batch_size
        parts = (m.model_name, d.dataset, d.pid_num, d.pid_shuffle, m.hidden_dim, m.margin, p * k)
        return "_".join(map(str, (*parts, m.hard_or_full_trip, m.frame_num)))

    @property
    def checkpoint_folder(self) -> Path:
        return self.work_path / "checkpoint" / self.model.model_name


_KEYS = {"work_path", *(f.name for kind in (DataConfig, ModelConfig) for f in fields(kind))} - {"batch_size"}
_DEVICE_KEYS = ("CUDA_VISIBLE_DEVICES", "ASCEND_VISIBLE_DEVICES")
_CHOICES = {
    "hard_or_full_trip": ("full", "hard"),
    "amp": ("off", "torch", "apex"),
    "amp_dtype": ("", "fp16", "bf16"),
    "kernels": ("auto", "plain"),
}
_MOST = 1 << 40  # of any other whole number
_AT_MOST = {"hidden_dim": 1 << 16, "frame_num": 1 << 16, "num_workers": 1 << 10}
_MOST_SEQUENCES = 1 << 16  # P, and K
_AT_LEAST = {"restore_iter": -2, "num_workers": 0, "eval_iter": 0, "keep": 0, "seed": 0, "pid_num": 0}


def load_config(path: Path | str, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a config file and lay `overrides` (keys of `data` and `model`, None: not given) over it.

    Relative paths in the file are relative to the file. Raises UsageError naming the key for an unknown
    key, a value of the wrong type and a value out of range.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"--config {path}: no such file")
    try:
        content = runpy.run_path(str(path))
    except (Exception, SystemExit) as error:  # it is a program of the user and can fail, or end, in any way
        raise UsageError(f"--config {path}: is no Python file that runs ({type(error).__name__}: {error})") from error
    found = [name for name in NAMES if isinstance(content.get(name), dict)]
    if not found:
        raise UsageError(f"--config {path}: defines none of {', '.join(NAMES)}")
    own = found if len(found) == 1 else [name for name in found if name.removeprefix("conf_") in path.stem] or found
    return build_config(copy.deepcopy(content[own[0]]), path.resolve().parent, overrides, str(path))


def overrides_of(options: Any) -> dict[str, Any]:
    """The values given on a command line, as keys of the config; options that are no keys are left out."""
    given = {key: value for key, value in vars(options).items() if key in _KEYS and value is not None}
    for option, key in (("data_path", "dataset_path"), ("iters", "total_iter")):
        if getattr(options, option, None) is not None:
            given[key] = getattr(options, option)
    p, k = (getattr(options, name, None) for name in ("batch_size_p", "batch_size_m"))
    if p or k:
        given["batch_size"] = (p, k)
    return given


def build_config(
    content: dict, folder: Path, overrides: Mapping[str, Any] | None = None, where: str = "config"
) -> Config:
    """The checked configuration of a dict; see `load_config`."""
    _refuse_unknown(content, ("WORK_PATH", *_DEVICE_KEYS, "data", "model"), where)
    work_path = folder / _text("WORK_PATH", content.get("WORK_PATH", "work"), where)
    parts = {}
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    for part, kind in (("data", DataConfig), ("model", ModelConfig)):
        if not isinstance(content.get(part, {}), dict):
            raise UsageError(f"{where}: {part} must be a dict, not {_short(content[part])}")
        values = dict(content.get(part, {}))
        names = {f.name for f in fields(kind)}
        _refuse_unknown(values, names, f"{where}, {part}")
        if part == "data" and values.get("dataset_path"):
            values["dataset_path"] = str(folder / _text("dataset_path", values["dataset_path"], where))
        if "batch_size" in names & given.keys():  # P or K alone may be given
            standard = _checked("batch_size", values.get("batch_size", kind.batch_size), kind.batch_size, where)
            given["batch_size"] = tuple(new or old for new, old in zip(given["batch_size"], standard, strict=True))
        values |= {key: given.pop(key) for key in list(given) if key in names}
        parts[part] = kind(
            **{f.name: _checked(f.name, values.get(f.name, f.default), f.default, where) for f in fields(kind)}
        )
    if "work_path" in given:
        work_path = Path(_text("work_path", str(given.pop("work_path")), where))
    assert not given, f"overrides must be keys of the config: {given}"
    devices = {key: _text(key, str(content[key]), where) for key in _DEVICE_KEYS if content.get(key)}
    parts["data"] = replace(parts["data"], dataset=canonical_name(parts["data"].dataset))
    if parts["data"].resolution != "64":
        raise UsageError(f"{where}: resolution is {_short(parts['data'].resolution)}; only '64' is supported")
    return Config(work_path, devices, parts["data"], parts["model"])


def _refuse_unknown(content: Mapping, known, where: str) -> None:
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), list(known), n=1)
            raise UsageError(f"{where}: unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ""))


def _checked(key: str, value: Any, default: Any, where: str) -> Any:
    wanted = type(default)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1 << 1000 else float("inf")
    if key in ("resolution", "loss_scale") and isinstance(value, int | float):
        value = str(value)
    if isinstance(value, list):
        value = tuple(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise UsageError(f"{where}: {key} must be {wanted.__name__}, not {_short(value)}")
    if wanted is str:
        _text(key, value, where)
    fault = _fault(key, value)
    if fault:
        raise UsageError(f"{where}: {key} must be {fault}, not {_short(value)}")
    return value


def _fault(key: str, value: Any) -> str | None:
    """What a value of the right type must be and is not."""
    if key in _CHOICES:
        return None if value in _CHOICES[key] else f"one of {', '.join(map(repr, _CHOICES[key]))}"
    if key in ("dataset", "model_name"):  # they become names of files
        right = is_plain_name(value)
        return None if right else "a plain name, without / and not beginning with a dot"
    if key == "batch_size":
        right = len(value) == 2 and all(type(n) is int and 0 < n <= _MOST_SEQUENCES for n in value) and value[0] > 1
        return None if right else "(P, K), whole numbers, P at least 2 and K at least 1"
    if key == "loss_scale" and value != "dynamic":
        return None if _is_number(value) else "'dynamic' or a number"
    if type(value) is int and value > _AT_MOST.get(key, _MOST):
        return f"at most {_AT_MOST.get(key, _MOST):,}"
    if key in _AT_LEAST:
        return None if value >= _AT_LEAST[key] else f"at least {_AT_LEAST[key]}"
    return "above 0" if type(value) in (int, float) and not 0 < value < math.inf else None


def _text(key: str, value: Any, where: str) -> str:
    if not isinstance(value, str) or NO_TEXT.search(value):
        raise UsageError(f"{where}: {key} must be text of one line, not {_short(value)}")
    return value


def _short(value: Any) -> str:
    """What was given instead, in few words: it may be an integer of a million digits."""
    try:
        text = repr(value)
    except ValueError:
        return f"a {type(value).__name__}"
    return text if len(text) < 80 else f"{text[:80]}..."


def _is_number(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False
