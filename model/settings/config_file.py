"""Read a configuration file, override its values with options, check all values, and add defaults for missing keys."""

import difflib
import math
import runpy
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from model.common.errors import UsageError
from model.common.rules import Rule, between, short
from model.config import DEVICE_KEYS, IS_PROFILING, LINE, PROFILING, Config, DataConfig, ModelConfig
from model.evaluation.protocols import canonical_name

NAMES = ("conf_1p", "conf_8p", "conf")  # possible names of the dict in a config file


def load_config(path: Path | str | None, overrides: Mapping[str, Any] | None = None, processes: int = 1) -> Config:
    """Read a configuration file, by default config_1p.py or, for several processes, config_8p.py.

    Args:
        overrides: values by key, which replace the values of the file. None replaces nothing.
        processes: number of processes, which selects conf_1p or conf_8p in a file that defines both dicts.

    Relative paths in the file start at the folder of the file. Raises UsageError with the key if a key is unknown, or
    if its value has a wrong type or is out of range.
    """
    default = "config_8p.py" if processes > 1 else "config_1p.py"
    path = Path(path or Path(__file__).resolve().parents[2] / default)
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
    return build_config(content[names[0]], path.resolve().parent, overrides, str(path))


# The options of keys whose options have other names.
SPELLINGS = {
    "WORK_PATH": ("work_path",), "dataset_path": ("data_path",), "total_iter": ("iters", "total_iter"),
    "batch_size": ("batch_size_p and --batch_size_m",),
}  # fmt: skip


def overrides_of(options: Any) -> dict[str, Any]:
    """Return the command line values that override configuration keys. Other options are ignored."""
    key_of = {option: key for key, (option, *_) in SPELLINGS.items()}
    given = {key_of.get(name, name): value for name, value in vars(options).items()}
    given["batch_size"] = tuple(given.get(name) for name in ("batch_size_p", "batch_size_m"))
    # The commands of the NPU port pass -1 to keep the defaults of start_step and stop_step.
    ignored = {"batch_size": (None, None), "start_step": -1, "stop_step": -1}
    keys = {"WORK_PATH", "profiling", *ignored, *_DATA, *_MODEL} - {"device_num"}
    return {key: value for key, value in given.items() if key in keys and value not in (None, ignored.get(key))}


def build_config(
    content: dict, folder: Path, overrides: Mapping[str, Any] | None = None, where: str = "config"
) -> Config:
    """Check the dict of a configuration file and return it as a Config; see `load_config`."""
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    assert given.keys() <= {*_TOP, *_DATA, *_MODEL}, f"overrides must be keys of the config: {given}"
    top = _values(content, _TOP, given, where, where)
    data = _values(top["data"], _DATA, given, where, f"{where}, data")
    model = _values(top["model"], _MODEL, given, where, f"{where}, model")
    work_path = Path("" if "WORK_PATH" in given else folder, top["WORK_PATH"])
    if data["dataset_path"] and "dataset_path" not in given:
        data["dataset_path"] = str(folder / data["dataset_path"])
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
    "profiling": (None, Rule(object, IS_PROFILING)), **dict.fromkeys(("start_step", "stop_step"), (-1, between(-1))),
}  # fmt: skip
_DATA = {**_fields(DataConfig), "device_num": (0, between(0, 1 << 10))}
_MODEL = _fields(ModelConfig)


def _values(
    content: Mapping, known: Mapping[str, tuple[Any, Rule]], overrides: Mapping[str, Any], where: str, part: str
) -> dict[str, Any]:
    """Return the value of each known key: the override, the value in `content`, or the default.

    An override replaces its value in `content` without a check of that value, which may be a placeholder such as None.
    Raises UsageError if a key in `content` is unknown, or if one of the returned values is invalid.
    """
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), list(known), n=1)
            raise UsageError(f"{part}: unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ""))
    values = {}
    for key, (default, rule) in known.items():
        override = overrides.get(key)
        if override is None or key == "batch_size":
            values[key] = _valid(key, content.get(key, default), rule, where)
        if override is not None:
            if key == "batch_size":  # --batch_size_p and --batch_size_m can be given separately
                override = tuple(new or old for new, old in zip(override, values[key], strict=True))
            values[key] = _valid(key, override, rule, "command line", f"--{SPELLINGS.get(key, (key,))[0]}")
    return values


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
