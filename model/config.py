"""Configurations: dicts in Python files, with defaults for missing keys and checks of every value."""

import copy
import difflib
import math
import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from model.common.errors import UsageError
from model.common.files import is_plain_name
from model.common.rules import AT_LEAST_0, POSITIVE, Rule, between, integers, is_line, one_of, short, text
from model.evaluation.protocols import Protocol, canonical_name, protocol_of

NAMES = ("conf_1p", "conf_8p", "conf")  # possible names of the dict in a config file


class RestoreFrom(IntEnum):
    """Values of `restore_iter` that are not the iteration of a checkpoint."""

    START = 0
    LAST = -1
    LAST_OR_START = -2  # `--restore_iter auto`


def _is_loss_scale(value: str) -> bool:
    try:
        return value == "dynamic" or 0 < float(value) < math.inf
    except ValueError:
        return False


# Types of keys with their rules. The rule of a plain type is one line of text, a number above 0, or a bool.
LINE = Rule(object, (is_line, "one line of text"))
BATCH_SIZE = Rule(tuple, (integers(2, 2, 1 << 16), "(P, K), integers with P at least 2 and K at least 1"))
CHANNELS = Rule(tuple, (integers(3, 1, 1 << 12), "three integers from 1 to 4,096, such as [64, 128, 256]"))
Text = Annotated[str, LINE]
FileName = Annotated[str, text((is_plain_name, "a file name without / that does not start with a dot"))]
Takes = Annotated[
    tuple[str, ...], Rule(tuple, (lambda takes: all(is_line(t) and t for t in takes), "a list of take names"))
]
Count = Annotated[int, between(0)]
Size = Annotated[int, between(1, 1 << 16)]
Threads = Annotated[int, between(0, 1 << 10)]
RestoreIter = Annotated[int, between(min(RestoreFrom))]
TripletLoss = Annotated[str, one_of("full", "hard")]
LossScale = Annotated[str, text((_is_loss_scale, "'dynamic' or a number above 0"))]
Kernels = Annotated[str, one_of("auto", "plain")]
DEVICE_KEYS = ("CUDA_VISIBLE_DEVICES", "ASCEND_VISIBLE_DEVICES")
PROFILING_KINDS = "CANN, GE, True, False or None"
PROFILING = {"cann": True, "ge": True, "true": True, "": False, "none": False, "false": False}
_IS_PROFILING = (lambda v: isinstance(v, str | bool | None) and str(v).lower() in PROFILING, PROFILING_KINDS)


@dataclass(frozen=True)
class DataConfig:
    """The key `data` of a configuration."""

    dataset_path: Text = ""  # aligned tree, OpenGait pickle tree or store
    pickle: str = ""  # which pickle to read if there are several per view, such as "aligned-sils"
    resolution: Annotated[str, one_of("64")] = "64"  # height of the silhouettes; no other value is supported
    dataset: FileName = "CASIA-B"  # selects the protocol and is part of checkpoint names
    gallery: Takes = ()  # takes to search in, such as ["walk1"]; empty: as for `dataset`
    probe: Takes = ()  # takes to identify, such as ["NM=nm-05,nm-06", "CL=cl-01"]; empty: the same
    pid_num: Count = 73  # number of training subjects
    pid_shuffle: bool = False  # shuffle the subjects with a fixed seed before the split

    @property
    def protocol(self) -> Protocol:
        """The evaluation protocol. Raises UsageError if there is none for the data set and the takes are not given."""
        return protocol_of(self.dataset, self.gallery, self.probe)


@dataclass(frozen=True)
class ModelConfig:
    """The key `model` of a configuration: network, training and precision."""

    hidden_dim: Size = 256  # numbers per strip of an embedding
    channels: Annotated[tuple[int, int, int], CHANNELS] = (32, 64, 128)  # of set layers 1 and 2, 3 and 4, 5 and 6
    lr: float = 1e-4  # learning rate of Adam
    schedule: Annotated[str, one_of("constant", "cosine")] = "constant"  # of the learning rate; cosine: down to 0
    cross_entropy: Annotated[float, AT_LEAST_0] = 0.0  # weight of a classifier's loss in addition to the triplet loss
    hard_or_full_trip: TripletLoss = "full"  # batch-all (full) or batch-hard (hard) triplet loss
    batch_size: Annotated[tuple[int, int], BATCH_SIZE] = (8, 16)  # P subjects and K sequences per subject, per process
    restore_iter: RestoreIter = 0  # 0: new run; N: resume from iteration N; -1: from the newest checkpoint; -2: auto
    total_iter: int = 80000  # iterations of the training
    margin: float = 0.2  # margin of the triplet loss
    num_workers: Threads = 3  # threads that prefetch batches
    frame_num: Size = 30  # frames that are drawn per sequence
    sampler: Annotated[str, one_of("random", "views")] = "random"  # views: the same few views of all subjects
    augment: bool = False  # flip, rotate, stretch and erase sequences; not in the published recipe
    model_name: FileName = "GaitSet"  # part of checkpoint names
    save_iter: int = 1000  # iterations between checkpoints
    log_iter: int = 100  # iterations between log lines
    eval_iter: Count = 0  # iterations between evaluations; 0: no evaluation
    keep: Count = 0  # checkpoints that are kept in addition to the newest and the best
    amp: Annotated[str, one_of("off", "torch", "apex")] = "off"  # mixed precision: off, torch or apex
    amp_dtype: Annotated[str, one_of("", "fp16", "bf16")] = ""  # fp16 or bf16; empty: the default of the device
    loss_scale: LossScale = "dynamic"  # dynamic, or a number
    kernels: Kernels = "auto"  # auto: Triton kernels, or chunks of frames on a CPU; plain: torch's kernels only
    seed: Count = 0  # random seed of the initial weights and batches


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


def load_config(path: Path | str, overrides: Mapping[str, Any] | None = None, processes: int = 1) -> Config:
    """Read a configuration file.

    Args:
        overrides: values for keys that replace those of the file. None means not given.
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


# Keys that options of other names override.
_OPTIONS = {"dataset_path": "data_path", "total_iter": "iters", "batch_size": "batch_size_p and --batch_size_m"}


def overrides_of(options: Any) -> dict[str, Any]:
    """Return the command line values that override configuration keys. Other options are ignored."""
    key_of = {option: key for key, option in _OPTIONS.items()}
    given = {key_of.get(name, name): value for name, value in vars(options).items()}
    given["batch_size"] = tuple(given.get(name) for name in ("batch_size_p", "batch_size_m"))
    # The commands of the NPU port pass -1 for the default of start_step and stop_step.
    ignored = {"batch_size": (None, None), "start_step": -1, "stop_step": -1}
    keys = {"work_path", "profiling", *ignored, *_DATA, *_MODEL} - {"device_num"}
    return {key: value for key, value in given.items() if key in keys and value not in (None, ignored.get(key))}


def build_config(
    content: dict, folder: Path, overrides: Mapping[str, Any] | None = None, where: str = "config"
) -> Config:
    """Check the dict of a configuration file and return it as a Config; see `load_config`."""
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    top = _checked(_overridden(content, given, _TOP), _TOP, where, where)
    work_path = folder / top["WORK_PATH"]
    if "work_path" in given:
        work_path = Path(_valid("work_path", str(given.pop("work_path")), LINE, where))
    data, model = dict(top["data"]), top["model"]
    if data.get("dataset_path"):
        data["dataset_path"] = str(folder / _valid("dataset_path", data["dataset_path"], LINE, where))
    if "batch_size" in given:  # --batch_size_p and --batch_size_m can be given separately
        sizes = _valid("batch_size", model.get("batch_size", ModelConfig.batch_size), BATCH_SIZE, where)
        given["batch_size"] = tuple(new or old for new, old in zip(given["batch_size"], sizes, strict=True))
    data = _checked(_overridden(data, given, _DATA), _DATA, where, f"{where}, data")
    model = _checked(_overridden(model, given, _MODEL), _MODEL, where, f"{where}, model")
    assert not given, f"overrides must be keys of the config: {given}"
    devices = {key: top[key] for key in DEVICE_KEYS if top[key]}
    device_num, dataset = data.pop("device_num"), canonical_name(data.pop("dataset"))
    return Config(
        work_path, devices, DataConfig(**data, dataset=dataset), ModelConfig(**model), device_num,
        PROFILING[str(top["profiling"]).lower()], top["start_step"], top["stop_step"],
    )  # fmt: skip


def _fields(part: type) -> dict[str, tuple[Any, Rule]]:
    """Return the default and the rule of each field of a part of the configuration."""
    by_type = {int: between(1), float: POSITIVE, bool: Rule(bool), str: text()}
    hints = get_type_hints(part, include_extras=True)
    rules = {name: getattr(hint, "__metadata__", None) or (by_type[hint],) for name, hint in hints.items()}
    return {f.name: (f.default, rules[f.name][0]) for f in fields(part)}


_DICT = Rule(object, (lambda value: isinstance(value, dict), "a dict"))
_TOP = {
    "WORK_PATH": ("work", LINE), **dict.fromkeys(DEVICE_KEYS, ("", LINE)), "data": ({}, _DICT), "model": ({}, _DICT),
    "profiling": (None, Rule(object, _IS_PROFILING)), **dict.fromkeys(("start_step", "stop_step"), (-1, between(-1))),
}  # fmt: skip
_DATA = {**_fields(DataConfig), "device_num": (0, between(0, 1 << 10))}
_MODEL = _fields(ModelConfig)


def _checked(content: Mapping, known: Mapping[str, tuple[Any, Rule]], where: str, part: str) -> dict[str, Any]:
    """Return the values of a dict, with defaults for missing keys. Raises UsageError for unknown keys and values."""
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), list(known), n=1)
            raise UsageError(f"{part}: unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ""))
    return {key: _valid(key, content.get(key, default), rule, where) for key, (default, rule) in known.items()}


def _overridden(values: Mapping, given: dict[str, Any], known: Mapping[str, tuple[Any, Rule]]) -> dict[str, Any]:
    """Return `values` with the valid overrides of their keys, which are removed from `given`."""
    own = {key: given.pop(key) for key in known.keys() & given.keys()}
    for key, value in own.items():
        _valid(key, value, known[key][1], "command line", f"--{_OPTIONS.get(key, key)}")
    return {**values, **own}


def _valid(key: str, value: Any, rule: Rule, where: str, name: str = "") -> Any:
    """Return `value`, converted if it has another type that means the same. Raises UsageError with `name` or `key`."""
    if rule.kind is float and type(value) is int:
        value = float(value) if abs(value) < 1 << 1000 else math.inf
    elif key in ("resolution", "loss_scale") and isinstance(value, int | float):
        value = str(value)
    elif key in DEVICE_KEYS:
        value = str(value or "")
    elif key in ("gallery", "probe") and isinstance(value, str):
        value = (value,)
    elif isinstance(value, list):
        value = tuple(value)
    unmet = rule.unmet(value)
    if unmet is not None:
        raise UsageError(f"{where}: {name or key} must be {unmet}, not {short(value)}")
    return value
