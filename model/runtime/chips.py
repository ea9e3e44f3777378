"""Run a model on several chips at the same time, each with a share of the list of input files.

All chips are used by one ais_bench, or each chip is used by a separate process.
"""

import itertools
import logging
import multiprocessing
import shutil
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from model.common.errors import UsageError, UserError
from model.common.json_files import write_json
from model.export.input_files import check_replaceable
from model.runtime.ais_bench_tool import run_on_devices
from model.runtime.bin_list import check_bins
from model.runtime.result_record import read_record, remove_record, replaced_results
from model.runtime.runners import TOOLS, run
from model.runtime.task import Task

logger = logging.getLogger(__name__)

_MAX_ID = 1024


def parse_device_ids(text: str) -> list[int]:
    """Return the numbers in a list such as 0,1,2,3. Raise UsageError for other texts and for repeated numbers."""
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and int(part[:9]) < _MAX_ID for part in parts):
        raise UsageError(
            f"--device_id {text}: not a list of device numbers; give one number below {_MAX_ID}, or several numbers "
            "such as 0,1,2,3"
        )
    numbers = [int(part) for part in parts]
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"--device_id {text}: contains a number twice; give each device once")
    return numbers


def run_on_chips(task: Task, device_ids: list[int]) -> dict[str, Any]:
    """Run a task on several chips, write all results to one folder, and return the summary.

    ais_bench divides the list itself if it can. Otherwise, each chip runs a share of whole batches in its own process,
    so only the last share needs fillers. If there are fewer batches than chips, the last chips stay idle. In pure
    inference, each chip runs all batches.

    Returns:
        The summary of `run` with the throughput of all chips together. `devices` contains one summary per chip.

    Raises:
        UserError: if the model fails on a device, with the number of that device. Then no results are written.
    """
    count = 0  # sequences in the list
    if task.info:
        check_replaceable(task.result_folder, ".bin")
        count = len(check_bins(task.info, None))
        device_ids = _with_work(device_ids, count, task.batch())
    start = time.perf_counter()
    devices = _run_divided(task, device_ids) if task.info and task.runtime == "ais_bench" else None
    tasks = [task._replace(device_id=number, quiet=True) for number in device_ids]
    if devices is None:
        start = time.perf_counter()
        devices = _run_shares(task, tasks, count) if task.info else _run_all(tasks)
    seconds = time.perf_counter() - start
    for own, device in zip(tasks, devices, strict=True):
        device["result"] = str(task.result_folder) if task.info else None
        write_json(own.summary_path(device["batch_size"]), device)
        device["device_id"] = own.device_id
    summary = _summary(devices, seconds)
    write_json(task.next_to_results(f"{task.result_folder.name}_devices.json"), summary)
    return summary


def _with_work(device_ids: list[int], count: int, size: int) -> list[int]:
    """Return the devices that get at least one batch, if `count` sequences fill batches of `size` sequences."""
    batches = -(-count // size)
    if batches < len(device_ids):
        idle = ", ".join(map(str, device_ids[batches:]))
        logger.warning("%d sequences fill only %d batches of %d: no work for device %s", count, batches, size, idle)
    return device_ids[:batches]


def _run_divided(task: Task, device_ids: list[int]) -> list[dict[str, Any]] | None:
    """Let one ais_bench divide the list between the devices. Return None if ais_bench cannot divide it or fails."""
    try:
        return run_on_devices(task, device_ids)
    except UserError as error:
        logger.warning("each device runs in its own process, because %s", str(error).partition(";")[0])
        return None


def _run_shares(task: Task, tasks: list[Task], count: int) -> list[dict[str, Any]]:
    """Run each task on its share of the `count` sequences, and move all results to the result folder of `task`."""
    size, name = task.batch(), task.result_folder.name
    bounds = [min(count, -(-count // size) * i // len(tasks) * size) for i in range(len(tasks) + 1)]
    shares = [
        own._replace(share=share, result_folder=task.next_to_results(f"{name}_share{own.device_id}"))
        for own, share in zip(tasks, itertools.pairwise(bounds), strict=True)
    ]
    for share in shares:
        share.summary_path(size).unlink(missing_ok=True)  # of an earlier run
    try:
        devices = _run_all(shares)
        _merge(task.result_folder, [share.result_folder for share in shares])
    finally:
        for share in shares:
            shutil.rmtree(share.result_folder, ignore_errors=True)
            remove_record(share.result_folder)
    return devices


def _run_all(tasks: list[Task]) -> list[dict[str, Any]]:
    """Run the tasks at the same time. An external tool is a process itself, so a thread is enough to wait for it."""
    if tasks[0].runtime in TOOLS:
        pool = ThreadPoolExecutor(len(tasks))
    else:
        pool = ProcessPoolExecutor(len(tasks), mp_context=multiprocessing.get_context("spawn"))
    with pool:
        futures = [pool.submit(run, task) for task in tasks]
    for task, future in zip(tasks, futures, strict=True):
        error = future.exception()
        if isinstance(error, BrokenProcessPool):  # all futures have this error, so the device is unknown
            numbers = ", ".join(str(task.device_id) for task in tasks)
            advice = "check the free memory, and run each device alone to find the one that fails"
            raise UserError(f"devices {numbers}: the process of one of them was killed; {advice}") from error
        if isinstance(error, UserError):
            raise UserError(f"device {task.device_id}: {error}") from error
    return [future.result() for future in futures]


def _merge(result_folder: Path, shares: list[Path]) -> None:
    """Move the results of all shares to `result_folder`, which is replaced as a whole, and join their records."""
    with replaced_results(result_folder) as (part, bins, results):
        for share in shares:
            record = read_record(share)
            bins |= record["bins"]
            results |= record["results"]
            for file in share.iterdir():
                shutil.move(file, part / file.name)


def _summary(devices: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Join the summaries of the chips. The end-to-end throughput uses the time that the slowest chip needs."""
    rates = [device["device_throughput"] for device in devices]
    sequences = sum(device["sequences"] for device in devices)
    end_to_end = [device["e2e_throughput"] for device in devices]
    slowest = None if None in end_to_end else max(device["sequences"] / device["e2e_throughput"] for device in devices)
    problems = [f"device {device['device_id']}: {device['problem']}" for device in devices if device.get("problem")]
    return {
        **devices[0], "provider": f"devices {', '.join(str(device['device_id']) for device in devices)}",
        "sequences": sequences, "fillers": sum(device.get("fillers", 0) for device in devices), "seconds": seconds,
        "e2e_throughput": None if slowest is None else sequences / slowest,
        "device_throughput": None if None in rates else sum(rates), "latency_ms": {},
        "problem": "; ".join(problems) or None, "devices": devices,
    }  # fmt: skip
