"""The argument parser that all commands use, and the types of their options."""

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from model import __version__
from model.common.errors import give_up, report_missing_packages
from model.common.files import is_plain_name

# Every command imports this module before torch. By default, `import torch` also loads installed extensions. If CANN's
# environment is not set, loading torch_npu fails, and `import torch` fails with it. This variable disables the loading.
# `model.devices.extension` imports torch_npu when a command uses an NPU.
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
report_missing_packages()


EXIT_STATUS = "exit status: 0 done, 1 the job failed, 2 bad arguments"


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Format help: keep the layout of the description, name values by their type, and add missing defaults."""

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        names = {int: "N", positive: "N", float: "X", rate: "RATE", Path: "FILE"}
        return names.get(action.type) or super()._get_default_metavar_for_optional(action)

    def _get_help_string(self, action: argparse.Action) -> str:
        lacks_default = action.option_strings and "default" not in action.help.lower()
        if not lacks_default or action.default in (None, "", (), argparse.SUPPRESS):
            return action.help
        return f"{action.help} (default: {'off' if action.default is False else '%(default)s'})"


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
        keywords.setdefault("formatter_class", HelpFormatter)
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
        """Return `args` in which each switch without a value has the value True.

        Otherwise the switch would take the following positional argument as its value.
        """
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
    """Return a function for the `type` of an option, which converts text or reports that it must be `description`.

    `convert` raises ValueError or KeyError for invalid text.
    """

    def parse(text: str) -> Any:
        with suppress(ValueError, KeyError):
            value = convert(text)
            if is_valid(value):
                return value
        raise argparse.ArgumentTypeError(f"must be {description}, not {text!r}")

    return parse


true_or_false = parsed_as(lambda text: {"true": True, "false": False}[text.lower()], "True or False")
positive = parsed_as(int, "a whole number above 0", lambda number: number > 0)
file_name = parsed_as(str, "a file name without / that does not start with a dot", is_plain_name)
rate = parsed_as(float, "a number between 0 and 1, such as 0.01", lambda number: 0 < number < 1)


class Flag(argparse.Action):
    """A switch that also takes the values True and False, like the switches of the original code.

    A switch without a value means True.
    """

    def __init__(self, option_strings: Sequence[str], dest: str, default: bool | None = False, **keywords):
        keywords = {"metavar": "True|False", **keywords}
        super().__init__(option_strings, dest, nargs="?", const=True, default=default, type=true_or_false, **keywords)

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, values)
