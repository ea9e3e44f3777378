"""Read configurations, which are dicts in Python files, check all values, and add defaults for missing keys."""

import copy
import difflib
import math
import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from pathlib import Path
from typing import Any

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


# Rules of keys. A key without its own rule holds one line of text, a number above 0, or a bool, like its default.
LINE = Rule(object, (is_line, "one line of text"))
FILE_NAME = text((is_plain_name, "a file name without / that does not start with a dot"))
TAKES = Rule(tuple, (lambda takes: all(is_line(t) and t for t in takes), "a list of take names"))
BATCH_SIZE = Rule(tuple, (integers(2, 2, 1 << 16), "(P, K), integers with P at least 2 and K at least 1"))
CHANNELS = Rule(tuple, (integers(3, 1, 1 << 12), "three integers from 1 to 4,096, such as [64, 128, 256]"))
COUNT, SIZE, THREADS = between(0), between(1, 1 << 16), between(0, 1 << 10)
LOSS_SCALE = text((_is_loss_scale, "'dynamic' or a number above 0"))
DEVICE_KEYS = ("CUDA_VISIBLE_DEVICES", "ASCEND_VISIBLE_DEVICES")
PROFILING_KINDS = "CANN, GE, True, False or None"
PROFILING = {"cann": True, "ge": True, "true": True, "": False, "none": False, "false": False}
_IS_PROFILING = (lambda v: isinstance(v, str | bool | None) and str(v).lower() in PROFILING, PROFILING_KINDS)


def key(default: Any, meaning: str, rule: Rule | None = None) -> Any:
    """Return the dataclass field of a key. `meaning` describes the key, also in the help of its option."""
    rule = rule or {int: between(1), float: POSITIVE, bool: Rule(bool), str: text()}[type(default)]
    return field(default=default, metadata={"meaning": meaning, "rule": rule})


# fmt: off
@dataclass(frozen=True)
class DataConfig:
    """The key `data` of a configuration."""

    dataset_path: str = key("", "aligned tree, OpenGait pickle tree or store", LINE)
    pickle: str = key("", "pickle to read if the folder of a view contains several pickles: its name without the view, "
                      "such as aligned-sils, or a pattern; empty: <view>.pkl, else the only pickle with aligned and "
                      "sil in its name, else the only pickle that contains silhouettes")
    resolution: str = key("64", "height of the silhouettes; no other value is supported", one_of("64"))
    dataset: str = key("CASIA-B", "data set, which selects the protocol and is a part of checkpoint names: CASIA-B, "
                       "OUMVLP, CASIA-A, Synthetic, or another name", FILE_NAME)
    gallery: tuple[str, ...] = key((), "enrolled takes, as names or patterns such as walk1 or 'nm-0[1-4]'; empty: the "
                                   "gallery takes of the data set's protocol", TAKES)
    probe: tuple[str, ...] = key((), "takes to identify, such as walk2, or CONDITION=TAKES such as NM=nm-05,nm-06; "
                                 "without a condition, it is the take's name up to the first hyphen, in capitals; "
                                 "empty: the probe takes of the data set's protocol", TAKES)
    pid_num: int = key(73, "number of training subjects if no partition file is given", COUNT)
    pid_shuffle: bool = key(False, "shuffle the subjects with a fixed seed before the split")

    @property
    def protocol(self) -> Protocol:
        """The evaluation protocol. Raises UsageError if there is none for the data set and the takes are not given."""
        return protocol_of(self.dataset, self.gallery, self.probe)


@dataclass(frozen=True)
class ModelConfig:
    """The key `model` of a configuration: network, training and precision."""

    hidden_dim: int = key(256, "length of the embedding vector of each strip", SIZE)
    channels: tuple[int, int, int] = key((32, 64, 128), "channels of set layers 1 and 2, of set layers 3 and 4, and of "
                                         "set layers 5 and 6", CHANNELS)
    lr: float = key(1e-4, "learning rate of Adam")
    schedule: str = key("constant", "learning rate over the run: constant, or cosine, which decreases it to 0 along "
                        "half a cosine", one_of("constant", "cosine"))
    cross_entropy: float = key(0.0, "weight of the cross-entropy loss of a classifier of the training subjects; the "
                               "classifier is not part of the encoder", AT_LEAST_0)
    unit_strips: bool = key(False, "scale the embedding vector of each strip to length 1, so that distances depend "
                            "only on cosines; not part of the published recipe")
    hard_or_full_trip: str = key("full", "batch-all (full) or batch-hard (hard) triplet loss", one_of("full", "hard"))
    batch_size: tuple[int, int] = key((8, 16), "P subjects and K sequences per subject, per process", BATCH_SIZE)
    restore_iter: int = key(0, "iteration of the checkpoint to resume from; 0: start a new run; -1: the last "
                            "checkpoint; -2 or auto: the last checkpoint, or a new run if there is none",
                            between(min(RestoreFrom)))
    total_iter: int = key(80000, "total number of iterations")
    margin: float = key(0.2, "margin of the triplet loss")
    num_workers: int = key(3, "threads that prefetch batches", THREADS)
    frame_num: int = key(30, "frames drawn from each sequence", SIZE)
    sampler: str = key("random", "sequences of a batch: random, or views, which gives all subjects of a batch the same "
                       "few views", one_of("random", "views"))
    augment: bool = key(False, "randomly flip, rotate and stretch training sequences, and erase a part of them; not "
                        "part of the published recipe")
    model_name: str = key("GaitSet", "name of the network in checkpoint names", FILE_NAME)
    save_iter: int = key(1000, "iterations between checkpoints")
    log_iter: int = key(100, "iterations between log lines")
    eval_iter: int = key(0, "iterations between evaluations; 0: no evaluation", COUNT)
    keep: int = key(0, "checkpoints to keep in addition to the last and the best", COUNT)
    amp: str = key("off", "mixed precision", one_of("off", "torch", "apex"))
    amp_dtype: str = key("", "data type of --amp torch; empty: bf16 on cpu, otherwise fp16", one_of("", "fp16", "bf16"))
    loss_scale: str = key("dynamic", "loss scale of mixed precision: dynamic or a number (NPU port: 32)", LOSS_SCALE)
    kernels: str = key("auto", "auto: Triton kernels on a GPU that supports them, and computation in chunks of frames "
                       "on a CPU; plain: only torch's kernels", one_of("auto", "plain"))
    seed: int = key(0, "random seed of the initial weights and batches", COUNT)
# fmt: on


@dataclass(frozen=True)
class Config:
    """A checked configuration. `visible_devices` maps keys such as CUDA_VISIBLE_DEVICES to lists of device numbers."""

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
        """The name of the experiment, with which the names of its checkpoints start, as in the original code."""
        d, m = self.data, self.model
        p, k = m.batch_size
        parts = (m.model_name, d.dataset, d.pid_num, d.pid_shuffle, m.hidden_dim, m.margin, p * k)
        return "_".join(map(str, (*parts, m.hard_or_full_trip, m.frame_num)))

    @property
    def checkpoint_folder(self) -> Path:
        """Folder of the checkpoints of this network."""
        return self.work_path / "checkpoint" / self.model.model_name


def load_config(path: Path | str | None, overrides: Mapping[str, Any] | None = None, processes: int = 1) -> Config:
    """Read a configuration file, by default config_1p.py or, for several processes, config_8p.py.

    Args:
        overrides: values by key, which replace the values of the file. None replaces nothing.
        processes: number of processes, which selects conf_1p or conf_8p in a file that defines both dicts.

    Relative paths in the file start at the folder of the file. Raises UsageError with the key if a key is unknown, or
    if its value has a wrong type or is out of range.
    """
    default = "config_8p.py" if processes > 1 else "config_1p.py"
    path = Path(path or Path(__file__).resolve().parents[1] / default)
    if not path.is_file():
        raise UsageError(f"--config {path}: no such file")
    try:
        content = runpy.run_path(str(path))
    except (Exception, SystemExit) as error:  # the file is a program of the user, which can raise anything
        raise UsageError(f"--config {path}: the Python file cannot be run ({type(error).__name__}: {error})") from error
    names = [name for name in NAMES if isinstance(content.get(name), dict)]
    if not names:
        raise UsageError(f"--config {path}: the file does not define one of the dicts {', '.join(NAMES)}")
    if len(names) > 1:  # a file may import conf_1p to change it, and config.py of the NPU port defines both
        of_file = [name for name in names if name.removeprefix("conf_") in path.stem]
        names = of_file or [name for name in names if name == ("conf_8p" if processes > 1 else "conf_1p")] or names
    return build_config(copy.deepcopy(content[names[0]]), path.resolve().parent, overrides, str(path))


# The options of keys whose options have other names.
SPELLINGS = {
    "dataset_path": ("data_path",), "total_iter": ("iters", "total_iter"),
    "batch_size": ("batch_size_p and --batch_size_m",),
}  # fmt: skip


def overrides_of(options: Any) -> dict[str, Any]:
    """Return the command line values that override configuration keys. Other options are ignored."""
    key_of = {option: key for key, (option, *_) in SPELLINGS.items()}
    given = {key_of.get(name, name): value for name, value in vars(options).items()}
    given["batch_size"] = tuple(given.get(name) for name in ("batch_size_p", "batch_size_m"))
    # The commands of the NPU port pass -1 to keep the defaults of start_step and stop_step.
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
    """Return the default and the rule of each key of a part of the configuration."""
    return {f.name: (f.default, f.metadata["rule"]) for f in fields(part)}


_DICT = Rule(object, (lambda value: isinstance(value, dict), "a dict"))
_TOP = {
    "WORK_PATH": ("work", LINE), **dict.fromkeys(DEVICE_KEYS, ("", LINE)), "data": ({}, _DICT), "model": ({}, _DICT),
    "profiling": (None, Rule(object, _IS_PROFILING)), **dict.fromkeys(("start_step", "stop_step"), (-1, between(-1))),
}  # fmt: skip
_DATA = {**_fields(DataConfig), "device_num": (0, between(0, 1 << 10))}
_MODEL = _fields(ModelConfig)


def _checked(content: Mapping, known: Mapping[str, tuple[Any, Rule]], where: str, part: str) -> dict[str, Any]:
    """Return the values of all known keys: from `content`, or the default. Raises UsageError for an unknown key."""
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), list(known), n=1)
            raise UsageError(f"{part}: unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ""))
    return {key: _valid(key, content.get(key, default), rule, where) for key, (default, rule) in known.items()}


def _overridden(values: Mapping, given: dict[str, Any], known: Mapping[str, tuple[Any, Rule]]) -> dict[str, Any]:
    """Return `values` with the overrides of the keys in `known`. Check these overrides and remove them from `given`."""
    own = {key: given.pop(key) for key in known.keys() & given.keys()}
    for key, value in own.items():
        _valid(key, value, known[key][1], "command line", f"--{SPELLINGS.get(key, (key,))[0]}")
    return {**values, **own}


def _valid(key: str, value: Any, rule: Rule, where: str, name: str = "") -> Any:
    """Return `value`, converted if the rule expects another type with the same meaning, such as a tuple for a list.

    Raises UsageError if the value is invalid. The error names the key as `name`, by default as `key`.
    """
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
