"""Tune the operators of a model with CANN's `aoe` before atc compiles it, which then uses the tuned versions.

Command, report and success line follow CANN's AOE guide (pages on offline inference) and the model zoo, which tunes
operators (job type 2). aoe measures on the NPU of this machine and can take hours. It stores the tuned versions in the
folder $TUNE_BANK_PATH, else below ~/Ascend, where atc looks for them.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from model.common.files import os_errors_as_user_errors
from model.export.atc.arguments import check_path
from model.export.atc.convert import environment_for, input_of, run_logged

logger = logging.getLogger(__name__)

SUCCESS = "Aoe process finished"
OPERATORS = "2"  # job type: tune single operators; 1 tunes the division into subgraphs
_BEFORE, _AFTER = "model_baseline_performance(ms)", "model_result_performance(ms)"


def tune(
    model: Path,
    om: Path,
    options: Sequence[str] = (),
    log_file: Path | None = None,
    input_shape: Sequence[int] | None = None,
    lint: bool = True,
) -> dict[str, Any] | None:
    """Run aoe on `model` and keep its report as `<om>.aoe.json`.

    Without aoe, or if it fails, a warning says so: the model can be converted without tuning.

    Args:
        options: further options of aoe, --name=value each.
        log_file: receives the output of aoe (default: next to `om`).
        input_shape: sizes of the input, for a model with a symbolic batch size (default: those of the model).
        lint: check that the model suits ATC.

    Returns:
        The report's path, milliseconds per batch before and after if the report has them, and the duration; None if
        nothing was tuned.
    """
    model, om = check_path(model), check_path(om)
    report = om.with_suffix(".aoe.json")
    report.unlink(missing_ok=True)  # of an earlier run
    name, shape = input_of(model, input_shape, lint)
    aoe = shutil.which("aoe")
    if aoe is None:
        logger.warning(
            "aoe is not on the PATH: %s is converted without tuning; aoe is part of CANN's toolkit", model.name
        )
        return None
    log_file, start = (log_file or om.with_suffix(".aoe.log")).resolve(), time.perf_counter()
    with os_errors_as_user_errors(log_file):
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log = log_file.open("w", encoding="utf-8", errors="replace")
    with log, tempfile.TemporaryDirectory(prefix=f".{om.stem}.", dir=om.parent) as scratch:
        command = command_for_aoe(aoe, model, Path(scratch) / om.stem, name, shape, options)
        output, status = run_logged(command, Path(scratch), environment_for(aoe), log)
        if status != 0 or SUCCESS not in output:
            problem = f"failed with status {status}" if status else f"did not print `{SUCCESS}`"
            logger.warning("aoe %s: %s is converted without tuning; its output is in %s", problem, model.name, log_file)
            return None
        reports = sorted(Path(scratch).glob("aoe_result_*.json"))
        if reports:
            with os_errors_as_user_errors(report):
                shutil.copyfile(reports[-1], report)
    before, after = figures_of_report(report) if reports else (None, None)
    return {
        "report": str(report) if reports else None,
        "milliseconds_before": before,
        "milliseconds_after": after,
        "log": str(log_file),
        "seconds": round(time.perf_counter() - start, 3),
    }


def command_for_aoe(
    aoe: str, model: Path, stem: Path, name: str, shape: Sequence[int], options: Sequence[str]
) -> list[str]:
    """Return the published command. aoe reads the SoC from the machine's NPU and appends .om to `stem`."""
    sizes = ",".join(map(str, shape))
    return [
        *(aoe, "--framework=5", f"--model={model}", f"--job_type={OPERATORS}", f"--output={stem}"),
        *(f"--input_shape={name}:{sizes}", "--log=error", *options),
    ]


def figures_of_report(report: Path) -> tuple[float | None, float | None]:
    """Return the milliseconds per batch before and after tuning. None if the report does not contain them."""
    try:
        values = dict(_numbers(json.loads(report.read_text(encoding="utf-8", errors="replace"))))
    except (ValueError, RecursionError):
        return None, None
    return values.get(_BEFORE), values.get(_AFTER)


def _numbers(content: Any) -> Iterator[tuple[str, float]]:
    """Yield all numbers with a name in nested lists and objects."""
    if isinstance(content, list):
        for item in content:
            yield from _numbers(item)
    elif isinstance(content, dict):
        for name, value in content.items():
            if type(value) in (int, float):
                yield name, float(value)
            else:
                yield from _numbers(value)
