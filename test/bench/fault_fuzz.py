"""Pass modified files to every function that reads files.

A reader must accept each input or reject it with an error message, within ten seconds and 2 GiB of memory.
"""

import contextlib
import faulthandler
import io
import math
import os
import random
import resource
import signal
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import RawValue, get_context
from pathlib import Path

from fault_readers import READERS

MAX_SECONDS = 10  # per input
MAX_BYTES = 2 << 30
_reached = RawValue("l")  # number of the current input, shared with the process that reads it


def fuzz(total: int, seed: int) -> dict:
    """Distribute `total` inputs over all readers, and run each reader in its own process.

    Returns the numbers of inputs per reader, and descriptions of the failures.
    """
    readers: dict[str, dict] = {}
    failures: list[str] = []
    shares = sum(reader.share for reader in READERS)
    for place, reader in enumerate(READERS):
        outcome = _in_a_process(place, math.ceil(total * reader.share / shares), seed)
        found = [f"{reader.name}: {failure}" for failure in outcome.pop("failures")]
        print(f"{reader.name}: {outcome}", *found, sep="\n  ", flush=True)
        readers[reader.name] = outcome
        failures += found
    cases = {name: outcome.get("inputs", 0) for name, outcome in readers.items()}
    # Per reader, `failures` describes only the first five.
    counted = sum(outcome.get("failed", 0) for outcome in readers.values())
    return {"cases": cases, "failed": max(counted, len(failures)), "failures": failures, "readers": readers}


def _in_a_process(place: int, count: int, seed: int) -> dict:
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="faults-", dir=memory) as folder:
        try:
            with ProcessPoolExecutor(1, get_context("fork")) as pool:
                return pool.submit(_fuzz_one, place, count, seed, Path(folder)).result()
        except Exception:  # an error of the reader's code for preparation, or the end of the process
            return {"failures": [f"at input {_reached.value}: {traceback.format_exc()[-1500:]}"]}


def _fuzz_one(place: int, count: int, seed: int, folder: Path) -> dict:
    """Run the inputs of one reader in this process. The process may use 2 GiB more memory than at the beginning."""
    reader = READERS[place]
    os.chdir(folder)
    read = reader.make(folder)
    with Path("/proc/self/statm").open() as file:
        begin = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (begin + MAX_BYTES, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, _too_long)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # hide the messages of image decoders
    counts = {"inputs": 0, "accepted": 0, "rejected": 0}
    failures: list[str] = []
    longest = 0.0
    for _reached.value in range(count):
        counts["inputs"] += 1
        draw = random.Random(f"{reader.name} {seed} {_reached.value}")  # each input can be reproduced alone
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
                failures.append(f"input {_reached.value}: an error without a message")
        except BaseException:
            counts["failed"] = counts.get("failed", 0) + 1
            if len(failures) < 5:
                failures.append(f"input {_reached.value}: {traceback.format_exc()[-600:]}")
        finally:
            signal.alarm(0)
            faulthandler.cancel_dump_traceback_later()
        longest = max(longest, time.perf_counter() - begun)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    if used > MAX_BYTES:
        failures.append(f"used {used >> 20} MiB")
    return {**counts, "longest s": round(longest, 3), "MiB": used >> 20, "failures": failures}


class TooLong(BaseException):
    """An input took too long. Derived from BaseException, so that no reader converts it into a different error."""


def _too_long(number: int, frame: object) -> None:
    raise TooLong(f"more than {MAX_SECONDS} s")
