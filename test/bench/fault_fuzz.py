"""Changed files through every reader: each ends in success or in a named error of one line; none hangs, none takes more
than 2 GiB, none gives something else than it says."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import resource
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from fault_readers import READERS, Reader, seeds

SECONDS = 10  # for one input
MOST_BYTES = 2 << 30


def fuzz(total: int, seed: int, tell: Callable[[str], None]) -> dict:
    """`total` inputs over all readers, each reader in a process of its own. Returns counts by reader, and failures."""
    tried: dict[str, dict] = {}
    failures: list[str] = []
    for reader in READERS:
        outcome = _in_a_process(reader, total, seed)
        failures += [f"{reader.name}: {failure}" for failure in outcome.pop("failures")]
        tried[reader.name] = outcome
        tell(
            f"{reader.name}: {outcome}"
            + "".join(f"\n  {failure}" for failure in failures if failure.startswith(reader.name))
        )
    return {"tried": tried, "failures": failures}


def _in_a_process(reader: Reader, total: int, seed: int) -> dict:
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    report = folder / "report"
    try:
        process = os.fork()
        if process == 0:
            try:
                report.write_text(json.dumps(_fuzz_one(reader, total, seed, folder)))
            except BaseException:
                report.write_text(json.dumps({"failures": [traceback.format_exc()[-1500:]]}))
            finally:
                os._exit(0)
        _, status, usage = os.wait4(process, 0)
        if not report.exists():
            seen = (folder / "number").read_text() if (folder / "number").exists() else "0"
            return {"failures": [f"input {seen} ended the process: {os.waitstatus_to_exitcode(status)}"]}
        outcome = json.loads(report.read_text())
        outcome["most MiB"] = usage.ru_maxrss // 1024
        if usage.ru_maxrss * 1024 > MOST_BYTES:
            outcome["failures"].append(f"took {usage.ru_maxrss // 1024} MiB")
        return outcome
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fuzz_one(reader: Reader, total: int, seed: int, folder: Path) -> dict:
    """In a process of its own, in which no more than 2 GiB can be had beyond what it has to begin with."""
    (folder / "work").mkdir()
    os.chdir(folder / "work")
    read = reader.make(folder / "work")
    with Path("/proc/self/statm").open() as file:
        begin = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (begin + MOST_BYTES, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, _too_long)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)  # decoders have words of their own
    counts = {"inputs": 0, "taken": 0, "refused": 0}
    failures: list[str] = []
    longest = 0.0
    for number, draw in enumerate(seeds(reader, total, seed)):
        if number % 50 == 0:
            (folder / "number").write_text(str(number))
        counts["inputs"] += 1
        begun = time.perf_counter()
        faulthandler.dump_traceback_later(3 * SECONDS, exit=True)
        signal.alarm(SECONDS)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                read(draw)
            counts["taken"] += 1
        except reader.allowed as error:
            counts["refused"] += 1
            if not str(error):
                failures.append(f"input {number}: an error without a word")
        except BaseException as error:
            if len(failures) < 5:
                where = traceback.extract_tb(error.__traceback__)[-1]
                failures.append(
                    f"input {number}: {type(error).__name__}: {str(error)[:300]} ({where.filename}:{where.lineno})"
                )
            counts["failed"] = counts.get("failed", 0) + 1
        finally:
            signal.alarm(0)
            faulthandler.cancel_dump_traceback_later()
        longest = max(longest, time.perf_counter() - begun)
    return {**counts, "longest s": round(longest, 3), "failures": failures}


class TooLong(BaseException):
    """Not one of the errors that a reader may turn into its own."""


def _too_long(number: int, frame: object) -> None:
    raise TooLong(f"took more than {SECONDS} s")
