"""Simulate a machine with NPUs: compile the stand-in for torch_npu, and run entry scripts in processes that import it.

The tests cannot import the stand-in in their own process, because PyTorch allows only one kind of accelerator per
process. Therefore, this file is also a command: its argument is a list of jobs, which it runs one after the other.
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
    """Return the path of the library of the stand-in, which is compiled for this version of PyTorch.

    If `cache` does not contain the library, it is compiled, which takes 20 s. Other processes wait until it exists.
    Raises FileNotFoundError if there is no compiler.
    """
    import fcntl  # not available on Windows, where the stand-in is not supported

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
    """Return the environment variables that a process with the stand-ins for NPUs, torch_npu and apex needs."""
    path = os.pathsep.join(map(str, (STANDINS / "npu", STANDINS / "npu_apex", UNIT)))
    return {"NPUSIM_LIBRARY": str(library), "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


@dataclass
class NpuMachine:
    """Run entry scripts in forks that see NPUs."""

    library: Path

    def run(self, script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
        """Run `python script.py arguments`, and return the completed process.

        The result has two more attributes: `switches` contains the switches of torch_npu that the script has set, and
        `pinned` contains the devices for which its threads have requested pinned memory.

        Args:
            environment: additional environment variables. QUICK_NETWORK replaces the network by
                `training_runs.quick_network`. Its value contains the iterations that overflow.
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
    """Run jobs in this process one after the other. On the CPU, they use the memory layout of an NPU.

    All jobs use the same process group, because torchrun supports only one: a second group would find the data that the
    first group has left in the store.
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
