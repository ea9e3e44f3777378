"""Watch the network connections and the files that commands open, with Python's audit hooks."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from fault_commands import COMMANDS, Command, opens_for_writing, start
from fault_workspace import Workspace


def network(workspace: Workspace) -> dict:
    """Run every command, and list connections to other machines and files in folders that others can read."""
    failures: list[str] = []
    notes = workspace.trial.parent / "network"
    for name, command in COMMANDS.items():
        notes.unlink(missing_ok=True)
        job = start(command, workspace.reset(command), lambda: _note_connections(workspace.trial, notes))
        if set(job.wait()) != {0}:
            failures.append(f"{name}: {job.stderr()[-300:]}")
        lines = sorted(set(notes.read_text().splitlines())) if notes.exists() else []
        failures += [f"{name}: {line}" for line in lines]
    return {"cases": dict.fromkeys(COMMANDS, 1), "failures": failures}


def _note_connections(root: Path, notes: Path) -> None:
    private: list[str] = []

    def hook(event: str, arguments: tuple) -> None:
        finding = None
        if event in ("socket.connect", "socket.bind", "socket.sendto"):
            address = arguments[1]
            if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
                finding = f"{event} {address}"
        elif event in ("urllib.Request", "http.client.connect", "ftplib.connect", "smtplib.connect"):
            finding = f"{event} {arguments}"
        elif event == "tempfile.mkdtemp":
            private.append(os.fsdecode(arguments[0]))
        elif event == "open" and isinstance(arguments[0], str | bytes) and opens_for_writing(*arguments[1:3], True):
            path = str(Path.cwd() / os.fsdecode(arguments[0]))
            if not path.startswith((f"{root.parent}/", "/dev/", "/proc/", *private)) and not os.path.lexists(path):
                finding = f"creates {path}"
        if finding:
            descriptor = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, f"{finding}\n".encode())
            os.close(descriptor)

    sys.addaudithook(hook)


def ranks(workspace: Workspace, count: int) -> dict:
    """Run one training and one test with `count` processes. Only rank 0 may change files."""
    folder = workspace.reset(COMMANDS["training"])
    for output in ("work/results", "tested.json"):
        shutil.rmtree(folder / output, ignore_errors=True)
    notes = workspace.trial.parent / "notes"
    failures: list[str] = []
    cases = {}
    for name in ("training", "test"):
        shutil.rmtree(notes, ignore_errors=True)
        notes.mkdir()
        command = COMMANDS[name]
        parallel = Command(name, command.script, command.arguments, command.outputs, processes=count)
        job = start(parallel, folder, lambda: _note_changes(workspace.trial, notes))
        if set(job.wait(300)) != {0}:
            failures.append(f"{name}: {job.stderr()[-600:]}")
        changes = {note.name: set(note.read_text().splitlines()) for note in notes.iterdir()}
        cases[f"{name}, {count} processes"] = sum(map(len, changes.values()))
        by_others = sorted(path for rank, paths in changes.items() if rank != "0" for path in paths)
        if by_others:
            failures.append(f"{name}: ranks above 0 changed {by_others[:5]}")
        print(f"{name}, {count} processes: {cases[f'{name}, {count} processes']} changed files", flush=True)
    return {"cases": cases, "failures": failures}


def _note_changes(root: Path, notes: Path) -> None:
    note = (notes / os.environ["RANK"]).open("a", buffering=1)

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            if not opens_for_writing(arguments[1], arguments[2]):
                return
        elif event not in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link"):
            return
        path = arguments[0]
        if isinstance(path, str | bytes) and str(Path.cwd() / os.fsdecode(path)).startswith(f"{root}/"):
            note.write(f"{os.fsdecode(path)}\n")

    sys.addaudithook(hook)
