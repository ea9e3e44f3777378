"""Run a model on several chips at once: each chip computes a share of the list in a separate process."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from model.common.errors import UsageError, UserError
from model.common.files import atomic_folder, write_json
from model.common.lock import locked
from model.export.input_files import check_replaceable
from model.runtime.bin_list import check_bins
from model.runtime.choice import Choice
from model.runtime.external_tool import Task
from model.runtime.pure_inference import measure
from model.runtime.result_record import read_record, record_path, remove_record, write_record
from model.runtime.runners import run_list

logger = logging.getLogger(__name__)

_MAX_ID = 1024
_IN_PROCESS = ("acl",)  # runtimes that are not external tools


def parse_device_ids(text: str) -> list[int]:
    """Return the numbers in a list such as 0,1,2,3. Raise UsageError for other texts and for repeated numbers."""
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and int(part[:9]) < _MAX_ID for part in parts):
        raise UsageError(f"--device_id {text}: must be the number of a device, or several such as 0,1,2,3")
    numbers = [int(part) for part in parts]
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"--device_id {text}: contains a number twice; give each device once")
    return numbers


def run_on_chips(
    choice: Choice, task: Task, device_ids: list[int], warmup: int = 1, loop: int | None = None
) -> dict[str, Any]:
    """Run the list of a task on several chips, write all results to one folder, and return the summary.

    Each share has whole batches, so only the last one needs fillers. Without enough batches, the last chips stay idle.

    Args:
        loop: measure pure inference with this number of batches on each chip instead of running the list.

    Returns:
        The summary of `run_list`, whose throughput is that of all chips, with one summary per chip in `devices`.

    Raises:
        UserError: with the number of the device, if the model fails on one of them. No results are written then.
    """
    tasks = [task._replace(device_id=number, quiet=True) for number in device_ids]
    job = partial(measure, choice, loop=loop, warmup=warmup)
    if loop is None:
        tasks, job = _shares(task, tasks), partial(run_list, choice, warmup=warmup)
    start = time.perf_counter()
    try:
        devices = _run_all(job, tasks, choice.runtime in _IN_PROCESS)
        seconds = time.perf_counter() - start
        if loop is None:
            _merge(task.result_folder, [share.result_folder for share in tasks])
    finally:
        for share in tasks if loop is None else []:
            shutil.rmtree(share.result_folder, ignore_errors=True)
            remove_record(share.result_folder)
    summary = _summary(task, devices, seconds)
    write_json(task.result_folder.with_name(f"{task.result_folder.name}_devices.json"), summary)
    return summary


def _shares(task: Task, tasks: list[Task]) -> list[Task]:
    """Give each task a share of the list and a result folder next to the final one."""
    check_replaceable(task.result_folder, ".bin")
    count, size = len(check_bins(task.info, None)), task.batch()
    batches = -(-count // size)
    if batches < len(tasks):
        idle = ", ".join(str(share.device_id) for share in tasks[batches:])
        logger.warning("%d sequences fill %d batches of %d: device %s stays idle", count, batches, size, idle)
        tasks = tasks[:batches]
    bounds = [min(count, batches * i // len(tasks) * size) for i in range(len(tasks) + 1)]
    folder = task.result_folder
    return [
        share._replace(
            share=(bounds[i], bounds[i + 1]), result_folder=folder.with_name(f"{folder.name}_share{share.device_id}")
        )
        for i, share in enumerate(tasks)
    ]


def _run_all(job: partial, tasks: list[Task], in_process: bool) -> list[dict[str, Any]]:
    """Run the job of each task at the same time. External tools are processes themselves, so threads wait for them."""
    if in_process:
        pool = ProcessPoolExecutor(len(tasks), mp_context=multiprocessing.get_context("spawn"))
    else:
        pool = ThreadPoolExecutor(len(tasks))
    with pool:
        futures: list[Future] = [pool.submit(job, task) for task in tasks]
    for task, future in zip(tasks, futures, strict=True):
        error = future.exception()
        if isinstance(error, UserError):
            raise UserError(f"device {task.device_id}: {error}") from error
        if error is not None:
            raise error
    return [future.result() | {"device_id": task.device_id} for task, future in zip(tasks, futures, strict=True)]


def _merge(result_folder: Path, shares: list[Path]) -> None:
    """Move the results of all shares to `result_folder`, which is replaced as a whole, and join their records."""
    bins, results = {}, {}
    for share in shares:
        record = read_record(share)
        if record is None:
            raise UserError(f"{record_path(share)}: missing; run the list again")
        bins |= record.bins
        results |= record.results
    with (
        locked(result_folder.with_name(f".{result_folder.name}.lock"), result_folder),
        atomic_folder(result_folder) as part,
    ):
        for share in shares:
            for file in share.iterdir():
                shutil.move(file, part / file.name)
        remove_record(result_folder)
    write_record(result_folder, bins, results)


def _summary(task: Task, devices: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Join the summaries of the chips. The end-to-end throughput counts the time until the slowest chip ends."""
    rates = [device["device_throughput"] for device in devices]
    sequences = sum(device["sequences"] for device in devices)
    end_to_end = [device["e2e_throughput"] for device in devices]
    slowest = None if None in end_to_end else max(device["sequences"] / device["e2e_throughput"] for device in devices)
    result = None if devices[0]["result"] is None else str(task.result_folder)
    problems = [f"device {device['device_id']}: {device['problem']}" for device in devices if device.get("problem")]
    return {
        **devices[0],
        "provider": f"devices {', '.join(str(device['device_id']) for device in devices)}",
        "sequences": sequences,
        "fillers": sum(device.get("fillers", 0) for device in devices),
        "seconds": seconds,
        "e2e_throughput": None if slowest is None else sequences / slowest,
        "device_throughput": None if None in rates else sum(rates),
        "latency_ms": {},
        "problem": "; ".join(problems) or None,
        "result": result,
        "devices": [device | {"result": result} for device in devices],
    }
