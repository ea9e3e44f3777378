"""Simulated machine with NPUs: compiles the stand-in for torch_npu and runs entry scripts in processes that import it.

PyTorch allows one such device per process. With jobs as its argument, this file is such a process: it runs them in
sequence.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

STANDINS = Path(__file__).resolve().parent
UNIT = STANDINS.parent


def npusim_library(cache: Path) -> Path:
    """Return the library of the stand-in for this PyTorch version, compiled into `cache` (20 s) if it does not exist.

    Concurrent processes wait for the first. Raises FileNotFoundError without a compiler.
    """
    import fcntl  # not available on Windows, where this library is not supported

    source = STANDINS / "npu" / "npusim.cpp"
    facts = f"{metadata.version('torch')} {sys.executable}".encode() + source.read_bytes()
    library = cache / f"npusim-{sha256(facts).hexdigest()[:16]}.so"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            part = library.with_suffix(".part")
            _compile(source, part)
            part.replace(library)
    return library


def _compile(source: Path, library: Path) -> None:
    if shutil.which("g++") is None:
        raise FileNotFoundError("g++ is not installed: it compiles the stand-in for an NPU")
    torch = Path(find_spec("torch").origin).parent
    command = [
        "g++", "-std=c++20", "-O0", "-w", "-shared", "-fPIC", "-DAT_PER_OPERATOR_HEADERS", f"-I{torch}/include",
        f"-I{torch}/include/torch/csrc/api/include", source, "-o", library, f"-L{torch}/lib",
        "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch}/lib",
    ]  # fmt: skip
    subprocess.run(command, check=True)


def npu_environment(library: Path, **more: str) -> dict[str, str]:
    """Return the environment of a process on a machine with NPUs, torch_npu and Ascend's apex."""
    path = os.pathsep.join(map(str, (STANDINS / "npu", STANDINS / "npu_apex", UNIT)))
    return {"NPUSIM_LIBRARY": str(library), "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


@dataclass
class NpuMachine:
    """Runs entry scripts in forks with NPUs."""

    library: Path

    def run(self, script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
        """Run `python script.py arguments` with `environment` added.

        QUICK_NETWORK in the environment replaces the network by `training_runs.quick_network`, and names the iterations
        that overflow. The result also has the `switches` of torch_npu that the script set, and the devices for which
        its threads `pinned` memory.
        """
        from forking import python_command
        from scripts import run_quietly

        jobs = [{"script": script, "arguments": list(map(str, arguments))}]
        with tempfile.NamedTemporaryFile() as record:
            more = npu_environment(self.library, NPUSIM_RECORD=record.name, **environment)
            done = run_quietly([python_command(), __file__, json.dumps(jobs)], None, more)
            done.switches, done.pinned = json.loads(record.read() or "[[], []]")
        return done


def run_in_a_row(jobs: list[dict]) -> None:
    """Run jobs in this process, and on the CPU in the layout that an NPU gets.

    They share one process group: torchrun is there for one, and a second would find what the first left behind.
    """
    from scripts import load_script
    from training_runs import quick_network

    from model.devices import distributed
    from model.devices.device import DEVICE_KINDS
    from model.network import GaitSet

    quick = os.environ.get("QUICK_NETWORK")
    if quick is not None:
        GaitSet.forward = quick_network([int(number) for number in quick.split()])
    DEVICE_KINDS["cpu"] = replace(DEVICE_KINDS["cpu"], channels_last=False)
    finish, distributed.finish = distributed.finish, lambda: None
    try:
        for job in jobs:
            load_script(job["script"]).main(job["arguments"])
    finally:
        finish()


if __name__ == "__main__":
    sys.path.insert(0, str(UNIT.parents[2]))
    from model.common.errors import run_command

    run_command(lambda: run_in_a_row(json.loads(sys.argv[1])))
