"""Attack the commands of the chain: stop them, fill their disk, let their calls fail, and start them twice.

After an attack, a file that looks complete must be complete, and files of an earlier run must still exist. A command
that can still report an error must print one line and end with status 1. If the command then runs again, its result
must equal the result of an uninterrupted run, byte for byte.
"""

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import RawArray, RawValue
from pathlib import Path

from fault_cases import EQUAL_SHARES, Case, run_cases
from fault_commands import COMMANDS, Job, watch_changes
from fault_workspace import Workspace
from launching import workers_of

# Commands that lock their output. All other commands write single files, so two of them may run at the same time.
LOCKING = ("pretreatment", "training", "bins", "inference")
LOCK_MESSAGE = "another job is writing there, process"
STOP_SHARES = {
    "pretreatment": 15, "store": 10, "training": 20, "training, 2 processes": 15, "export": 8, "bins": 8,
    "inference": 8, "report": 7, "test": 6, "embed": 3,
}  # fmt: skip
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EACCES)
PERMANENT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # after such an error, all later calls that open files also fail


def stops(workspace: Workspace, count: int, seed: int) -> dict:
    """Stop the commands with signals at random moments."""
    return run_cases(workspace, STOP_SHARES, count, seed, _stop)


def _stop(case: Case) -> None:
    draw, processes = case.draw, case.command.processes
    number, rank = draw.choice(SIGNALS), draw.randrange(processes)
    to_all = number == signal.SIGINT or (processes > 1 and draw.random() < 0.5)
    moment = draw.uniform(0, 1.02) * case.workspace.seconds[case.name]
    case.what = f"{signal.Signals(number).name} to {'all' if to_all else rank} after {moment:.3f} s"
    job = case.start()
    time.sleep(moment)
    job.signal(number, to_all, rank)
    # A killed process cannot report an error. With several processes, the other processes fail without the stopped one.
    if number == signal.SIGKILL or processes > 1:
        job.wait()
        case.workspace.check_files(case.command, case.had_output)
    else:
        case.check_end(job, 0, 128 + number, -number)  # -number: the command had not installed its handlers
    case.workspace.check_rerun(case.command)


# Ways to stop a launched training. Each function gets the job of the launcher, and the process id of each rank.
WAYS: dict[str, Callable[[Job, dict[int, int]], object]] = {
    "rank 1 killed": lambda job, ranks: os.kill(ranks[1], signal.SIGKILL),
    "rank 0 killed": lambda job, ranks: os.kill(ranks[0], signal.SIGKILL),
    "rank 1 terminated": lambda job, ranks: os.kill(ranks[1], signal.SIGTERM),
    "both killed": lambda job, ranks: [os.kill(rank, signal.SIGKILL) for rank in ranks.values()],
    "Ctrl-C": lambda job, ranks: job.signal(signal.SIGINT, to_all=True),
    "launcher terminated": lambda job, ranks: job.signal(signal.SIGTERM),
    "launcher killed": lambda job, ranks: job.signal(signal.SIGKILL),
}
# Allowed exit statuses of the launcher. In all other ways, it restarts the ranks and ends with 0.
STATUSES = {"Ctrl-C": (0, 130), "launcher terminated": (0, 143), "launcher killed": (0, -9)}


def launches(workspace: Workspace, count: int, seed: int) -> dict:
    """Stop a training with two processes that the project's launcher started."""
    launched = COMMANDS["training, 2 processes"].launched("launched training", "--iters 60 --save_iter 5")
    workspace.reset(launched)
    workspace.run_uninterrupted(launched)
    return run_cases(workspace, dict.fromkeys(WAYS, 1), count, seed, _stop_launch, dict.fromkeys(WAYS, launched))


def _stop_launch(case: Case) -> None:
    job = case.start()
    launcher, ranks = job.processes[0], {}
    while len(ranks) < 2:
        assert launcher.is_alive(), job.stderr()
        with suppress(FileNotFoundError):  # a process has ended
            ranks = workers_of(launcher)
        time.sleep(0.02)
    # At most 80 %, because the ranks start later than the launcher.
    after = case.draw.uniform(0, 0.8 * case.workspace.seconds[case.command.name])
    case.what = f"after {after:.1f} s"
    time.sleep(after)
    with suppress(ProcessLookupError):  # training has already ended
        WAYS[case.name](job, ranks)
    [status] = job.wait(300)
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{rank}").exists() for rank in ranks.values()):  # ranks also end if their launcher is killed
        assert time.monotonic() < deadline, f"{ranks} are still running without their launcher"
        time.sleep(0.05)
    assert status in STATUSES.get(case.name, (0,)), f"status {status}: {job.stderr()[-600:]}"
    assert "Traceback" not in job.stderr() or case.name not in ("Ctrl-C", "launcher terminated"), job.stderr()[-600:]
    if status == 0:
        case.workspace.check_result(case.command)
    else:
        case.workspace.check_files(case.command, had_output=False)
        case.workspace.check_rerun(case.command)


def small_disks(workspace: Workspace, count: int, seed: int) -> dict:
    """Run the commands on a small file system that becomes full. Without permission to mount it, run no case."""
    disk = workspace.trial
    shutil.rmtree(disk, ignore_errors=True)
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "none", str(disk)], capture_output=True).returncode:
        return {"cases": {}, "failures": [], "note": "no permission to mount a small file system"}
    try:
        return run_cases(workspace, EQUAL_SHARES, count, seed, _fill_disk)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _fill_disk(case: Case) -> None:
    """Run a command on a disk with free space for 0 to 110 % of its output."""
    disk, complete = case.workspace.trial, case.workspace.complete
    files = [file for output in case.command.outputs for file in [complete / output, *(complete / output).rglob("*")]]
    needed = sum(file.stat().st_size + 4096 for file in files if file.is_file())
    free = int(case.position * 1.1 * needed) // 4096 * 4096
    case.what = f"{free:,} bytes free"
    status = os.statvfs(disk)
    _resize(disk, (status.f_blocks - status.f_bfree) * status.f_frsize + free)
    try:
        case.check_end(case.start(), 0, 1)
    finally:
        _resize(disk, 1 << 30)
    case.workspace.check_rerun(case.command)


def _resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={max(4096, size)}", str(disk)], check=True)


def failing_calls(workspace: Workspace, count: int, seed: int) -> dict:
    """Let one call fail. The failing calls are spread evenly over all calls with which a command changes files."""
    calls: dict[str, int] = {}  # number of calls of an uninterrupted run

    def attack(case: Case) -> None:
        if case.name not in calls:
            job, made, _ = _start_with_failing_call(case, 0, 0)
            case.check_end(job, 0)
            calls[case.name] = made.value
            workspace.reset(case.command, keep=case.had_output)
        nth, code = 1 + int(case.position * calls[case.name]), case.draw.choice(ERRORS)
        job, _, failed = _start_with_failing_call(case, nth, code)
        job.wait()
        case.what = f"{errno.errorcode[code]} at call {nth} ({os.fsdecode(failed.value)})"
        case.check_end(job, 0, 1)
        workspace.check_rerun(case.command)

    return run_cases(workspace, EQUAL_SHARES, count, seed, attack)


def _start_with_failing_call(case: Case, nth: int, code: int) -> tuple:
    """Start a command whose nth call that changes a file fails with the error `code`. With nth = 0, no call fails.

    Returns the job, and two values that are shared with it: the number of calls, and the name of the failed call.
    """
    root, made, failed = case.workspace.trial, RawValue("l"), RawArray("c", 1000)

    def on_change(event: str, path: str) -> None:
        made.value += 1
        if made.value == nth:
            failed.value = os.fsencode(f"{event} {path}"[:300])
        if made.value == nth or (0 < nth < made.value and code in PERMANENT and event == "open"):
            raise OSError(code, os.strerror(code), path)

    return case.start(before=lambda: watch_changes(root, on_change)), made, failed


def races(workspace: Workspace, count: int, seed: int) -> dict:
    """Start a command twice on the same output, the second time at a random moment of the first run.

    A command that locks its output must end with an error that names the process of the first run.
    """
    return run_cases(workspace, EQUAL_SHARES, count, seed, _race)


def _race(case: Case) -> None:
    first, moment = case.start(), case.draw.uniform(0, 0.9) * case.workspace.seconds[case.name]
    case.what = f"second start after {moment:.3f} s"
    time.sleep(moment)
    second = case.start(new_log=False)
    statuses, text = first.wait() + second.wait(), second.stderr()
    assert "Traceback" not in text, f"traceback: {text[-700:]}"
    refused = case.name in LOCKING and sorted(statuses) == [0, 1]
    assert refused or statuses == [0, 0], f"ended with {statuses}: {text[-300:]}"
    assert not refused or text.count(LOCK_MESSAGE) == 1, f"the first process is not named: {text[-300:]}"
    case.workspace.check_result(case.command)
