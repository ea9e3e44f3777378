"""Start a training in two processes, and find its workers and their sockets."""

import os
import subprocess
import time
from pathlib import Path

from forking import python_command
from scripts import ROOT
from training_runs import arguments

LISTENING = "0A"
TOTAL = 60


def launch(tree, work, *more, restarts=3):
    """Start a training in two forked processes, and return the process of the launcher."""
    options = arguments(tree, work, "--iters", TOTAL, "--save_iter", 5, "--quiet", *more)
    command = [python_command(), "-m", "model.launch", "--processes", "2", "--max_restarts", str(restarts)]
    return subprocess.Popen(
        [*command, str(ROOT / "train.py"), *options], cwd=ROOT, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def job_of(process: int) -> int:
    """Return the id of the job if `process` is a client of the fork server, otherwise `process` itself."""
    name = Path(f"/proc/{process}/comm").read_text().strip()
    return int(name) if name.isdigit() else process


def children(process: int) -> list[int]:
    """Return the ids of the child processes."""
    process = job_of(process)
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def workers_of(launcher: subprocess.Popen) -> dict[int, int]:
    """Return the process ids of the workers by rank."""
    found = {}
    for child in children(launcher.pid):
        try:
            variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):  # the process has ended
            continue
        rank = next((v[5:] for v in variables if v.startswith(b"RANK=")), None)
        if rank is not None:
            found[int(rank)] = child
    return found


def wait_for(condition, launcher, seconds=120):
    """Wait until `condition()` is true. Fail if the launcher ends, or after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert launcher.poll() is None and time.monotonic() < deadline, launcher.communicate()
        time.sleep(0.02)


def listening(processes) -> set[str]:
    """Return the addresses on which the processes listen, in the hexadecimal form of /proc/net/tcp."""
    inodes = set()
    for process in map(job_of, processes):
        for link in Path(f"/proc/{process}/fd").iterdir():
            try:
                target = str(link.readlink())
            except FileNotFoundError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    lines = [
        line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]
    ]
    return {line[1].rpartition(":")[0] for line in lines if line[3] == LISTENING and line[9] in inodes}
