"""Argument parser and options that all commands share."""

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from model import __version__
from model.common.errors import UsageError, give_up, report_missing_packages

# Every command imports this module before torch. torch loads installed extensions on import, and torch_npu fails then
# if CANN's environment is not set, even if no NPU is needed. `model.devices.extension` imports it when it is needed.
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
report_missing_packages()


EXIT_STATUS = "exit status: 0 done, 1 the job failed, 2 bad arguments"


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser with one-line errors and suggestions for misspelled options.

    The help keeps the layout of `description` and explains the exit status at the end. Options of the action
    `store_true` accept `--name`, `--name=True` and `--name=False`. With `mixed`, options and positional
    arguments can have any order.
    """

    def __init__(self, mixed: bool = False, **keywords):
        self.mixed = mixed
        keywords.setdefault("epilog", EXIT_STATUS)
        keywords.setdefault("usage", "%(prog)s [OPTION ...]")  # the help lists each option
        keywords.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **keywords)
        self.add_argument("--version", action="version", version=f"GaitSet {__version__}", help="print the version")
        self.register("action", "store_true", Flag)
        for convert, description in ((int, "a whole number"), (float, "a number")):
            self.register("type", convert, parsed_as(convert, description))

    def parse_args(self, args: Sequence[str] | None = None, namespace=None):
        if self.mixed:
            options, unknown = self.parse_known_intermixed_args(self._with_values(args), namespace)
        else:
            options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            name = unknown[0].split("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(name, known, n=1)
            self.error(f"unknown argument {name}" + (f", did you mean {near[0]}?" if near else ""))
        return options

    def _with_values(self, args: Sequence[str] | None) -> list[str]:
        """Give each switch without a value the value True, so that it does not take the next argument as its value."""
        args = sys.argv[1:] if args is None else list(args)
        for place, (name, following) in enumerate(zip(args, [*args, ""][1:], strict=True)):
            if isinstance(self._option_string_actions.get(name), Flag) and following.lower() not in ("true", "false"):
                args[place] = f"{name}=True"
        return args

    def error(self, message: str):
        line = f"{self.prog}: error: {message} (see {self.prog} --help)"
        if give_up(2, line):
            print(line, file=sys.stderr)
        sys.exit(2)


def parsed_as(
    convert: Callable[[str], Any], description: str, is_valid: Callable[[Any], bool] = lambda value: True
) -> Callable[[str], Any]:
    """Return a type of options. `convert` raises ValueError or KeyError for text that is not the `description`."""

    def parse(text: str) -> Any:
        with suppress(ValueError, KeyError):
            value = convert(text)
            if is_valid(value):
                return value
        raise argparse.ArgumentTypeError(f"must be {description}, not {text!r}")

    return parse


true_or_false = parsed_as(lambda text: {"true": True, "false": False}[text.lower()], "True or False")
positive = parsed_as(int, "a whole number above 0", lambda number: number > 0)
rate = parsed_as(float, "a number between 0 and 1, such as 0.01", lambda number: 0 < number < 1)


class Flag(argparse.Action):
    """A switch that also takes True or False, as the switches of the original do. Without a value it means True."""

    def __init__(self, option_strings: Sequence[str], dest: str, default: bool | None = False, **keywords):
        keywords = {"metavar": "True|False", **keywords}
        super().__init__(option_strings, dest, nargs="?", const=True, default=default, type=true_or_false, **keywords)

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, values)


# fmt: off
CONFIG_OPTIONS = {
    "--config": {"metavar": "FILE", "help": "configuration file (default: config_1p.py; config_8p.py with several "
                 "processes)"},
    "--dataset": {"metavar": "NAME", "help": "data set, which selects the protocol: CASIA-B, OUMVLP, CASIA-A, "
                  "Synthetic, or another name (default: from the config)"},
    "--data_path": {"metavar": "DIR", "help": "aligned tree, OpenGait pickle tree or store (default: from the config)"},
    "--pickle": {"metavar": "NAME", "help": "pickle to read if a view contains several: its name without the view, "
                 "such as aligned-sils, or a pattern (default: <view>.pkl, else the only one named aligned, else the "
                 "only one that fits)"},
    "--partition": {"metavar": "FILE", "help": "JSON file with training and test subjects, or `all` for test subjects "
                    "only (default: a split by --pid_num)"},
    "--pid_num": {"type": int, "metavar": "N", "help": "number of training subjects if there is no partition file "
                  "(default: from the config)"},
    "--work_path": {"metavar": "DIR", "help": "folder for checkpoints, partitions, stores, logs and results (default: "
                    "from the config)"},
    "--skip_bad": {"action": "store_true", "help": "skip unreadable images instead of stopping (default: off)"},
}
EXECUTION_OPTIONS = {
    "--device": {"default": "auto", "metavar": "NAME", "help": "auto, cpu, cuda, npu, or a numbered device "
                 "such as cuda:1 (default: auto, which is npu, cuda or cpu)"},
    "--seed": {"type": int, "metavar": "N", "help": "random seed of the initial weights and batches (default: 0)"},
    "--cache": {"action": "store_true", "default": None, "help": "True: read all frames into memory first; False: "
                "never copy all frames to the device (default: frames stay in the memory-mapped store, and training "
                "copies them to the device if they fit)"},
    "--quiet": {"action": "store_true", "help": "print warnings and results only (default: off)"},
}
ENCODER_OPTIONS = {
    "--checkpoint": {"type": Path, "metavar": "FILE", "help": "encoder (default: the newest checkpoint of the config)"},
    "--batch_size": {"type": positive, "default": 0, "metavar": "N", "help": "sequences per batch (default: as many as "
                     "fit)"},
}
PROTOCOL_OPTIONS = {
    "--gallery": {"nargs": "+", "metavar": "TAKE", "help": "takes to search in: names or patterns, such as walk1 or "
                  "'nm-0[1-4]'"},
    "--probe": {"nargs": "+", "metavar": "TAKE", "help": "takes to identify, with or without a condition: walk2, or "
                "NM=nm-05,nm-06 CL=cl-01 (default condition: the name up to its first hyphen, in capitals)"},
}
PRECISION_OPTIONS = {
    "--amp_dtype": {"choices": ("fp16", "bf16"), "help": "data type of --amp torch (default: fp16 on cuda and npu, "
                    "bf16 on cpu)"},
    "--kernels": {"choices": ("auto", "plain"), "help": "auto: Triton kernels if supported, chunks of frames on a CPU; "
                  "plain: torch's kernels only (default: auto)"},
    "--rt2": {"action": "store_true", "help": "NPU: disable the compilation of single operators (default: off)"},
}
# fmt: on


def add_options(group: argparse._ActionsContainer, options: Mapping[str, Mapping[str, Any]], *names: str) -> None:
    """Add options of a table to a parser or group: all, or those with the given names."""
    for name in names or options:
        group.add_argument(name, **options[name])


def add_encoder_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of commands that embed sequences."""
    add_options(group, ENCODER_OPTIONS)


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of all scripts that use a configuration and data."""
    add_options(parser.add_argument_group("data and configuration"), CONFIG_OPTIONS)
    add_options(parser.add_argument_group("execution"), EXECUTION_OPTIONS)


def add_protocol_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for an evaluation protocol with the user's own takes."""
    add_options(parser.add_argument_group("protocol (default: selected by --dataset)"), PROTOCOL_OPTIONS)


def add_precision_options(parser: argparse.ArgumentParser, amp: tuple[str, ...]) -> argparse._ArgumentGroup:
    """Add the options for mixed precision and kernels."""
    group = parser.add_argument_group("precision")
    group.add_argument("--amp", choices=amp, help="mixed precision (default: off)")
    add_options(group, PRECISION_OPTIONS)
    return group


def check_precision_options(options: argparse.Namespace, amp: str) -> None:
    """Reject precision options that would have no effect in this run. Config values are exempt."""
    for name, modes in (("amp_dtype", "torch"), ("loss_scale", "torch or apex")):
        value = getattr(options, name, None)
        if value is not None and amp == "off":
            raise UsageError(f"--{name} {value} needs --amp {modes}, but this run uses float32 (--amp off)")
