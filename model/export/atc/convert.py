"""One ONNX file -> one om, which appears whole or not at all, and only when atc says yes in every way it can."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from model.common.errors import UserError
from model.common.files import told, whole_file
from model.export.atc.advice import FAILURE, MISSING_DRIVER, SUCCESS, explain
from model.export.atc.arguments import check_path, find_atc
from model.export.lint import INPUT_NAME, lint_onnx
from model.export.onnx_file import load_onnx


def convert(
    model: Path, om: Path, soc_version: str, options: Sequence[str] = (), log_file: Path | None = None
) -> dict[str, Any]:
    """Make `om` of `model`, for `soc_version`. All that atc prints goes to `log_file` (beside `om`, where None).

    Returns facts for the log. Raises UserError when the model is none for ATC or atc fails, in one line; what
    stood at `om` is then still there.
    """
    start = time.perf_counter()
    atc, model, om = find_atc(), check_path(model), check_path(om)
    log_file = (log_file or om.with_suffix(".atc.log")).resolve()
    shape = _input_shape(model)
    with _opened(log_file) as log, whole_file(om) as part:
        # atc leaves files of its own, such as kernel_meta, in the folder that it runs in.
        with tempfile.TemporaryDirectory(prefix=f".{om.stem}.", dir=om.parent) as scratch:
            command = command_for(atc, model, Path(scratch) / om.stem, shape, soc_version, options)
            run_atc(command, Path(scratch), log).replace(part)
        content = part.read_bytes()
    return {
        "om": str(om),
        "model": str(model),
        "soc_version": soc_version,
        "batch_size": shape[0],
        "input": {INPUT_NAME: shape},
        "atc": str(atc),
        "options": list(options),
        "cann": cann_version(atc),
        "log": str(log_file),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "seconds": round(time.perf_counter() - start, 3),
    }


def command_for(
    atc: Path, model: Path, stem: Path, shape: Sequence[int], soc_version: str, options: Sequence[str]
) -> list[str]:
    """The published command. `stem` is the om without its suffix, which atc appends. ONNX is framework 5."""
    sizes = ",".join(map(str, shape))
    log = [] if any(option.startswith("--log=") for option in options) else ["--log=error"]
    return [
        *(str(atc), "--framework=5", f"--model={model}", f"--output={stem}"),
        *(f"--input_shape={INPUT_NAME}:{sizes}", f"--soc_version={soc_version}", *log, *options),
    ]


def run_atc(command: Sequence[str], folder: Path, log: TextIO) -> Path:
    """Run `command` in `folder`; returns the om that it left there. Raises UserError unless it succeeded.

    Success is exit status 0, the line that says so, and one om, under the name given or with the system and
    processor of the host in it.
    """
    environment = environment_for(command[0])
    output, status = _run(command, folder, environment, log)
    if status != 0 and MISSING_DRIVER in output:
        stand_by = _driver_of_cann(Path(command[0]))
        if stand_by is not None:
            # Last, because empty twins of other libraries lie beside it.
            log.write(f"\nagain, with {stand_by} at the end of LD_LIBRARY_PATH, because there is no NPU driver\n")
            paths = [environment.get("LD_LIBRARY_PATH", ""), str(stand_by)]
            environment["LD_LIBRARY_PATH"] = ":".join(filter(None, paths))
            output, status = _run(command, folder, environment, log)
    named = f"its output is in {log.name}"
    if status != 0 or FAILURE in output:
        python = shutil.which("python3", path=environment.get("PATH")) or "python3"
        raise UserError(f"atc failed with status {status}: {explain(output, status, python)}; {named}")
    if SUCCESS not in output:
        raise UserError(f"atc ended with status 0 but did not report success; {named}")
    stem = Path(next(option for option in command if option.startswith("--output=")).partition("=")[2])
    found = [path for path in (stem.with_name(f"{stem.name}.om"), *folder.glob(f"{stem.name}_*.om")) if path.is_file()]
    if len(found) != 1 or not found[0].stat().st_size:
        names = ", ".join(path.name for path in found) or "none"
        raise UserError(f"atc reported success, but of the one {stem.name}.om expected there is {names}; {named}")
    return found[0]


def _run(command: Sequence[str], folder: Path, environment: dict[str, str], log: TextIO) -> tuple[str, int]:
    """What `command` printed, both streams together, and how it ended. `log` gets both."""
    log.write(f"$ {shlex.join(command)}\n")
    log.flush()
    begin = os.fstat(log.fileno()).st_size
    try:
        status = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        ).returncode
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be run ({error.strerror}); is it CANN's atc for this machine?") from None
    with Path(log.name).open("rb") as written:
        written.seek(begin)
        output = written.read().decode("utf-8", errors="replace")
    log.seek(0, os.SEEK_END)
    log.write(f"\nexit status {status}\n")
    return output, status


def environment_for(atc: str) -> dict[str, str]:
    """This process's environment, so that atc finds a python3 which it can work with.

    atc compiles operators with the first python3 on the PATH. Where that is the one of this program, in an
    environment without the packages that CANN asks for, the next one is more likely to do.
    """
    environment = dict(os.environ)
    own = Path(sys.prefix) / "bin"
    if sys.prefix != sys.base_prefix and importlib.util.find_spec("decorator") is None and Path(atc).parent != own:
        folders = environment.get("PATH", "").split(os.pathsep)
        environment["PATH"] = os.pathsep.join(folder for folder in folders if Path(folder) != own)
        environment.pop("VIRTUAL_ENV", None)
    return environment


def cann_version(atc: Path) -> str | None:
    """The version of the CANN that `atc` belongs to, None where its files do not say."""
    for home in _homes(atc):
        for info in sorted(home.glob("*-linux/ascend_toolkit_install.info")):
            with suppress(OSError):
                match = re.search(r"^version=(\S+)", info.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
                if match:
                    return match[1]
    return None


def _driver_of_cann(atc: Path) -> Path | None:
    """The folder in which CANN keeps a twin of the driver's library for machines without an NPU."""
    places = (f"{platform.machine()}-linux/devlib", "devlib", "runtime/lib64/stub")
    folders = [home / place for home in _homes(atc) for place in places]
    return next((folder for folder in folders if (folder / "libascend_hal.so").exists()), None)


def _homes(atc: Path) -> list[Path]:
    """Where the CANN of `atc` may lie: what set_env.sh says, and around the command itself."""
    named = [os.environ.get(name) for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH")]
    return [*(Path(name) for name in named if name), atc.parent.parent, *atc.resolve().parents[1:3]]


def _opened(log_file: Path) -> TextIO:
    with told(log_file):
        log_file.parent.mkdir(parents=True, exist_ok=True)
        return log_file.open("w", encoding="utf-8", errors="replace")


def _input_shape(model: Path) -> list[int]:
    """[n, s, 64, 44] of a model that ATC should take; UserError with the first reason why not."""
    problems = lint_onnx(model)
    if problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise UserError(f"{model}: does not suit ATC: {problems[0]}{more}")
    value = next(value for value in load_onnx(model).graph.input if value.name == INPUT_NAME)
    return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
