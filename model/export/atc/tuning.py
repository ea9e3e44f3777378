"""Tune a model with CANN's `aoe` before atc compiles it, which then uses the tuned subgraphs and operators.

Command, job types, report and success line follow CANN's AOE guide (pages on offline inference) and the model zoo. The
guide recommends to tune subgraphs (job type 1, not on A2 and A3) before operators (job type 2). The zoo mostly tunes
operators only. aoe measures on the NPU of this machine and can take hours. It stores its results in the folder
$TUNE_BANK_PATH, else below ~/Ascend, where atc looks for them.
"""

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.common.files import os_errors_as_user_errors
from model.export.atc.arguments import check_path
from model.export.atc.commands import environment_for, opened_log, run_logged
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

    Without aoe, or if a job fails, a warning says so: the model can be converted without tuning.

    Args:
        options: further options of aoe, --name=value each.
        log_file: receives the output of aoe (default: next to `om`).

    Returns:
        For each job that succeeded: what it tuned, the report's path, milliseconds per batch before and after if the
        report has them, and the duration.
    """
    om, name, tuned = check_path(om), source.path.name, []
    for suffix in _REPORTS.values():
        om.with_suffix(suffix).unlink(missing_ok=True)  # of an earlier run
    aoe = shutil.which("aoe")
    if aoe is None:
        logger.warning("aoe is not on the PATH: %s is converted without tuning; aoe is part of CANN's toolkit", name)
        return []
    environment = environment_for(aoe)
    environment.pop("ASCEND_WORK_PATH", None)  # otherwise the report is written there
    with opened_log(log_file or om.with_suffix(".aoe.log")) as log:
        for job in jobs:
            start = time.perf_counter()
            with tempfile.TemporaryDirectory(prefix=f".{om.stem}.", dir=om.parent) as scratch:
                # aoe reads the SoC from the machine's NPU.
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
    """Return the milliseconds per batch before and after tuning. None if the report does not contain them."""
    values: dict[str, Any] = {}
    try:  # the figures are in nested lists and objects
        json.loads(report.read_text(encoding="utf-8", errors="replace"), object_hook=values.update)
    except (ValueError, RecursionError):
        return None, None
    return tuple(float(values[key]) if type(values.get(key)) in (int, float) else None for key in (_BEFORE, _AFTER))
