"""What the command lines of this repository have in common."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence

from model.common.errors import UsageError

# Every command imports this first, and before torch. Installed extensions of torch load themselves with it, and
# torch_npu, where CANN's environment is not set, then breaks `import torch` even where no NPU is wanted.
# `model.devices.device` imports it when one is.
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")


EXIT_STATUS = "exit status: 0 done, 1 the job failed, 2 bad arguments"


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser whose help reads like a manual page, with `description` as it is laid out and what the exit
    status means at its end; whose errors are one line each, and which suggests the near name of an unknown option."""

    def __init__(self, **keywords):
        keywords.setdefault("epilog", EXIT_STATUS)
        keywords.setdefault("usage", "%(prog)s [OPTION ...]")  # below, each option has its line
        keywords.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **keywords)

    def parse_args(self, args: Sequence[str] | None = None, namespace=None):
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            name = unknown[0].split("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(name, known, n=1)
            self.error(f"unknown argument {name}" + (f", did you mean {near[0]}?" if near else ""))
        return options

    def error(self, message: str):
        print(f"{self.prog}: error: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def true_or_false(text: str) -> bool:
    """The `True/False` options of the original's scripts; also `true/false`, anything else is an error."""
    if text in ("True", "true"):
        return True
    if text in ("False", "false"):
        return False
    raise argparse.ArgumentTypeError(f"must be True or False, not {text!r}")


def positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return number


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """The options that mean the same in every script that works with a configuration and data."""
    group = parser.add_argument_group("what to work on")
    group.add_argument(
        "--config", metavar="FILE", help="configuration (default: config_1p.py, for several processes config_8p.py)"
    )
    group.add_argument("--dataset", metavar="NAME", help="CASIA-B, OUMVLP, CASIA-A or Synthetic: picks the protocol")
    group.add_argument("--data_path", metavar="DIR", help="aligned tree, OpenGait pickle tree or store")
    group.add_argument("--partition", metavar="FILE", help="JSON partition, or `all`: every subject is a test subject")
    group.add_argument("--pid_num", type=int, metavar="N", help="the first N subjects train, where no file says so")
    group.add_argument("--work_path", metavar="DIR", help="where checkpoints, partitions and results are kept")
    group.add_argument("--skip_bad", action="store_true", help="leave unreadable images out instead of stopping")
    group = parser.add_argument_group("how to run")
    group.add_argument(
        "--device", default="auto", metavar="NAME", help="auto, cpu, cuda, npu, or cuda:1 (default: auto)"
    )
    group.add_argument("--seed", type=int, metavar="N", help="of initial weights and batches (default: 0)")
    group.add_argument(
        "--cache",
        type=true_or_false,
        metavar="True|False",
        help="True: read all frames into memory now; False: not even into the device's, where training puts them when "
        "they fit (default: they stay in the memory-mapped store and, in training, on the device)",
    )
    group.add_argument("--quiet", action="store_true", help="no progress bars, only warnings and results")


def add_precision_options(parser: argparse.ArgumentParser, amp: tuple[str, ...]) -> argparse._ArgumentGroup:
    """The options that say how exactly the network computes."""
    group = parser.add_argument_group("precision")
    group.add_argument("--amp", choices=amp, help="mixed precision (off)")
    group.add_argument("--amp_dtype", choices=("fp16", "bf16"), help="of --amp torch (the device's own)")
    group.add_argument(
        "--kernels", choices=("auto", "plain"), help="plain: torch's own even where the project has faster ones (auto)"
    )
    group.add_argument(
        "--rt2", action="store_true", help="NPU: no compilation of single operators, anew for each shape"
    )
    return group


def check_precision_options(options: argparse.Namespace, amp: str) -> None:
    """What the command line says of a precision must have an effect. A config may hold it for another time."""
    for name, modes in (("amp_dtype", "torch"), ("loss_scale", "torch or apex")):
        value = getattr(options, name, None)
        if value is not None and amp == "off":
            raise UsageError(f"--{name} {value} goes with --amp {modes}, and this run is in float32 (--amp off)")
