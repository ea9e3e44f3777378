"""Disks that fill up and fail, at every place where a command writes: what was there stays, one line says what is
wrong, status 1, and once there is room the same command goes on to the same end.

Two ways. A small file system (tmpfs) that is full after so many bytes: the system's own refusal, of libraries' writes,
too. And the system refusing the nth of the calls that make, open, rename or delete something, by Python's audit hooks,
or that write, by a wrapped `os.write`: with no room, a disk that fails, and a disk that may not be written to any more.
"""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fault_bench import Bench, contents, leftovers, spread
from fault_chain import COMMANDS, Command, start
from fault_stops import REPLACES

NAMES = [name for name in COMMANDS if name != "training, 2 processes"]
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EACCES)
EVENTS = ("open", "os.mkdir", "os.rename", "os.link", "os.truncate", "os.symlink")


def small_disks(bench: Bench, count: int, seed: int, tell: Callable[[str], None]) -> dict:
    """Each command on file systems of `count` sizes in all. Needs the right to mount; else tries nothing."""
    draw = random.Random(seed)
    disk = bench.trial
    tried: dict[str, int] = {}
    failures: list[str] = []
    shutil.rmtree(disk, ignore_errors=True)
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True).returncode:
        return {"tried": {}, "failures": [], "note": "no right to mount a small file system here"}
    try:
        for name, number in spread(NAMES, count, draw).items():
            for place in range(number):
                failure = _on_small_disk(bench, COMMANDS[name], disk, (place + draw.random()) / number, draw)
                tried[name] = tried.get(name, 0) + 1
                if failure:
                    failures.append(f"{name}: {failure}")
                    tell(failures[-1])
            tell(f"{name}: {number} small disks")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    return {"tried": tried, "failures": failures}


def _on_small_disk(bench: Bench, one: Command, disk: Path, share: float, draw: random.Random) -> str | None:
    """With room for a share of what the command makes."""
    before = one.name in REPLACES and draw.random() < 0.5
    _resize(disk, 1 << 30)
    for child in disk.iterdir():
        shutil.rmtree(child) if child.is_dir() else child.unlink()
    _fill(bench, one, disk, before)
    needed = sum(
        file.stat().st_size + 4096 for file in bench.whole.rglob("*") if file.is_file() and _is_of(file, bench, one)
    )
    room = int(share * 1.1 * needed) // 4096 * 4096
    _resize(disk, _used(disk) + room)
    job = start(one, disk)
    status = job.wait()[0]
    fault = _fault(bench, one, disk, before, status, job.said())
    if fault is None:
        _resize(disk, 1 << 30)
        fault = _fault_of_going_on(bench, one, disk)
    return f"{room:,} bytes free: {fault}" if fault else None


def _is_of(file: Path, bench: Bench, one: Command) -> bool:
    name = file.relative_to(bench.whole).as_posix()
    return any(name == made or name.startswith(f"{made}/") for made in one.makes)


def _fill(bench: Bench, one: Command, disk: Path, keep: bool) -> None:
    shutil.copytree(bench.whole, disk, symlinks=True, dirs_exist_ok=True)
    for made in () if keep else one.makes:
        path = disk / made
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _resize(disk: Path, size: int) -> None:
    size = max(4096, size)
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def _used(disk: Path) -> int:
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def refusals(bench: Bench, count: int, seed: int, tell: Callable[[str], None]) -> dict:
    """Each command with one of its calls refused, `count` in all, spread evenly over the calls it makes."""
    draw = random.Random(seed)
    tried: dict[str, int] = {}
    failures: list[str] = []
    for name, number in spread(NAMES, count, draw).items():
        one = COMMANDS[name]
        folder = bench.fresh(one)
        job = start(one, folder, lambda: _refuse(bench.trial, 0, 0))
        assert job.wait() == [0], job.said()
        calls = int((folder.parent / ".calls").read_text())
        number = min(calls, number)
        for place in range(number):
            nth, code = 1 + int((place + draw.random()) / number * calls), draw.choice(ERRORS)
            failure = _refused(bench, one, nth, code, draw)
            tried[name] = tried.get(name, 0) + 1
            if failure:
                failures.append(f"{name}: {failure}")
                tell(failures[-1])
        tell(f"{name}: {number} of {calls} calls refused, one at a time")
    return {"tried": tried, "failures": failures}


def _refused(bench: Bench, one: Command, nth: int, code: int, draw: random.Random) -> str | None:
    before = one.name in REPLACES and draw.random() < 0.5
    folder = bench.fresh(one, keep=before)
    job = start(one, folder, lambda: _refuse(bench.trial, nth, code))
    status = job.wait()[0]
    fault = _fault(bench, one, folder, before, status, job.said()) or _fault_of_going_on(bench, one, folder)
    refused = (folder.parent / ".calls").read_text() if (folder.parent / ".calls").exists() else ""
    return f"{errno.errorcode[code]} at call {nth} ({refused}): {fault}" if fault else None


def _refuse(root: Path, nth: int, code: int) -> None:
    """Have the nth call that changes something below `root` fail, and all after it on a full disk; 0: only count."""
    count = 0
    parent, note = os.getpid(), str(root.parent / ".calls")

    def look(event: str, path: object) -> None:
        nonlocal count
        count += 1
        again = code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) and event == "open"
        if nth and (count == nth or (count > nth and again)):
            if count == nth:
                with suppress(OSError):
                    descriptor = original_open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                    original_write(descriptor, f"{event} {path}".encode())
            raise OSError(code, os.strerror(code), os.fsdecode(path) if isinstance(path, str | bytes) else None)

    def hook(event: str, arguments: tuple) -> None:
        if event not in EVENTS or os.getpid() != parent:
            return
        path = arguments[1] if event in ("os.rename", "os.link") else arguments[0]
        if event == "open" and not _writes(arguments[1], arguments[2]):
            return
        if isinstance(path, str | bytes) and _is_below(os.fsdecode(path), str(root)):
            look(event, path)

    original_open, original_write = os.open, os.write

    def write(descriptor: int, data: bytes) -> int:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if os.getpid() == parent and path.startswith(f"{root}/"):
            look("write", path)
        return original_write(descriptor, data)

    os.write = write
    sys.addaudithook(hook)
    if not nth:
        exit_now = os._exit

        def leave(status: int) -> None:
            Path(note).unlink(missing_ok=True)
            descriptor = original_open(note, os.O_WRONLY | os.O_CREAT)
            original_write(descriptor, str(count).encode())
            exit_now(status)

        os._exit = leave


def _writes(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _is_below(path: str, root: str) -> bool:
    return os.path.normpath(Path.cwd() / path).startswith(f"{root}/")


# What must hold

# What describes others goes before they are replaced, and comes after.
GOES_FIRST = re.compile(r"^bins\.(info|json)$|^bins_done|_record\.json$|^bins/")


def _fault(bench: Bench, one: Command, folder: Path, before: bool, status: int, said: str) -> str | None:
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    if "Traceback" in said:
        return f"a traceback: {said[-700:]}"
    if status not in (0, 1):
        return f"status {status}: {said[-300:]}"
    if status == 1 and len(errors) != 1:
        return f"{len(errors)} lines of errors: {said[-300:]}"
    found, wanted = contents(folder, one), bench.undisturbed[one.name]
    if status == 0 and found.keys() < wanted.keys():
        return f"status 0 without {sorted(wanted.keys() - found.keys())[:3]}"
    for name, digest in found.items():
        if not name.endswith(".jsonl") and "/checkpoint/" not in name and wanted.get(name) != digest:
            return f"{name} is not whole"
    lost = sorted(name for name in wanted.keys() - found.keys() if not GOES_FIRST.search(name))
    return f"lost {lost[:3]}" if before and lost else None


def _fault_of_going_on(bench: Bench, one: Command, folder: Path) -> str | None:
    job = start(one, folder)
    statuses = job.wait()
    if statuses != [0]:
        return f"the same command ended with {statuses}: {job.said()[-600:]}"
    found, wanted = contents(folder, one), bench.undisturbed[one.name]
    if found != wanted:
        return f"another end: {sorted(n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n))[:4]}"
    left = leftovers(folder, one)
    return f"left behind: {left[:4]}" if left else None
