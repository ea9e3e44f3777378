"""Configurations: dicts in Python files, with defaults for missing keys and checks of every value."""

from __future__ import annotations

import copy
import difflib
import math
import runpy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from model.common.errors import NOT_PRINTABLE, UsageError
from model.common.files import is_plain_name
from model.evaluation.protocols import Protocol, canonical_name, protocol_of

NAMES = ("conf_1p", "conf_8p", "conf")  # possible names of the dict in a config file


@dataclass(frozen=True)
class DataConfig:
    """The key `data` of a configuration."""

    dataset_path: str = ""  # aligned tree, OpenGait pickle tree or store
    pickle: str = ""  # which pickle to read if there are several per view, such as "aligned-sils"
    resolution: str = "64"  # height of the silhouettes; no other value is supported
    dataset: str = "CASIA-B"  # selects the protocol and is part of checkpoint names
    gallery: tuple[str, ...] = ()  # takes to search in, such as ["walk1"]; empty: as for `dataset`
    probe: tuple[str, ...] = ()  # takes to identify, such as ["NM=nm-05,nm-06", "CL=cl-01"]; empty: the same
    pid_num: int = 73  # number of training subjects
    pid_shuffle: bool = False  # shuffle the subjects with a fixed seed before the split

    @property
    def protocol(self) -> Protocol:
        """The evaluation protocol. Raises UsageError if there is none for the data set and the takes are not given."""
        return protocol_of(self.dataset, self.gallery, self.probe)


class RestoreFrom(IntEnum):
    """Values of `restore_iter` that are not the iteration of a checkpoint."""

    START = 0
    LAST = -1
    LAST_OR_START = -2  # `--restore_iter auto`


@dataclass(frozen=True)
class ModelConfig:
    """The key `model` of a configuration: network, training and precision."""

    hidden_dim: int = 256  # numbers per strip of an embedding
    channels: tuple[int, int, int] = (32, 64, 128)  # of set layers 1 and 2, 3 and 4, 5 and 6
    lr: float = 1e-4  # learning rate of Adam
    hard_or_full_trip: str = "full"  # batch-all (full) or batch-hard (hard) triplet loss
    batch_size: tuple[int, int] = (8, 16)  # P subjects and K sequences per subject, per process
    restore_iter: int = 0  # 0: new run; N: resume from iteration N; -1: from the newest checkpoint; -2: auto
    total_iter: int = 80000  # iterations of the training
    margin: float = 0.2  # margin of the triplet loss
    num_workers: int = 3  # threads that prefetch batches
    frame_num: int = 30  # frames that are drawn per sequence
    augment: bool = False  # flip, rotate, stretch and erase sequences; not in the published recipe
    model_name: str = "GaitSet"  # part of checkpoint names
    save_iter: int = 1000  # iterations between checkpoints
    log_iter: int = 100  # iterations between log lines
    eval_iter: int = 0  # iterations between evaluations; 0: no evaluation
    keep: int = 0  # checkpoints that are kept in addition to the newest and the best
    amp: str = "off"  # mixed precision: off, torch or apex
    amp_dtype: str = ""  # fp16 or bf16; empty: the default of the device
    loss_scale: str = "dynamic"  # dynamic, or a number
    kernels: str = "auto"  # auto: Triton kernels if supported; plain: torch's kernels only
    seed: int = 0  # random seed of the initial weights and batches


@dataclass(frozen=True)
class Config:
    """A checked configuration. `visible_devices` maps config keys such as CUDA_VISIBLE_DEVICES to device numbers."""

    work_path: Path = Path("work")
    visible_devices: Mapping[str, str] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    device_num: int = 0  # processes that train.py starts; 0: one
    profiling: bool = False  # trace the iterations from start_step to stop_step; -1: the defaults of train.py
    start_step: int = -1
    stop_step: int = -1

    @property
    def experiment(self) -> str:
        """The experiment name in checkpoint names, as in the original."""
        d, m = self.data, self.model
        p, k = m.batch_size
        parts = (m.model_name, d.dataset, d.pid_num, d.pid_shuffle, m.hidden_dim, m.margin, p * k)
        return "_".join(map(str, (*parts, m.hard_or_full_trip, m.frame_num)))

    @property
    def checkpoint_folder(self) -> Path:
        """Folder of the checkpoints of this network."""
        return self.work_path / "checkpoint" / self.model.model_name


_DEVICE_KEYS = ("CUDA_VISIBLE_DEVICES", "ASCEND_VISIBLE_DEVICES")
_KEYS = ("WORK_PATH", *_DEVICE_KEYS, "profiling", "start_step", "stop_step", "data", "model")
_MAX_INT = 1 << 40
_MAX_SEQUENCES = 1 << 16  # for P and K
_MAX_CHANNELS = 1 << 12


def load_config(path: Path | str, overrides: Mapping[str, Any] | None = None, processes: int = 1) -> Config:
    """Read a configuration file.

    Args:
        overrides: values for keys of `data` and `model` that replace those of the file. None means not given.
        processes: number of processes, which selects conf_1p or conf_8p in a file that defines both.

    Relative paths in the file are relative to the file. Raises UsageError with the key if a key is unknown or a value
    has a wrong type or is out of range.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"--config {path}: no such file")
    try:
        content = runpy.run_path(str(path))
    except (Exception, SystemExit) as error:  # the file is a program of the user, which can raise anything
        raise UsageError(f"--config {path}: the Python file cannot be run ({type(error).__name__}: {error})") from error
    names = [name for name in NAMES if isinstance(content.get(name), dict)]
    if not names:
        raise UsageError(f"--config {path}: the file does not define one of the dicts {', '.join(NAMES)}")
    if len(names) > 1:  # config_8p.py imports conf_1p, and config.py of the NPU port defines both
        of_file = [name for name in names if name.removeprefix("conf_") in path.stem]
        names = of_file or [name for name in names if name == ("conf_8p" if processes > 1 else "conf_1p")] or names
    return build_config(copy.deepcopy(content[names[0]]), path.resolve().parent, overrides, str(path))


def overrides_of(options: Any) -> dict[str, Any]:
    """Return the command line values that override configuration keys. Other options are ignored."""
    keys = {"work_path", *(f.name for part in (DataConfig, ModelConfig) for f in fields(part))} - {"batch_size"}
    given = {key: value for key, value in vars(options).items() if key in keys and value is not None}
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
    """Check the dict of a configuration file and return it as a Config; see `load_config`."""
    _reject_unknown_keys(content, _KEYS, where)
    work_path = folder / _text("WORK_PATH", content.get("WORK_PATH", "work"), where)
    parts: dict[str, Any] = {}
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    for part, part_type in (("data", DataConfig), ("model", ModelConfig)):
        if not isinstance(content.get(part, {}), dict):
            raise UsageError(f"{where}: {part} must be a dict, not {_short(content[part])}")
        values = dict(content.get(part, {}))
        if part == "data":
            device_num = _checked("device_num", values.pop("device_num", 0), 0, where)
        names = {f.name for f in fields(part_type)}
        _reject_unknown_keys(values, names, f"{where}, {part}")
        if part == "data" and values.get("dataset_path"):
            values["dataset_path"] = str(folder / _text("dataset_path", values["dataset_path"], where))
        if "batch_size" in names & given.keys():  # --batch_size_p and --batch_size_m can be given separately
            default = part_type.batch_size
            old_sizes = _checked("batch_size", values.get("batch_size", default), default, where)
            given["batch_size"] = tuple(new or old for new, old in zip(given["batch_size"], old_sizes, strict=True))
        values |= {key: given.pop(key) for key in list(given) if key in names}
        checked = {f.name: _checked(f.name, values.get(f.name, f.default), f.default, where) for f in fields(part_type)}
        parts[part] = part_type(**checked)
    if "work_path" in given:
        work_path = Path(_text("work_path", str(given.pop("work_path")), where))
    assert not given, f"overrides must be keys of the config: {given}"
    devices = {key: _text(key, str(content[key]), where) for key in _DEVICE_KEYS if content.get(key)}
    parts["data"] = replace(parts["data"], dataset=canonical_name(parts["data"].dataset))
    try:
        profiling = is_profiled(content.get("profiling"))
    except ValueError as error:
        raise UsageError(f"{where}: profiling {error}") from None
    steps = {key: _checked(key, content.get(key, -1), -1, where) for key in ("start_step", "stop_step")}
    return Config(work_path, devices, parts["data"], parts["model"], device_num, profiling, **steps)


def is_profiled(value: object) -> bool:
    """Return whether a value of `profiling` asks for a trace. CANN and GE, the kinds of the NPU port, mean the same.

    Raises ValueError for other values than these two, True, False and None.
    """
    name = str(value).lower() if isinstance(value, str | bool | None) else None
    if name in ("cann", "ge", "true"):
        return True
    if name in ("", "none", "false"):
        return False
    raise ValueError(f"must be CANN, GE, True, False or None, not {_short(value)}")


def _reject_unknown_keys(content: Mapping, known: Collection[str], where: str) -> None:
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), list(known), n=1)
            raise UsageError(f"{where}: unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ""))


def _checked(key: str, value: Any, default: Any, where: str) -> Any:
    """Return `value` converted to the type of `default`. Raises UsageError if the type or the value is wrong."""
    expected = type(default)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1 << 1000 else math.inf
    if key in ("resolution", "loss_scale") and isinstance(value, int | float):
        value = str(value)
    if key in ("gallery", "probe") and isinstance(value, str):
        value = (value,)
    if isinstance(value, list):
        value = tuple(value)
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise UsageError(f"{where}: {key} must be {expected.__name__}, not {_short(value)}")
    if expected is str:
        _text(key, value, where)
    is_valid, description = _RULES.get(key) or _DEFAULT_RULES.get(expected, _ANY)
    if not is_valid(value):
        raise UsageError(f"{where}: {key} must be {description}, not {_short(value)}")
    return value


def _one_of(*names: str) -> Rule:
    return (lambda value: value in names), f"one of {', '.join(map(repr, names))}"


def _between(low: int, high: int = _MAX_INT) -> Rule:
    return (lambda value: low <= value <= high), f"from {low} to {high:,}"


def _is_batch_size(value: tuple) -> bool:
    return len(value) == 2 and all(type(n) is int and 0 < n <= _MAX_SEQUENCES for n in value) and value[0] > 1


def _are_takes(value: tuple) -> bool:
    return all(isinstance(take, str) and take and not NOT_PRINTABLE.search(take) for take in value)


def _are_channels(value: tuple) -> bool:
    return len(value) == 3 and all(type(n) is int and 0 < n <= _MAX_CHANNELS for n in value)


def _is_loss_scale(value: str) -> bool:
    try:
        return value == "dynamic" or 0 < float(value) < math.inf
    except ValueError:
        return False


# A check of a value and the description of valid values, per key or else per type.
Rule = tuple[Callable[[Any], bool], str]
_ANY: Rule = (lambda value: True), ""
_FILE_NAME: Rule = is_plain_name, "a file name without / that does not start with a dot"
_DEFAULT_RULES: dict[type, Rule] = {
    int: _between(1), float: ((lambda value: 0 < value < math.inf), "a number above 0"),
}  # fmt: skip
_RULES: dict[str, Rule] = {
    "hard_or_full_trip": _one_of("full", "hard"), "amp": _one_of("off", "torch", "apex"),
    "amp_dtype": _one_of("", "fp16", "bf16"), "kernels": _one_of("auto", "plain"), "resolution": _one_of("64"),
    "dataset": _FILE_NAME, "model_name": _FILE_NAME,  # they become parts of file names
    "batch_size": (_is_batch_size, "(P, K), integers with P at least 2 and K at least 1"),
    "channels": (_are_channels, f"three integers from 1 to {_MAX_CHANNELS:,}, such as [64, 128, 256]"),
    "loss_scale": (_is_loss_scale, "'dynamic' or a number above 0"),
    "hidden_dim": _between(1, 1 << 16), "frame_num": _between(1, 1 << 16), "num_workers": _between(0, 1 << 10),
    "restore_iter": _between(min(RestoreFrom)), "eval_iter": _between(0), "keep": _between(0), "seed": _between(0),
    "pid_num": _between(0), "device_num": _between(0, 1 << 10), "start_step": _between(-1), "stop_step": _between(-1),
    "gallery": (_are_takes, "a list of take names"), "probe": (_are_takes, "a list of take names"),
}  # fmt: skip


def _text(key: str, value: Any, where: str) -> str:
    if not isinstance(value, str) or NOT_PRINTABLE.search(value):
        raise UsageError(f"{where}: {key} must be one line of text, not {_short(value)}")
    return value


def _short(value: Any) -> str:
    """Return a short form of `value`, which can be an integer with a million digits."""
    try:
        text = repr(value)
    except ValueError:
        return f"a {type(value).__name__}"
    return text if len(text) < 80 else f"{text[:80]}..."
