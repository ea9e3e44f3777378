"""The commands of the chain on tiny data, each in a process that can be stopped.

A command runs in a fork of this process, which has already imported all libraries. It starts within milliseconds and
otherwise behaves like the command of a user.
"""

import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test" / "unit" / "support")]
os.environ["OMP_NUM_THREADS"] = "1"

from model.checkpoints.metadata import checkpoint_name  # noqa: E402

ITERATIONS = 12
MODEL = {
    "hidden_dim": 8, "channels": (4, 6, 10), "batch_size": (2, 2), "frame_num": 2, "total_iter": ITERATIONS,
    "save_iter": 3, "log_iter": 2, "eval_iter": 6, "num_workers": 1,
}  # fmt: skip
DATA = {"dataset_path": "aligned", "dataset": "Synthetic", "pid_num": 2}
RECIPE = f"conf = {{'WORK_PATH': 'work', 'data': {DATA}, 'model': {MODEL}}}"
STEM = "GaitSet_Synthetic_2_False_8_0.2_4_full_2"
ENCODER = f"work/checkpoint/GaitSet/{checkpoint_name(STEM, ITERATIONS, 'encoder')}"
COMMON = ["--config", "recipe.py", "--device", "cpu", "--quiet"]


@dataclass(frozen=True)
class Command:
    """A command of the chain.

    script: file of the repository, or module.
    outputs: files and folders that the command writes. Everything else in the current folder is its input.
    """

    name: str
    script: str
    arguments: str
    outputs: tuple[str, ...]
    processes: int = 1

    def run(self) -> int:
        """Run the command in this process. Returns the exit status."""
        sys.argv = [self.script, *self.arguments.split()]
        try:
            if self.script.endswith(".py"):
                sys.argv[0] = str(ROOT / self.script)
                runpy.run_path(sys.argv[0], run_name="__main__")
            else:
                runpy.run_module(self.script, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        return 0


def results(name: str) -> list[str]:
    return [f"work/results/{name}.{suffix}" for suffix in ("json", "csv", "html", "nc")]


TRAIN = " ".join(COMMON) + " --restore_iter auto"
EXPORT = f"--config recipe.py --input_path {ENCODER} --output_path m.onnx --batch_size 2 --frame_num 4 --json onnx.json"
BINS = f"--pre_process {' '.join(COMMON)} --bin_path bins --bin_frames 4 --json bins_done.json"
INFER = "--runtime onnxruntime --model m.onnx --info bins.info --output result --threads 1 --quiet"
REPORT = f"--post_process {' '.join(COMMON)} --bin_path bins --name report --json table.json"
TEST = f"{' '.join(COMMON)} --checkpoint {ENCODER} --name tested --json tested.json"
EMBED = f"{' '.join(COMMON)} --checkpoint {ENCODER} --output embedded.nc"
_TRAINED = ("work/checkpoint", "work/log")
COMMANDS = {
    one.name: one
    for one in (
        Command(
            "pretreatment", "pretreatment.py", "--input_path raw --output_path out --worker_num 2 --quiet", ("out",)
        ),
        Command("store", "fault_store", "", ("work/store", "work/partition")),
        Command("training", "train.py", TRAIN, _TRAINED),
        Command("training, 2 processes", "train.py", TRAIN, _TRAINED, processes=2),
        Command("export", "pth2onnx.py", f"{EXPORT} --quiet", ("m.onnx", "onnx.json")),
        Command("bins", "test.py", BINS, ("bins", "bins.info", "bins.json", "bins_done.json")),
        Command("inference", "model.runtime", INFER, ("result",)),
        Command("report", "test.py", REPORT, (*results("report"), "table.json")),
        Command("test", "test.py", TEST, (*results("tested"), "tested.json")),
        Command("embed", "model.embed", EMBED, ("embedded.nc",)),
    )
}


def changed_path(root: Path, events: tuple[str, ...], event: str, arguments: tuple) -> str | None:
    """Return the path that an audit event changes, if it is one of `events` and the path is below `root`."""
    if event not in events or (event == "open" and not _for_writing(arguments[1], arguments[2])):
        return None
    path = arguments[event in ("os.rename", "os.link")]
    is_below = isinstance(path, str | bytes) and os.path.normpath(Path.cwd() / os.fsdecode(path)).startswith(f"{root}/")
    return os.fsdecode(path) if is_below else None


def _for_writing(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def preload() -> None:
    """Import the libraries that the commands need."""
    import netCDF4  # noqa: F401
    import onnx.shape_inference  # noqa: F401
    import torch.utils.tensorboard
    import xarray  # noqa: F401

    import model.initialization
    import model.report.tables
    import model.runtime.runners  # noqa: F401
    from model.common.onnx_runtime import import_onnxruntime

    import_onnxruntime()
    torch.set_num_threads(1)


@dataclass
class Job:
    """A running command. All its processes belong to one process group."""

    processes: list[int]
    folder: Path
    ended: dict[int, int] = field(default_factory=dict)

    def poll(self) -> bool:
        """Return whether all processes have ended."""
        for process in self.processes:
            if process not in self.ended:
                found, status = os.waitpid(process, os.WNOHANG)
                if found:
                    self.ended[process] = os.waitstatus_to_exitcode(status)
        return len(self.ended) == len(self.processes)

    def wait(self, seconds: float = 120) -> list[int]:
        """Wait for the command and for orphans in its process group. Returns exit statuses, negative for signals."""
        deadline = time.monotonic() + seconds
        while not self.poll():
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL, to_all=True)
                raise TimeoutError(f"still running after {seconds} s: {self.stderr()}")
            time.sleep(0.002)
        while self._group_lives():
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL, to_all=True)
            time.sleep(0.005)
        return [self.ended[process] for process in self.processes]

    def _group_lives(self) -> bool:
        try:
            os.killpg(self.processes[0], 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def signal(self, number: int, to_all: bool = False, rank: int = 0) -> None:
        try:
            if to_all:
                os.killpg(self.processes[0], number)
            else:
                os.kill(self.processes[rank], number)
        except ProcessLookupError:
            pass  # the process has already ended

    def stderr(self) -> str:
        log = self.folder.parent / ".stderr"  # outside of the folder, whose disk may be full
        return log.read_text(errors="replace") if log.exists() else ""


def start(command: Command, folder: Path, before: Callable[[], None] | None = None, new_log: bool = True) -> Job:
    """Start a command in `folder`. Each of its processes calls `before` first."""
    if new_log:
        (folder.parent / ".stderr").unlink(missing_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    port = str(20000 + os.getpid() % 5000 + time.monotonic_ns() // 1000 % 20000)
    processes: list[int] = []
    for rank in range(command.processes):
        process = os.fork()
        if process == 0:
            _run_process(command, folder, rank, port, processes[0] if processes else 0, before)
        processes.append(process)
        with suppress(PermissionError, ProcessLookupError):  # the process also does this itself, and may have ended
            os.setpgid(process, processes[0])
    return Job(processes, folder)


def _run_process(
    command: Command, folder: Path, rank: int, port: str, group: int, before: Callable[[], None] | None
) -> None:
    """Run the command and exit."""
    status = 70
    try:
        os.setpgid(0, group)
        os.chdir(folder)
        out = os.open("../.stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        log = os.open("../.stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(log, 2)
        if command.processes > 1:
            os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{command.processes}"}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        if before is not None:
            before()
        status = command.run()
        sys.stdout.flush()
    except KeyboardInterrupt:  # before the command installed its handler
        status = 130
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    finally:
        os._exit(status)
