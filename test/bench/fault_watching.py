"""Watch which network connections and files the commands open, with strace and with Python's audit hooks."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from fault_commands import COMMANDS, start, watch_changes
from fault_workspace import Workspace
from measuring import ROOT

# System calls that can reach another machine or create a file.
CALLS = "connect,bind,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat"
_ADDRESS = re.compile(r'sa_family=AF_INET6?, sin6?_port=htons\((\d+)\).*?"([^"]+)"')
_PATH = re.compile(r'^(\w+)\((?:AT_FDCWD, )?"([^"]+)"(.*)\) = \d')
_DNS = "53"


def network(workspace: Workspace, count: int, seed: int) -> dict:
    """Run every command as a user does. Report connections to other machines, and files outside of its folders.

    Each command is a new process with an empty home folder. Environment variables of CI systems are removed, because
    they disable the telemetry of some libraries. strace also shows the system calls of native code. Without strace,
    only the home folder is checked.
    """
    failures: list[str] = []
    for name, command in COMMANDS.items():
        with tempfile.TemporaryDirectory(prefix="home-") as home, tempfile.TemporaryDirectory(prefix="calls-") as calls:
            folder = workspace.reset(command)
            as_user = command.launched(name) if command.processes > 1 else command
            strace = ["strace", "-qq", "-ff", "-e", f"trace={CALLS}", "-e", "signal=none", "-s4096", "-o", f"{calls}/c"]
            words = [*(strace if shutil.which("strace") else []), sys.executable, *as_user.words()]
            done = subprocess.run(
                words, cwd=folder, env=_bare_environment(home), capture_output=True, text=True, errors="replace",
                timeout=600, check=False,
            )  # fmt: skip
            if done.returncode:
                failures.append(f"{name}: status {done.returncode}: {done.stderr[-300:]}")
            lines = [line for file in Path(calls).iterdir() for line in file.read_text(errors="replace").splitlines()]
            findings = forbidden_calls(lines, folder, workspace.trial.parent, several=command.processes > 1)
            findings |= {f"writes {path} in the home folder" for path in Path(home).rglob("*")}
        failures += [f"{name}: {finding}" for finding in sorted(findings)]
        print(f"{name}: {len(findings)} findings, {len(lines)} system calls", flush=True)
    note = {} if shutil.which("strace") else {"note": "only the home folder was checked: strace is not installed"}
    return {"cases": dict.fromkeys(COMMANDS, 1), "failures": failures, **note}


def _bare_environment(home: str) -> dict[str, str]:
    names = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
    path = os.pathsep.join(map(str, (ROOT, ROOT / "test/bench", ROOT / "test/unit/support")))
    added = {"HOME": home, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return {name: os.environ[name] for name in names if name in os.environ} | added


def forbidden_calls(lines: Iterable[str], folder: Path, workspace: Path, several: bool = False) -> set[str]:
    """Return the forbidden calls in a trace of strace: connections to other machines, and files that others can read.

    Args:
        lines: successful and failed calls, one per line, of processes that started in `folder`.
        workspace: the command may create files in this folder, and in folders that only the current user can enter.
        several: the command has several processes. They may ask the name server, because PyTorch's store looks up the
            name of the loopback address for its log.
    """
    findings: set[str] = set()
    created: dict[str, str] = {}  # path to the call's remaining arguments
    for line in lines:
        address = _ADDRESS.search(line)
        if address and address[1] == _DNS:  # also on the loopback address, because a local resolver asks other machines
            findings |= set() if several else {f"asks the name server {address[2]}"}
        elif address and not address[2].removeprefix("::ffff:").startswith("127.") and address[2] != "::1":
            findings.add(f"{line.partition('(')[0]} {address[2]} port {address[1]}")
        call = _PATH.match(line)
        if call and (call[1] in ("mkdir", "mkdirat", "creat") or "O_CREAT" in call[3]):
            created[os.path.normpath(folder / call[2])] = call[3]
    private = {path for path, arguments in created.items() if re.search(r", 0[0-7]00$", arguments)}
    for path in created:
        parents = {path, *map(str, Path(path).parents)}
        if not parents & {str(workspace), "/dev", "/proc", *private}:
            findings.add(f"creates {path}")
    return findings


def ranks(workspace: Workspace, count: int, seed: int) -> dict:
    """Run a training and a test with `count` processes each. Only rank 0 may change files."""
    folder = workspace.reset(COMMANDS["training"])
    for output in ("work/results", "tested.json"):
        shutil.rmtree(folder / output, ignore_errors=True)
    notes = workspace.trial.parent / "notes"
    failures: list[str] = []
    cases = {}
    for command in ("training", "test"):
        name = f"{command}, {count} processes"
        shutil.rmtree(notes, ignore_errors=True)
        notes.mkdir()
        job = start(replace(COMMANDS[command], processes=count), folder, lambda: _note_changes(folder, notes))
        if set(job.wait(300)) != {0}:
            failures.append(f"{name}: {job.stderr()[-600:]}")
        changes = {note.name: set(note.read_text().splitlines()) for note in notes.iterdir()}
        cases[name] = sum(map(len, changes.values()))
        if by_others := sorted(path for rank, paths in changes.items() if rank != "0" for path in paths):
            failures.append(f"{name}: ranks above 0 changed {by_others[:5]}")
        print(f"{name}: {cases[name]} changed files", flush=True)
    return {"cases": cases, "failures": failures}


def _note_changes(root: Path, notes: Path) -> None:
    note = (notes / os.environ["RANK"]).open("a", buffering=1)
    watch_changes(root, lambda event, path: note.write(f"{path}\n"))
