"""Stop commands at random moments, and start a second instance of a command on the same output.

After a stop, no file may look complete and be incomplete, and the same command must reach the same result as an
uninterrupted run, byte for byte. A second instance must be refused with the owner of the output, and the first one must
not be affected.
"""

import random
import signal
import time

from fault_commands import Command, start
from fault_workspace import REPLACING, Workspace, contents, run_trials, traceback_in

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STOP_SHARES = {
    "pretreatment": 15, "store": 10, "training": 20, "training, 2 processes": 15, "export": 8, "bins": 8,
    "inference": 8, "report": 7, "test": 6, "embed": 3,
}  # fmt: skip
# If the first file exists, all files of the second name must exist.
IMPLIED_FILES = {"bins.info": "bins.json", "bins.json": "bins/", "result/dumpOutput_device0_record.json": "result/dump"}
LOCK_MESSAGE = "another job is writing there, process"
LOCKING = ("pretreatment", "training", "bins", "inference")
NOT_LOCKING = ("store", "export", "report", "test", "embed")  # they write single files and may run at the same time


def stops(workspace: Workspace, count: int, seed: int) -> dict:
    """Stop commands `count` times. Returns the number of cases per command, and the failures."""
    draw = random.Random(seed)
    return run_trials(STOP_SHARES, count, draw, lambda command, _: _stop_once(workspace, command, draw))


def _stop_once(workspace: Workspace, command: Command, draw: random.Random) -> str | None:
    had_output = command.name in REPLACING and draw.random() < 0.5
    folder = workspace.reset(command, keep=had_output)
    number, rank = draw.choice(SIGNALS), draw.randrange(command.processes)
    to_all = number == signal.SIGINT or (command.processes > 1 and draw.random() < 0.5)
    moment = draw.uniform(0, 1.02) * workspace.seconds[command.name]
    job = start(command, folder)
    time.sleep(moment)
    job.signal(number, to_all, rank)
    statuses = job.wait()
    error = None
    # After SIGKILL no process can report anything, and with several processes the others lose their partner.
    if number != signal.SIGKILL and command.processes == 1:
        error = traceback_in(job)
        # -number: the signal arrived before the command installed its handlers.
        if statuses[0] not in (0, 128 + number, -number):
            error = error or f"status {statuses[0]}: {job.stderr()[-300:]}"
    error = error or workspace.check_complete_files(command) or _missing_files(workspace, command, had_output)
    error = error or workspace.check_rerun(command)
    case = f"{signal.Signals(number).name} to {'all' if to_all else rank} after {moment:.3f} s"
    return f"{case}: {error}" if error else None


def _missing_files(workspace: Workspace, command: Command, had_output: bool) -> str | None:
    found, expected = contents(workspace.trial, command), workspace.expected[command.name]
    for name, implied in IMPLIED_FILES.items():
        if name in found and {n for n in expected if n.startswith(implied)} - found.keys():
            return f"{name} exists without {implied}"
    # `bins` deletes list and manifest before it writes new files.
    if had_output and command.name != "bins" and expected.keys() - found.keys():
        return f"lost {sorted(expected.keys() - found.keys())[:3]}"
    return None


def races(workspace: Workspace, count: int, seed: int) -> dict:
    """Start a command twice on the same output, the second time at a random moment of the first run."""
    draw = random.Random(seed)
    shares = dict.fromkeys((*LOCKING, *NOT_LOCKING), 1)
    return run_trials(shares, count, draw, lambda command, _: _race(workspace, command, draw))


def _race(workspace: Workspace, command: Command, draw: random.Random) -> str | None:
    folder = workspace.reset(command)
    first = start(command, folder)
    time.sleep(draw.uniform(0, 0.9) * workspace.seconds[command.name])
    second = start(command, folder, new_log=False)
    statuses = first.wait() + second.wait()
    if error := traceback_in(second):
        return error
    if command.name in LOCKING and sorted(statuses) == [0, 1]:
        if second.stderr().count(LOCK_MESSAGE) != 1:
            return f"the owner is not named: {second.stderr()[-300:]}"
    elif statuses != [0, 0]:
        return f"ended with {statuses}: {second.stderr()[-300:]}"
    return workspace.check_result(command)
