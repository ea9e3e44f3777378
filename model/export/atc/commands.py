"""Run commands of Ascend's software in a suitable environment, and return or log their output."""

import importlib.util
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from model.common.errors import os_errors_as
from model.common.files import os_errors_as_user_errors

TIMEOUT = 60  # seconds; npu-smi can hang if the driver has a problem


def output_of(
    command: Sequence[str], environment: Mapping[str, str] | None = None, must_succeed: bool = True
) -> str | None:
    """Return the standard output of a command. None if it is missing or hangs, or if it fails and `must_succeed`."""
    try:
        return subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
            errors="replace", timeout=TIMEOUT, check=must_succeed,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None


def open_log(path: Path) -> TextIO:
    """Create the folder of a log file, and open the file for writing."""
    path = path.resolve()
    with os_errors_as_user_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", encoding="utf-8", errors="replace")


def run_logged(
    command: Sequence[str], folder: Path, log: TextIO, environment: Mapping[str, str] | None = None
) -> tuple[str, int]:
    """Run `command` in `folder`, append its output to `log`, and return the output (both streams) and the exit status.

    Raises UserError if the command cannot be started.
    """
    log.write(f"$ {shlex.join(command)}\n")
    log.flush()
    begin = os.fstat(log.fileno()).st_size
    with os_errors_as(f"{command[0]}: cannot be run", "check that it is the tool of CANN for this machine"):
        status = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        ).returncode
    with Path(log.name).open("rb") as written:
        written.seek(begin)
        output = written.read().decode("utf-8", errors="replace")
    log.seek(0, os.SEEK_END)
    log.write(f"\nexit status {status}\n")
    return output, status


def environment_for(atc: str) -> dict[str, str]:
    """Return this process's environment, changed so that atc finds a suitable python3.

    atc compiles operators with the first python3 on the PATH. If the virtual environment of this program lacks the
    packages that CANN needs, this environment is removed from the PATH, unless it contains `atc`.
    """
    environment = dict(os.environ)
    own_bin = Path(sys.prefix) / "bin"
    if sys.prefix != sys.base_prefix and importlib.util.find_spec("decorator") is None and Path(atc).parent != own_bin:
        folders = environment.get("PATH", "").split(os.pathsep)
        environment["PATH"] = os.pathsep.join(folder for folder in folders if Path(folder) != own_bin)
        environment.pop("VIRTUAL_ENV", None)
    return environment
