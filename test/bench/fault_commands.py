"""Run the commands of the chain on tiny data, each in a process that can be stopped.

A command runs in a fork of this process, which has already imported all libraries. So a command starts within
milliseconds. In all other respects, it behaves like the command of a user.
"""

import importlib
import os
import runpy
import shlex
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path

from measuring import ROOT

os.environ["OMP_NUM_THREADS"] = "1"

from model.checkpoints.metadata import checkpoint_name
from model.common.cores import block_interrupts

ITERATIONS = 12
MODEL = {
    "hidden_dim": 8, "channels": (4, 6, 10), "batch_size": (2, 2), "frame_num": 2, "total_iter": ITERATIONS,
    "save_iter": 3, "log_iter": 2, "eval_iter": 6, "num_workers": 1,
}  # fmt: skip
DATA = {"dataset_path": "aligned", "dataset": "Synthetic", "pid_num": 2}
RECIPE = f"conf = {{'WORK_PATH': 'work', 'data': {DATA}, 'model': {MODEL}}}"
STEM = "GaitSet_Synthetic_2_False_8_0.2_4_full_2"
ENCODER = f"work/checkpoint/GaitSet/{checkpoint_name(STEM, ITERATIONS, 'encoder')}"
LIBRARIES = (
    "netCDF4", "onnx.shape_inference", "torch.utils.tensorboard", "xarray", "model.initialization",
    "model.report.tables", "model.runtime.runners",
)  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command of the chain.

    script: a file of the repository that ends in .py, or the name of a module.
    outputs: files and folders that the command writes. All other files in the current folder are its input.
    processes: number of processes that run the command, each with its own rank.
    """

    name: str
    script: str
    arguments: str
    outputs: tuple[str, ...]
    processes: int = 1

    def words(self) -> list[str]:
        """Return the arguments of the Python interpreter that run this command."""
        script = [str(ROOT / self.script)] if self.script.endswith(".py") else ["-m", self.script]
        return [*script, *shlex.split(self.arguments)]

    def launched(self, name: str, more: str = "") -> "Command":
        """Return a command that starts the processes of this command with the project's launcher."""
        arguments = f"--processes {self.processes} {shlex.join(self.words())} {more}"
        return Command(name, "model.launch", arguments, self.outputs)

    def run(self) -> None:
        """Run the command in this process. The command ends the process with its exit status."""
        if self.script.endswith(".py"):
            sys.argv = self.words()
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            sys.argv = self.words()[1:]
            runpy.run_module(self.script, run_name="__main__", alter_sys=True)


def _results(name: str) -> tuple[str, ...]:
    return tuple(f"work/results/{name}.{suffix}" for suffix in ("json", "csv", "html", "nc"))


_COMMON = "--config recipe.py --device cpu --quiet"
_TRAIN = f"{_COMMON} --restore_iter auto"
_EXPORT = f"--config recipe.py --input_path {ENCODER} --output_path m.onnx --batch_size 2 --frame_num 4 --quiet"
_BINS = f"--pre_process {_COMMON} --bin_path bins --bin_frames 4 --json bins_done.json"
_INFER = "--runtime onnxruntime --model m.onnx --info bins.info --output result --threads 1 --quiet"
_REPORT = f"--post_process {_COMMON} --bin_path bins --name report --json table.json"
_TEST = f"{_COMMON} --checkpoint {ENCODER} --name tested --json tested.json"
_EMBED = f"{_COMMON} --checkpoint {ENCODER} --output embedded.nc"
_TRAINED = ("work/checkpoint", "work/log")
COMMANDS = {
    name: Command(name, *parts)
    for name, *parts in (
        ("pretreatment", "pretreatment.py", "--input_path raw --output_path out --worker_num 2 --quiet", ("out",)),
        ("store", "fault_store", "", ("work/store", "work/partition")),
        ("training", "train.py", _TRAIN, _TRAINED),
        ("training, 2 processes", "train.py", _TRAIN, _TRAINED, 2),
        ("export", "pth2onnx.py", f"{_EXPORT} --json onnx.json", ("m.onnx", "onnx.json")),
        ("bins", "test.py", _BINS, ("bins", "bins.info", "bins.json", "bins_done.json")),
        ("inference", "model.runtime", _INFER, ("result",)),
        ("report", "test.py", _REPORT, (*_results("report"), "table.json")),
        ("test", "test.py", _TEST, (*_results("tested"), "tested.json")),
        ("embed", "model.embed", _EMBED, ("embedded.nc",)),
    )
}


@dataclass
class Job:
    """A running command. All its processes belong to one process group and write stderr to the file `log`."""

    processes: list[ForkProcess]
    log: Path

    def wait(self, seconds: float = 120) -> list[int | None]:
        """Wait until all processes of the process group have ended. After `seconds`, kill them.

        Returns the exit statuses of the command's processes. The status of a process that a signal ended is negative.
        Raises AssertionError if a process of the command had to be killed.
        """
        deadline, late = time.monotonic() + seconds, False
        while (running := any([process.is_alive() for process in self.processes])) or self.signal(0, to_all=True):
            if time.monotonic() > deadline:
                late = late or running
                self.signal(signal.SIGKILL, to_all=True)
            time.sleep(0.002)
        assert not late, f"still running after {seconds} s: {self.stderr()}"
        return [process.exitcode for process in self.processes]

    def signal(self, number: int, to_all: bool = False, rank: int = 0) -> bool:
        """Send a signal to one process or to the whole process group. Returns False if there is no such process."""
        try:
            if to_all:
                os.killpg(self.processes[0].pid, number)
            else:
                os.kill(self.processes[rank].pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def stderr(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def start(command: Command, folder: Path, before: Callable[[], None] | None = None, new_log: bool = True) -> Job:
    """Start a command in `folder`. Each of its processes calls `before` first. `new_log` deletes an existing log."""
    job = Job([], folder.parent / ".stderr")  # outside of `folder`, because the disk of `folder` may be full
    if new_log:
        job.log.unlink(missing_ok=True)
    world: dict[str, str] = {}
    if command.processes > 1:
        port = 20000 + os.getpid() % 5000 + time.monotonic_ns() // 1000 % 20000
        world = {"WORLD_SIZE": f"{command.processes}", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
    for rank in range(command.processes):
        ranks = {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}"} if world else {}
        group = job.processes[0].pid if job.processes else 0
        process = get_context("fork").Process(target=_run, args=(command, folder, group, world | ranks, before))
        with block_interrupts():
            process.start()
        job.processes.append(process)
        # The process also does this itself, so it may have ended.
        with suppress(PermissionError, ProcessLookupError):
            os.setpgid(process.pid, job.processes[0].pid)
    return job


def _run(
    command: Command, folder: Path, group: int, variables: dict[str, str], before: Callable[[], None] | None
) -> None:
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        os.setpgid(0, group)
        os.chdir(folder)
        for number, name, how in ((1, "../.stdout", os.O_TRUNC), (2, "../.stderr", os.O_APPEND)):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | how), number)
        os.environ |= variables
        if before is not None:
            before()
        command.run()
    except KeyboardInterrupt:  # SIGINT arrived before the command installed its handler
        sys.exit(130)


def preload() -> None:
    """Import the libraries that the commands need."""
    for name in LIBRARIES:
        importlib.import_module(name)
    sys.modules["model.common.onnx_runtime"].import_onnxruntime()
    sys.modules["torch"].set_num_threads(1)


_EVENTS = ("open", "os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate", "os.remove", "os.rmdir")


def watch_changes(root: Path, on_change: Callable[[str, str], None]) -> None:
    """Let this process call `on_change(event, path)` before each change of a file or folder below `root`.

    Changes are Python's calls that create, rename, truncate or delete files and folders, that open a file for writing,
    and os.write.
    """
    process, original_write = os.getpid(), os.write

    def check(event: str, path: object) -> None:
        if os.getpid() == process and isinstance(path, str | bytes):
            place = os.path.normpath(Path.cwd() / os.fsdecode(path))
            if place.startswith(f"{root}/"):
                on_change(event, place)

    def hook(event: str, arguments: tuple) -> None:
        if event in _EVENTS and (event != "open" or _for_writing(*arguments[1:])):
            check(event, arguments[event in ("os.rename", "os.link")])

    def write(descriptor: int, data: bytes) -> int:
        check("write", os.path.realpath(f"/proc/self/fd/{descriptor}"))
        return original_write(descriptor, data)

    os.write = write
    sys.addaudithook(hook)


def _for_writing(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
