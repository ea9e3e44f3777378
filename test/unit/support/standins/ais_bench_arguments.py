"""Parse the arguments of the stand-in for ais_bench, with the same checks of paths and values as in the real tool."""

import argparse
import os
import re
import stat
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

TYPER = {"--output_dirname": "--output-dirname", "--divide_input": "--divide-input"}


def error(message: str) -> None:
    print(f"[ERROR] {message}", flush=True)


def info(message: str) -> None:
    print(f"[INFO] {message}", flush=True)


class TyperParser(argparse.ArgumentParser):
    """A parser that reports errors like the package typer: in a box, and with its message for unknown options."""

    def error(self, message: str):
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        if unknown:
            message = f"No such option: {unknown[1]} Did you mean {TYPER.get(unknown[1], '--model')}?"
        print("Usage: python -m ais_bench [OPTIONS]\nTry 'python -m ais_bench --help' for help.", file=sys.stderr)
        print(f"╭─ Error {'─' * 70}╮", file=sys.stderr)
        for line in textwrap.wrap(message, 76):
            print(f"│ {line:<76} │", file=sys.stderr)
        print(f"╰{'─' * 78}╯", file=sys.stderr)
        sys.exit(2)


def check_path(value: str, refused_modes: int, must_exist: bool) -> None:
    path = Path.cwd() / value  # not resolved, so that symbolic links are recognized
    if re.search(r"[^_A-Za-z0-9/.-]", str(path)):
        error("path contains illegal char, legal chars include A-Z a-z 0-9 _ - / .")
    elif path.is_symlink():
        error(f"path :{path} is a soft link, not supported, please import file(or directory) directly")
    elif must_exist and not path.exists():
        error(f"path: {path} not exist, please check if file or dir is exist")
    elif path.exists() and stat.S_IMODE(path.stat().st_mode) & refused_modes:
        error(f"The file {path} is group writable, or is others writable, permission should not be over 0o750")
    else:
        return
    raise argparse.ArgumentTypeError(f"path:{value} is illegal. Please check.")


def fail(message: str):
    error(message)
    raise RuntimeError(message)


def readable(value: str) -> str:
    for path in value.split(","):
        check_path(path, stat.S_IWGRP | stat.S_IWOTH, must_exist=True)
    return value


def om_file(value: str) -> str:
    if not readable(value).endswith(".om"):
        raise argparse.ArgumentTypeError(f"om path:{value} is illegal. Please check.")
    return value


def writable(value: str) -> str:
    check_path(value, stat.S_IWGRP | stat.S_IRWXO, must_exist=False)
    return value


def checked(is_valid: Callable[[str], bool], problem: str, convert: Callable[[str], object] = int):
    """Return a function for the argument `type` of argparse, which rejects a value if `is_valid` is false for it."""

    def parse(value: str):
        if not is_valid(value):
            raise argparse.ArgumentTypeError(problem.format(value))
        return convert(value)

    return parse


POSITIVE = checked(lambda value: value.isdigit() and int(value) > 0, "{} is an invalid positive int value")
LOOP_SIZE = checked(lambda value: value.isdigit() and 0 < int(value) <= 100_000, "{} is an invalid loop size value")
DEVICES = checked(
    lambda value: all(number.isdigit() and int(number) <= 255 for number in value.split(",")),
    "device:{} is invalid. valid value range is [0, 255]", lambda value: list(map(int, value.split(","))),
)  # fmt: skip
SWITCH = checked(
    lambda value: value.lower() in ("1", "0", "true", "false"),
    "Boolean value expected true, 1, false, 0 with case insensitive.", lambda value: value.lower() in ("1", "true"),
)  # fmt: skip


def parse(names: dict[str, str], arguments: list[str]) -> argparse.Namespace:
    parser = (TyperParser if names is TYPER else argparse.ArgumentParser)(allow_abbrev=False)

    def add(name: str, **keywords) -> None:
        parser.add_argument(names.get(name, name), dest=name[2:], **keywords)

    add("--model", type=om_file, required=True)
    add("--input", type=readable)
    add("--output", type=writable)
    add("--output_dirname", type=writable)
    add("--outfmt", default="BIN", choices=["BIN"])  # the real tool has more formats
    add("--batchsize", type=POSITIVE)
    add("--device", type=DEVICES, default=[0])
    if not os.environ.get("STANDIN_OLD"):
        add("--divide_input", **({"action": "store_true"} if names is TYPER else {"type": SWITCH}))
    add("--loop", type=LOOP_SIZE, default=1)
    args = parser.parse_args(arguments)
    if args.output_dirname and args.output_dirname[0] == "/":
        raise ValueError("--output_dirname do not support abs path!")
    if args.output_dirname and not args.output:
        fail("parameter --output_dirname cann't be used alone. Please use it together with the parameter --output!")
    return args
