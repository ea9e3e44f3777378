"""Pass modified files to every reader.

Each input must be read or rejected with an error message, within ten seconds and 2 GiB of memory.
"""

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
from pathlib import Path

from fault_readers import READERS, Reader, seeds

MAX_SECONDS = 10  # per input
MAX_BYTES = 2 << 30


def fuzz(total: int, seed: int) -> dict:
    """Distribute `total` inputs over all readers, each in its own process. Returns counts per reader, and failures."""
    readers: dict[str, dict] = {}
    failures: list[str] = []
    for reader in READERS:
        readers[reader.name] = outcome = _in_a_process(reader, total, seed)
        found = [f"{reader.name}: {failure}" for failure in outcome.pop("failures")]
        print(f"{reader.name}: {outcome}", *found, sep="\n  ", flush=True)
        failures += found
    cases = {name: outcome.get("inputs", 0) for name, outcome in readers.items()}
    counted = sum(outcome.get("failed", 0) for outcome in readers.values())  # only the first failures are listed
    return {"cases": cases, "failed": max(counted, len(failures)), "failures": failures, "readers": readers}


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
            number = (folder / "number").read_text() if (folder / "number").exists() else "0"
            return {"failures": [f"input {number} ended the process: {os.waitstatus_to_exitcode(status)}"]}
        outcome = json.loads(report.read_text())
        outcome["MiB"] = usage.ru_maxrss // 1024
        if usage.ru_maxrss * 1024 > MAX_BYTES:
            outcome["failures"].append(f"used {usage.ru_maxrss // 1024} MiB")
        return outcome
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fuzz_one(reader: Reader, total: int, seed: int, folder: Path) -> dict:
    """Run the inputs of one reader in this process, whose memory is limited to 2 GiB in addition to the initial use."""
    (folder / "work").mkdir()
    os.chdir(folder / "work")
    read = reader.make(folder / "work")
    with Path("/proc/self/statm").open() as file:
        begin = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (begin + MAX_BYTES, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, _too_long)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)  # decoders print messages
    counts = {"inputs": 0, "accepted": 0, "rejected": 0}
    failures: list[str] = []
    longest = 0.0
    for number, draw in enumerate(seeds(reader, total, seed)):
        if number % 50 == 0:
            (folder / "number").write_text(str(number))
        counts["inputs"] += 1
        begun = time.perf_counter()
        faulthandler.dump_traceback_later(3 * MAX_SECONDS, exit=True)
        signal.alarm(MAX_SECONDS)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                read(draw)
            counts["accepted"] += 1
        except reader.allowed as error:
            counts["rejected"] += 1
            if not str(error):
                failures.append(f"input {number}: an error without a message")
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
    """Derived from BaseException, so that no reader converts it into another error."""


def _too_long(number: int, frame: object) -> None:
    raise TooLong(f"more than {MAX_SECONDS} s")
