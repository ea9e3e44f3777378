"""Tune a model with CANN's tool `aoe`. atc then compiles the model with the tuned subgraphs and operators.

Command, job types, report and success line follow CANN's AOE guide (pages on offline inference) and the model zoo. The
guide recommends tuning subgraphs (job type 1, not on A2 and A3) before operators (job type 2). The model zoo mostly
tunes operators only. aoe measures on the NPU of this machine and can take hours. It stores its results in the folder
$TUNE_BANK_PATH, or below ~/Ascend if this variable is not set. atc reads the results from there.
"""

import json
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.common.files import os_errors_as_user_errors
from model.export.atc.arguments import check_path
from model.export.atc.commands import environment_for, open_log, run_logged
from model.export.atc.convert import Source, model_options

logger = logging.getLogger(__name__)

SUCCESS = "Aoe process finished"
JOBS = {"1": "subgraphs", "2": "operators"}  # job types of aoe
CHOICES = {"1": "1", "2": "2", "both": "12"}  # values of --aoe and the job types that they run
_REPORTS = {"1": ".aoe_subgraphs.json", "2": ".aoe.json"}
_BEFORE, _AFTER = "model_baseline_performance(ms)", "model_result_performance(ms)"


def tune(
    source: Source, om: Path, jobs: Sequence[str], options: Sequence[str] = (), log_file: Path | None = None
) -> list[dict[str, Any]]:
    """Run the jobs of aoe on `source` and keep their reports next to `om` as .aoe_subgraphs.json and .aoe.json.

    If aoe is missing or a job fails, log a warning and continue, because a model can be converted without tuning.

    Args:
        jobs: job types of aoe, keys of JOBS.
        options: further options of aoe, --name=value each.
        log_file: receives the output of aoe (default: next to `om`).

    Returns:
        One dict per successful job: the tuned part, the path of the report, the milliseconds per batch before and after
        tuning (None if the report lacks them), the path of the log, and the duration.
    """
    om, name, tuned = check_path(om), source.path.name, []
    for suffix in _REPORTS.values():
        om.with_suffix(suffix).unlink(missing_ok=True)  # reports of earlier runs
    aoe = shutil.which("aoe")
    if aoe is None:
        logger.warning("aoe is not on the PATH: %s is converted without tuning; aoe is part of CANN's toolkit", name)
        return []
    environment = environment_for(aoe)
    environment.pop("ASCEND_WORK_PATH", None)  # aoe would write its report to this folder
    with open_log(log_file or om.with_suffix(".aoe.log")) as log:
        for job in jobs:
            start = time.perf_counter()
            with tempfile.TemporaryDirectory(prefix=f".{om.stem}.", dir=om.parent) as scratch:
                # Without --soc_version, because aoe tunes for the NPU of this machine.
                command = [*model_options(aoe, source, Path(scratch) / om.stem), f"--job_type={job}", "--log=error"]
                output, status = run_logged([*command, *options], Path(scratch), log, environment)
                if status != 0 or SUCCESS not in output:
                    problem = f"failed with status {status}" if status else f"did not print `{SUCCESS}`"
                    logger.warning("aoe %s: %s is converted without tuned %s; its output is in %s", problem, name,
                                   JOBS[job], log.name)  # fmt: skip
                    continue
                report = _keep_report(Path(scratch), om.with_suffix(_REPORTS[job]))
            before, after = figures_of_report(report) if report else (None, None)
            tuned.append({
                "tuned": JOBS[job], "report": report and str(report), "milliseconds_before": before,
                "milliseconds_after": after, "log": log.name, "seconds": round(time.perf_counter() - start, 3),
            })  # fmt: skip
    return tuned


def _keep_report(folder: Path, target: Path) -> Path | None:
    reports = sorted(folder.glob("aoe_result_*.json"))
    if not reports:
        return None
    with os_errors_as_user_errors(target):
        shutil.copyfile(reports[-1], target)
    return target


def figures_of_report(report: Path) -> tuple[float | None, float | None]:
    """Return the milliseconds per batch before and after tuning, or None for values that the report does not have."""
    values: dict[str, Any] = {}
    try:  # the figures are in nested lists and objects
        json.loads(report.read_text(encoding="utf-8", errors="replace"), object_hook=values.update, parse_int=float)
    except (ValueError, RecursionError):
        return None, None
    figures = (values.get(key) for key in (_BEFORE, _AFTER))
    return tuple(figure if isinstance(figure, float) and math.isfinite(figure) else None for figure in figures)
