"""Convert one ONNX file to one om. The om is written only if exit status, message and files of atc show success."""

import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from model.common.errors import UserError
from model.common.files import atomic_file
from model.export.atc.advice import FAILURE, MISSING_DRIVER, SUCCESS, explain
from model.export.atc.arguments import check_path, find_atc
from model.export.atc.commands import environment_for, open_log, run_logged


class Source(NamedTuple):
    """A checked model, with the name and the static shape of its input."""

    path: Path
    name: str
    shape: list[int]


def convert(
    source: Source, om: Path, soc_version: str, options: Sequence[str] = (), log_file: Path | None = None
) -> dict[str, Any]:
    """Convert `source` to `om` for `soc_version`. An existing `om` is kept if the conversion fails.

    Args:
        options: further options of atc, --name=value each.
        log_file: receives atc's output (default: next to `om`).

    Returns:
        A summary: paths, settings and versions of the conversion, size and checksum of the om, and the duration.

    Raises:
        UserError: atc failed.
    """
    start = time.perf_counter()
    atc, om = find_atc(), check_path(om)
    with open_log(log_file or om.with_suffix(".atc.log")) as log, atomic_file(om) as part:
        # A temporary folder, because atc leaves files such as kernel_meta in its working directory.
        with tempfile.TemporaryDirectory(prefix=f".{om.stem}.", dir=om.parent) as scratch:
            stem = Path(scratch) / om.stem
            command = command_for(atc, source, stem, soc_version, options)
            run_atc(command, stem, log).replace(part)
        content = part.read_bytes()
    return {
        "om": str(om), "model": str(source.path), "soc_version": soc_version, "batch_size": source.shape[0],
        "input": {source.name: source.shape}, "atc": str(atc), "options": list(options), "cann": cann_version(atc),
        "log": log.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(),
        "seconds": round(time.perf_counter() - start, 3),
    }  # fmt: skip


def command_for(atc: Path, source: Source, stem: Path, soc_version: str, options: Sequence[str]) -> list[str]:
    """Return the command of the published conversion. `stem` is the path of the om without .om, which atc appends."""
    log = [] if any(option.startswith("--log=") for option in options) else ["--log=error"]
    return [*model_options(atc, source, stem), f"--soc_version={soc_version}", *log, *options]


def model_options(tool: Path, source: Source, stem: Path) -> list[str]:
    """Return the beginning of a command of atc or aoe. Framework 5 is ONNX."""
    shape = f"--input_shape={source.name}:{','.join(map(str, source.shape))}"
    return [str(tool), "--framework=5", f"--model={source.path}", f"--output={stem}", shape]


def run_atc(command: Sequence[str], stem: Path, log: TextIO) -> Path:
    """Run `command` and return the path of the om. Raise UserError if atc does not succeed.

    atc succeeds if it ends with status 0, prints its success line, and writes one om with content. The name of the om
    starts with `stem`, and some versions of atc append the host's system and processor.
    """
    environment = environment_for(command[0])
    output, status = run_logged(command, stem.parent, log, environment)
    if status != 0 and MISSING_DRIVER in output:
        fallback = _driver_stub_folder(Path(command[0]))
        if fallback is not None:
            # The folder also holds empty copies of other libraries, so it is searched last.
            log.write(f"\nretry with {fallback} at the end of LD_LIBRARY_PATH, because there is no NPU driver\n")
            paths = [environment.get("LD_LIBRARY_PATH", ""), str(fallback)]
            environment["LD_LIBRARY_PATH"] = ":".join(filter(None, paths))
            output, status = run_logged(command, stem.parent, log, environment)
    see_log = f"its output is in {log.name}"
    if status != 0 or FAILURE in output:
        python = shutil.which("python3", path=environment.get("PATH")) or "python3"
        raise UserError(f"atc failed with status {status}: {explain(output, status, python)}; {see_log}")
    if SUCCESS not in output:
        raise UserError(f"atc ended with status 0 but did not report success; {see_log}")
    candidates = (stem.with_name(f"{stem.name}.om"), *stem.parent.glob(f"{stem.name}_*.om"))
    found = [path for path in candidates if path.is_file()]
    if len(found) != 1 or not found[0].stat().st_size:
        names = ", ".join(path.name for path in found) or "none"
        raise UserError(f"atc reported success, but instead of one om with content it left: {names}; {see_log}")
    return found[0]


def cann_version(atc: Path) -> str | None:
    """Return the version of the CANN installation that `atc` belongs to; None if its files do not state it."""
    for info in (info for home in _homes(atc) for info in sorted(home.glob("*-linux/ascend_toolkit_install.info"))):
        with suppress(OSError):
            match = re.search(r"^version=(\S+)", info.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
            if match:
                return match[1]
    return None


def _driver_stub_folder(atc: Path) -> Path | None:
    """Return the folder of CANN's copy of the driver library, for machines without the driver. None if not found."""
    subfolders = (f"{platform.machine()}-linux/devlib", "devlib", "runtime/lib64/stub")
    folders = [home / subfolder for home in _homes(atc) for subfolder in subfolders]
    return next((folder for folder in folders if (folder / "libascend_hal.so").exists()), None)


def _homes(atc: Path) -> list[Path]:
    """Return folders that may be atc's installation of CANN: from set_env.sh's variables, and the parents of `atc`."""
    named = [os.environ.get(name) for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH")]
    return [*(Path(name) for name in named if name), atc.parent.parent, *atc.resolve().parents[1:3]]
