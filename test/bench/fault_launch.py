"""Training in several processes through torchrun, stopped in every way: a process killed, told to stop or interrupted,
the launcher killed, told to stop or interrupted. It goes on from the last checkpoint, by itself or by the same command,
to the weights of a run that was never stopped; and nothing listens but on the loopback address."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fault_bench import Bench  # first: it says where modules are
from launching import TOTAL, children, launch, listening, wait_for, workers_of
from training_runs import files_of, same, weights

WAYS = {
    "rank 1 killed": lambda job: os.kill(workers_of(job)[1], signal.SIGKILL),
    "rank 0 killed": lambda job: os.kill(workers_of(job)[0], signal.SIGKILL),
    "rank 1 told to stop": lambda job: os.kill(workers_of(job)[1], signal.SIGTERM),
    "both killed": lambda job: [os.kill(worker, signal.SIGKILL) for worker in workers_of(job).values()],
    "Ctrl-C": lambda job: os.killpg(job.pid, signal.SIGINT),
    "launcher told to stop": lambda job: job.send_signal(signal.SIGTERM),
    "launcher killed": lambda job: job.kill(),
}
BY_ITSELF = ("rank 1 killed", "rank 0 killed", "rank 1 told to stop", "both killed")


def launches(bench: Bench, count: int, seed: int, tell: Callable[[str], None]) -> dict:
    """`count` stops in all, by turns."""
    draw = random.Random(seed)
    folder = bench.trial.parent / "launches"
    tree = bench.whole / "aligned"
    shutil.rmtree(folder, ignore_errors=True)
    whole = launch(tree, folder / "whole")
    wait_for(files_of(folder / "whole").last_complete, whole)
    heard = listening([whole.pid, *children(whole.pid)])
    failures = [] if heard == {"0100007F"} else [f"listening on {heard}"]
    begin = time.monotonic()
    whole.communicate(timeout=300)
    seconds = time.monotonic() - begin
    tried: dict[str, int] = {"listening on loopback only": 1}
    for number in range(count):
        name = list(WAYS)[number % len(WAYS)]
        failure = _stop(name, tree, folder / f"{number}", folder / "whole", draw.uniform(0, 1.2 * seconds))
        tried[name] = tried.get(name, 0) + 1
        if failure:
            failures.append(f"{name}: {failure}")
        tell(f"{name}: {failure or 'survived'}")
        shutil.rmtree(folder / f"{number}", ignore_errors=True)
    return {"tried": tried, "failures": failures}


def _stop(name: str, tree: Path, work: Path, whole: Path, after: float) -> str | None:
    job = launch(tree, work, "--restore_iter", "auto")
    wait_for(lambda: len(workers_of(job)) == 2, job)
    workers = list(workers_of(job).values())
    time.sleep(after)
    with suppress(KeyError, FileNotFoundError, ProcessLookupError):  # it was quicker
        WAYS[name](job)
    out, errors = job.communicate(timeout=300)
    _wait_for_end(workers)
    if job.returncode and name in BY_ITSELF:
        return f"status {job.returncode}: {errors[-600:]}"
    if "Traceback" in errors and name in ("Ctrl-C", "launcher told to stop"):
        return f"a traceback: {errors[-600:]}"
    if files_of(work).last_complete() != TOTAL:
        again = launch(tree, work, "--restore_iter", "auto")
        out, errors = again.communicate(timeout=300)
        if again.returncode:
            return f"the same command ended with {again.returncode}: {out[-200:]} {errors[-600:]}"
    return None if same(weights(work, TOTAL), weights(whole, TOTAL)) else "other weights"


def _wait_for_end(workers: list[int]) -> None:
    """Processes whose launcher was killed stop by themselves."""
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{workers} go on without their launcher")
        time.sleep(0.05)
