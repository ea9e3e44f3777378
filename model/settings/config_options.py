"""Add options to the commands: options that several commands share, and options that override configuration keys."""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from model.common.command_line import positive
from model.common.errors import UsageError
from model.config import DataConfig, ModelConfig
from model.settings.config_file import SPELLINGS

_SHARED = {
    "config": {"metavar": "FILE", "help": "configuration file (default: config_1p.py, or config_8p.py for several "
               "processes)"},
    "partition": {"metavar": "FILE", "help": "JSON file that lists the training subjects and the test subjects, or "
                  "`all`, which makes all subjects test subjects (default: a split by --pid_num)"},
    "work_path": {"metavar": "DIR", "help": "folder for checkpoints, partitions, stores, logs and results (default: "
                  "from the config)"},
    "skip_bad": {"action": "store_true", "help": "skip unreadable images instead of stopping"},
    "device": {"default": "auto", "metavar": "NAME", "help": "auto, cpu, cuda, npu, or a numbered device such "
               "as cuda:1 (default: auto, which is the first available one of npu, cuda and cpu)"},
    "cache": {"action": "store_true", "default": None, "help": "True: read all frames into memory first; False: never "
              "copy all frames to the device (default: frames stay in the memory-mapped store, and training copies "
              "them to the device if they fit)"},
    "quiet": {"action": "store_true", "help": "print only warnings and results"},
    "checkpoint": {"type": Path, "help": "encoder to use (default: the checkpoint of the config)"},
    "batch_size": {"type": positive, "default": 0, "help": "sequences per batch (default: as many as fit)"},
    "rt2": {"action": "store_true", "help": "NPU: disable the compilation of single operators"},
}  # fmt: skip
_BY_KIND = {
    bool: {"action": "store_true", "default": None}, int: {"type": int}, float: {"type": float},
    str: {"metavar": "NAME"}, tuple: {"nargs": "+", "metavar": "TAKE"}, object: {"metavar": "DIR"},
}  # fmt: skip
_KEYS = {f.name: f.metadata for part in (DataConfig, ModelConfig) for f in fields(part)}


def add_options(group: argparse._ActionsContainer, *names: str, **keywords: Any) -> None:
    """Add the options `names`, which are in `_SHARED` or override keys. `keywords` change the options of keys."""
    for name in names:
        if name in _SHARED:
            group.add_argument(f"--{name}", **_SHARED[name])
            continue
        rule, meaning = _KEYS[name]["rule"], _KEYS[name]["meaning"]
        how = {"choices": tuple(filter(None, rule.choices))} if rule.choices else _BY_KIND[rule.kind]
        how = {**how, "help": f"{meaning} (default: from the config)", **keywords}
        group.add_argument(*(f"--{one}" for one in SPELLINGS.get(name, (name,))), **how)


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of all commands that use a configuration and data."""
    group = parser.add_argument_group("data and configuration")
    add_options(group, "config", "dataset", "dataset_path", "pickle", "partition", "pid_num", "work_path", "skip_bad")
    add_options(parser.add_argument_group("execution"), "device", "seed", "cache", "quiet")


def add_precision_options(parser: argparse.ArgumentParser, *amp: str) -> argparse._ArgumentGroup:
    """Add the options for mixed precision, where `amp` are the choices of --amp, and for kernels."""
    group = parser.add_argument_group("precision")
    add_options(group, "amp", choices=amp)
    add_options(group, "amp_dtype", "kernels", "rt2")
    return group


def check_precision_options(options: argparse.Namespace, amp: str) -> None:
    """Reject precision options that would have no effect in this run. Config values are exempt."""
    for name, modes in (("amp_dtype", "torch"), ("loss_scale", "torch or apex")):
        value = getattr(options, name, None)
        if value is not None and amp == "off":
            raise UsageError(f"--{name} {value} needs --amp {modes}, but this run uses float32 (--amp off)")
