"""Run the shell drivers with option values that a shell could execute, and record the commands that they start."""

import re
from pathlib import Path

from ascend import executable
from options_page import driver_options
from scripts import BARE, ROOT, run_quietly

MARKER = "was_here"  # the file that a value creates if it is executed
OPTIONS = {path.name: driver_options(path) for path in (ROOT / "test").glob("*.sh")}
DRIVERS = sorted(p.name for p in (ROOT / "test").glob("*.sh") if p.read_text().startswith("#!"))  # others are sourced
VALUES = [
    "$(touch was_here)", "'\"'; touch was_here #", "a[$(touch was_here)]", "a\ntouch was_here", "-rf /", "步态 数据",
    "~/$HOME/*?[a-z]{b,c}", "`touch was_here`", "; touch was_here ;", "| touch was_here", "&& touch was_here",
    "'; touch was_here; '", '"; touch was_here; "', "${IFS}touch${IFS}was_here", "<(touch was_here)", "--help",
    "x\\\"$(touch was_here)", "%s%n\\n\\x41", "!$ !!", "a\r\ntouch was_here", "a\x1b[2J", " blanks  at both ends ",
]  # fmt: skip
# Options that a driver parses itself, with a valid value: all flags, and the options that are named here. A driver
# passes all other options to a command.
PARSED_OPTIONS = {
    name: "False" for options in OPTIONS.values() for name, default, _ in options if default == "False"
} | {
    "batch_sizes": "1", "processes": "1", "onnx_only": "True", "cann_path": "", "device": "cpu", "loop": "2",
    "runtime": "onnxruntime", "bin_path": "bins", "config": "", "device_id": "0", "partition": "all", "aoe": "both",
    "subjects": "36", "pid_num": "20", "frames": "20", "iters": "2", "seed": "0",
}  # fmt: skip
RECORDER = r"""#!/usr/bin/env bash
printf '%s\0' "$@" >> "$ARGUMENTS"
case "$*" in
  *processes_possible*) echo 1 ;;
  *model.export.atc*) echo Ascend310 ;;
  *json.load*) echo checkpoint.ptm ;;
esac
"""


def options_of(driver: str) -> list[str]:
    """Return the names of the options that the driver declares."""
    return [name for name, _, _ in OPTIONS[driver]]


def prepare(folder: Path) -> None:
    """Write the script that records its arguments in place of Python, and a file that drivers require at the start."""
    executable(folder / "record", RECORDER)
    (folder / "bins.info").touch()


def nothing_ran(folder: Path) -> bool:
    """Return whether the file MARKER does not exist, which a value would create if a shell executed it."""
    return not any(list(place.rglob(MARKER)) for place in (folder, ROOT / "test")) and not (ROOT / MARKER).exists()


def run(folder: Path, driver: str, options: dict[str, str], way: str) -> tuple[int, str, list[str]]:
    """Run a driver, and return its exit status, its stderr, and the arguments of all commands that it starts.

    Args:
        way: `arguments` or `environment`, the way in which the options are given.
    """
    record = folder / "arguments"
    record.unlink(missing_ok=True)
    arguments = [f"--{name}={value}" for name, value in options.items()] if way == "arguments" else []
    variables = {name.upper(): value for name, value in options.items()} if way == "environment" else {}
    fixed = {"HOME": str(folder), "LC_ALL": "C.UTF-8", "PYTHON": str(folder / "record"), "ARGUMENTS": str(record)}
    done = run_quietly(["bash", str(ROOT / "test" / driver), *arguments], folder, fixed | variables, BARE)
    started = record.read_bytes().decode().split("\0") if record.exists() else []
    return done.returncode, done.stderr, started


def check_passed_options(folder: Path, driver: str, value: str, way: str) -> None:
    """Check that a command receives `value` of each passed option as one argument, or that one line rejects `value`."""
    names = [name for name in options_of(driver) if name not in PARSED_OPTIONS]
    parsed = {name: known for name, known in PARSED_OPTIONS.items() if name in options_of(driver)}
    if not re.search(r"[\x00-\x1f]", value):
        (folder / value).mkdir(parents=True, exist_ok=True)  # drivers check that paths exist
    status, stderr, started = run(folder, driver, dict.fromkeys(names, value) | parsed, way)
    if names and re.search(r"[\x00-\x1f]", value):
        assert status == 2 and "must be one line without control characters" in stderr and not started, stderr
        assert len(stderr.splitlines()) == 1
    elif names:
        forms = [value, f"{folder}/{value}", *(f"--{name}={value}" for name in names)]
        assert any(argument in forms or argument.startswith(f"{folder}/{value}/") for argument in started), stderr
        assert status == 0, stderr


def check_parsed_option(folder: Path, driver: str, name: str, value: str, way: str) -> None:
    """Check that the driver accepts the value of an option that it parses itself, or rejects the value in one line."""
    options = {n: known for n, known in PARSED_OPTIONS.items() if n in options_of(driver)} | {name: value}
    status, stderr, _ = run(folder, driver, options, way)
    errors = [line for line in stderr.splitlines() if "error:" in line]
    assert status in (0, 1, 2) and len(errors) == (status != 0), (driver, name, value, stderr)
