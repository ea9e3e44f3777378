"""Stop a training of two processes in every way, and resume it.

A process is killed or terminated, or the launcher is killed, terminated or interrupted. Training must resume from the
newest checkpoint, automatically or with the same command, and reach the weights of an uninterrupted run. All ports must
listen on the loopback address only.
"""

import os
import random
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from fault_workspace import Workspace  # first, because it extends sys.path
from launching import TOTAL, children, launch, listening, wait_for, workers_of
from training_runs import files_of, same, weights

WAYS = {
    "rank 1 killed": lambda job: os.kill(workers_of(job)[1], signal.SIGKILL),
    "rank 0 killed": lambda job: os.kill(workers_of(job)[0], signal.SIGKILL),
    "rank 1 terminated": lambda job: os.kill(workers_of(job)[1], signal.SIGTERM),
    "both killed": lambda job: [os.kill(worker, signal.SIGKILL) for worker in workers_of(job).values()],
    "Ctrl-C": lambda job: os.killpg(job.pid, signal.SIGINT),
    "launcher terminated": lambda job: job.send_signal(signal.SIGTERM),
    "launcher killed": lambda job: job.kill(),
}
RESTARTED = ("rank 1 killed", "rank 0 killed", "rank 1 terminated", "both killed")


def launches(workspace: Workspace, count: int, seed: int) -> dict:
    """Stop `count` trainings, each kind of stop in turn."""
    draw = random.Random(seed)
    folder = workspace.trial.parent / "launches"
    tree = workspace.complete / "aligned"
    shutil.rmtree(folder, ignore_errors=True)
    uninterrupted = launch(tree, folder / "uninterrupted", python=sys.executable)
    wait_for(files_of(folder / "uninterrupted").last_complete, uninterrupted)
    addresses = listening([uninterrupted.pid, *children(uninterrupted.pid)])
    failures = [] if addresses == {"0100007F"} else [f"listening on {addresses}"]
    begin = time.monotonic()
    uninterrupted.communicate(timeout=300)
    seconds = time.monotonic() - begin
    cases: dict[str, int] = {"listening on loopback only": 1}
    for number in range(count):
        name = list(WAYS)[number % len(WAYS)]
        after = draw.uniform(0, 1.2 * seconds)
        failure = _stop(name, tree, folder / f"{number}", folder / "uninterrupted", after)
        cases[name] = cases.get(name, 0) + 1
        if failure:
            failures.append(f"{name}: {failure}")
        print(f"{name}: {failure or 'passed'}", flush=True)
        shutil.rmtree(folder / f"{number}", ignore_errors=True)
    return {"cases": cases, "failures": failures}


def _stop(name: str, tree: Path, work: Path, uninterrupted: Path, after: float) -> str | None:
    job = launch(tree, work, "--restore_iter", "auto", python=sys.executable)
    wait_for(lambda: len(workers_of(job)) == 2, job)
    workers = list(workers_of(job).values())
    time.sleep(after)
    with suppress(KeyError, FileNotFoundError, ProcessLookupError):  # training has already ended
        WAYS[name](job)
    out, errors = job.communicate(timeout=300)
    _wait_for_end(workers)
    if job.returncode and name in RESTARTED:
        return f"status {job.returncode}: {errors[-600:]}"
    if "Traceback" in errors and name in ("Ctrl-C", "launcher terminated"):
        return f"traceback: {errors[-600:]}"
    if files_of(work).last_complete() != TOTAL:
        again = launch(tree, work, "--restore_iter", "auto", python=sys.executable)
        out, errors = again.communicate(timeout=300)
        if again.returncode:
            return f"the same command ended with {again.returncode}: {out[-200:]} {errors[-600:]}"
    return None if same(weights(work, TOTAL), weights(uninterrupted, TOTAL)) else "different weights"


def _wait_for_end(workers: list[int]) -> None:
    """Wait for processes whose launcher was killed. They stop on their own."""
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{workers} are still running without their launcher")
        time.sleep(0.05)
