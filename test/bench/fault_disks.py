"""Full and failing disks at every place where a command writes.

Existing files must stay, the command must print one line and end with status 1, and once there is space the same
command must reach the same result. There are two experiments: a small file system (tmpfs) that becomes full, which also
affects the writes of libraries, and single calls that fail with ENOSPC, EIO and other errors. The second uses Python's
audit hooks for calls that create, open, rename or delete files, and a wrapper of `os.write`.
"""

import errno
import os
import random
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from fault_commands import COMMANDS, Command, changed_path, start
from fault_workspace import REPLACING, Workspace, contents, run_trials, traceback_in

SHARES = dict.fromkeys((name for name in COMMANDS if name != "training, 2 processes"), 1)
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EACCES)
EVENTS = ("open", "os.mkdir", "os.rename", "os.link", "os.truncate", "os.symlink")
# Files that describe other files. They are deleted before the others are replaced, and written last.
DELETED_FIRST = re.compile(r"^bins\.(info|json)$|^bins_done|_record\.json$|^bins/")


def small_disks(workspace: Workspace, count: int, seed: int) -> dict:
    """Run the commands on file systems of `count` different sizes. Does nothing without permission to mount."""
    draw = random.Random(seed)
    disk = workspace.trial
    shutil.rmtree(disk, ignore_errors=True)
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True).returncode:
        return {"cases": {}, "failures": [], "note": "no permission to mount a small file system"}
    try:
        return run_trials(
            SHARES, count, draw, lambda command, position: _on_small_disk(workspace, command, position, draw)
        )
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _on_small_disk(workspace: Workspace, command: Command, position: float, draw: random.Random) -> str | None:
    """Run a command with space for the share `position` of its output."""
    had_output = command.name in REPLACING and draw.random() < 0.5
    _resize(workspace.trial, 1 << 30)
    disk = workspace.reset(command, keep=had_output)
    needed = sum(
        file.stat().st_size + 4096
        for output in command.outputs
        for file in [workspace.complete / output, *(workspace.complete / output).rglob("*")]
        if file.is_file()
    )
    free = int(position * 1.1 * needed) // 4096 * 4096
    status = os.statvfs(disk)
    _resize(disk, (status.f_blocks - status.f_bfree) * status.f_frsize + free)
    job = start(command, disk)
    error = _error_of_run(workspace, command, had_output, job.wait()[0], job)
    if error is None:
        _resize(disk, 1 << 30)
        error = workspace.check_rerun(command)
    return f"{free:,} bytes free: {error}" if error else None


def _resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={max(4096, size)}", str(disk)], check=True)


def failing_calls(workspace: Workspace, count: int, seed: int) -> dict:
    """Run the commands with one failing call each, spread evenly over all calls that a command makes."""
    draw = random.Random(seed)
    calls: dict[str, int] = {}

    def trial(command: Command, position: float) -> str | None:
        if command.name not in calls:
            calls[command.name] = _count_calls(workspace, command)
        return _with_failing_call(workspace, command, 1 + int(position * calls[command.name]), draw)

    return run_trials(SHARES, count, draw, trial)


def _count_calls(workspace: Workspace, command: Command) -> int:
    folder = workspace.reset(command)
    job = start(command, folder, lambda: _fail_call(workspace.trial, 0, 0))
    assert job.wait() == [0], job.stderr()
    return int((folder.parent / ".calls").read_text())


def _with_failing_call(workspace: Workspace, command: Command, nth: int, draw: random.Random) -> str | None:
    code = draw.choice(ERRORS)
    had_output = command.name in REPLACING and draw.random() < 0.5
    folder = workspace.reset(command, keep=had_output)
    job = start(command, folder, lambda: _fail_call(workspace.trial, nth, code))
    error = _error_of_run(workspace, command, had_output, job.wait()[0], job) or workspace.check_rerun(command)
    note = folder.parent / ".calls"
    call = note.read_text() if note.exists() else ""
    return f"{errno.errorcode[code]} at call {nth} ({call}): {error}" if error else None


def _fail_call(root: Path, nth: int, code: int) -> None:
    """Let the nth call that changes something below `root` fail. With nth = 0, only count the calls.

    On a full or read-only disk, all later calls that open files fail as well.
    """
    count = 0
    parent, note = os.getpid(), str(root.parent / ".calls")

    def on_call(event: str, path: str) -> None:
        nonlocal count
        count += 1
        permanent = code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) and event == "open"
        if nth and (count == nth or (count > nth and permanent)):
            if count == nth:
                with suppress(OSError):
                    descriptor = original_open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                    original_write(descriptor, f"{event} {path}".encode())
            raise OSError(code, os.strerror(code), path)

    def hook(event: str, arguments: tuple) -> None:
        path = changed_path(root, EVENTS, event, arguments) if os.getpid() == parent else None
        if path is not None:
            on_call(event, path)

    original_open, original_write = os.open, os.write

    def write(descriptor: int, data: bytes) -> int:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if os.getpid() == parent and path.startswith(f"{root}/"):
            on_call("write", path)
        return original_write(descriptor, data)

    os.write = write
    sys.addaudithook(hook)
    if not nth:
        original_exit = os._exit

        def exit_with_note(status: int) -> None:
            Path(note).unlink(missing_ok=True)
            descriptor = original_open(note, os.O_WRONLY | os.O_CREAT)
            original_write(descriptor, str(count).encode())
            original_exit(status)

        os._exit = exit_with_note


def _error_of_run(workspace: Workspace, command: Command, had_output: bool, status: int, job) -> str | None:
    """Return an error unless the command ended with one line and status 1, or with status 0 and all files."""
    if error := traceback_in(job):
        return error
    text = job.stderr()
    errors = [line for line in text.splitlines() if line.startswith("error:")]
    if status not in (0, 1):
        return f"status {status}: {text[-300:]}"
    if status == 1 and len(errors) != 1:
        return f"{len(errors)} error lines: {text[-300:]}"
    found, expected = contents(workspace.trial, command), workspace.expected[command.name]
    if status == 0 and found.keys() < expected.keys():
        return f"status 0 without {sorted(expected.keys() - found.keys())[:3]}"
    lost = sorted(name for name in expected.keys() - found.keys() if not DELETED_FIRST.search(name))
    return workspace.check_complete_files(command) or (f"lost {lost[:3]}" if had_output and lost else None)
