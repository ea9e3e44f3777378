"""Arguments of the stand-in for ais_bench: its options, and the checks of paths and values that the real tool makes."""

import argparse
import os
import re
import stat
import sys
import textwrap
from pathlib import Path

TYPER = {"--output_dirname": "--output-dirname", "--divide_input": "--divide-input"}


def error(message: str) -> None:
    print(f"[ERROR] {message}", flush=True)


def info(message: str) -> None:
    print(f"[INFO] {message}", flush=True)


class TyperParser(argparse.ArgumentParser):
    """Report errors as typer does, whose option names differ from those of argparse."""

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
    path = Path.cwd() / value  # not resolved, because a link must be recognized
    if re.search(r"[^_A-Za-z0-9/.-]", str(path)):
        error("path contains illegal char, legal chars include A-Z a-z 0-9 _ - / .")
    elif path.is_symlink():
        error(f"path :{path} is a soft link, not supported, please import file(or directory) directly")
    elif not path.exists():
        if not must_exist:
            return
        error(f"path: {path} not exist, please check if file or dir is exist")
    elif stat.S_IMODE(path.stat().st_mode) & refused_modes:
        error(f"The file {path} is group writable, or is others writable, permission should not be over 0o750")
    else:
        return
    raise argparse.ArgumentTypeError(f"path:{value} is illegal. Please check.")


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


def positive(value: str) -> int:
    if not value.isdigit() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value} is an invalid positive int value")
    return int(value)


def loop_size(value: str) -> int:
    if not value.isdigit() or not 0 < int(value) <= 100_000:
        raise argparse.ArgumentTypeError(f"{value} is an invalid loop size value")
    return int(value)


def device_list(value: str) -> list[int]:
    if not all(number.isdigit() and int(number) <= 255 for number in value.split(",")):
        raise argparse.ArgumentTypeError(f"device:{value} is invalid. valid value range is [0, 255]")
    return [int(number) for number in value.split(",")]


def str2bool(value: str) -> bool:
    if value.lower() not in ("1", "0", "true", "false"):
        raise argparse.ArgumentTypeError("Boolean value expected true, 1, false, 0 with case insensitive.")
    return value.lower() in ("1", "true")


def parse(names: dict[str, str], arguments: list[str]) -> argparse.Namespace:
    parser = (TyperParser if names is TYPER else argparse.ArgumentParser)(allow_abbrev=False)
    parser.add_argument(names.get("--model", "--model"), dest="model", type=om_file, required=True)
    parser.add_argument("--input", type=readable)
    parser.add_argument("--output", type=writable)
    parser.add_argument(names.get("--output_dirname", "--output_dirname"), dest="output_dirname", type=writable)
    parser.add_argument("--outfmt", default="BIN", choices=["NPY", "BIN", "TXT"])
    parser.add_argument(names.get("--batchsize", "--batchsize"), dest="batchsize", type=positive)
    parser.add_argument("--device", type=device_list, default=[0])
    if names is TYPER:
        parser.add_argument("--divide-input", action="store_true")
    elif not os.environ.get("STANDIN_OLD"):
        parser.add_argument(names.get("--divide_input", "--divide_input"), dest="divide_input", type=str2bool)
    parser.add_argument("--loop", type=loop_size, default=1)
    args = parser.parse_args(arguments)
    if args.output_dirname and args.output_dirname[0] == "/":
        raise ValueError("--output_dirname do not support abs path!")
    if args.output_dirname and not args.output:
        error("parameter --output_dirname cann't be used alone. Please use it together with the parameter --output!")
        raise RuntimeError("error bad parameters --output_dirname")
    return args
