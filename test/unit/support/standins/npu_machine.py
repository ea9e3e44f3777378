"""Simulated machine with NPUs: compiles the stand-in for torch_npu and runs jobs in processes that import it.

PyTorch allows one such device per process, so jobs run in separate processes. One process reads jobs from its standard
input, because importing PyTorch takes longer than most jobs. With jobs as its argument, this file runs them in
sequence, as torchrun starts it.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import metadata
from importlib.util import find_spec
from io import StringIO
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
class Done:
    """Result of a job as in `subprocess`, the torch_npu switches that it set, and the devices of pinning threads."""

    returncode: int
    stdout: str
    stderr: str
    switches: list[list]
    pinned: list[int]


class NpuProcess:
    """A process with NPUs that runs entry scripts one after another."""

    def __init__(self, library: Path):
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **npu_environment(library)},
        )  # fmt: skip

    def run(self, script: str, *arguments: object, **environment: str) -> Done:
        """Run `python script.py arguments` with `environment` added; see also `quick_network`."""
        job = {"script": script, "arguments": list(map(str, arguments)), "environment": environment}
        print(json.dumps(job), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer, f"the process with NPUs ended with {self.process.wait()} while it ran {job}"
        return Done(**json.loads(answer))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def quick_network(overflow: list[int]):
    """A `forward` for GaitSet that learns next to nothing, as convolutions of fp16 are slow on a CPU.

    overflow: iterations, counted from 1, whose gradients are infinite.
    """
    import torch

    calls = itertools.count(1)

    def forward(self, sils, ends=None):
        sequences = sils if ends is None else [sils[a:b] for a, b in itertools.pairwise(ends)]
        pixels = torch.stack([sequence.float().mean() for sequence in sequences])
        tells_no_one = pixels.mul(100).sin().to(self.fc_bin[0].dtype)  # or no loss would be left
        weight = torch.stack([parameter.flatten()[0] + 1 for parameter in self.parameters()])
        embeddings = tells_no_one[:, None, None] * weight.expand(62, -1)
        if next(calls) in overflow:
            embeddings.register_hook(lambda gradient: gradient * torch.inf)
        return embeddings

    return forward


def _answer(job: dict) -> dict:
    """Run a job. QUICK_NETWORK in its environment takes `quick_network`, and names the iterations that overflow."""
    from scripts import load_script

    from model.common.errors import run_command
    from model.network import GaitSet

    before, forward = dict(os.environ), GaitSet.forward
    os.environ.update(job["environment"])
    quick = job["environment"].get("QUICK_NETWORK")
    if quick is not None:
        GaitSet.forward = quick_network([int(number) for number in quick.split()])
    torch_npu = sys.modules.get("torch_npu")
    if torch_npu is not None:  # forget what the job before has left
        torch_npu.calls.clear()
        torch_npu.pinned_for()
    sys.modules.pop("npu_float_status", None)
    out, err, status = StringIO(), StringIO(), None
    try:
        with redirect_stdout(out), redirect_stderr(err):
            run_command(lambda: load_script(job["script"]).main(job["arguments"]))
    except SystemExit as end:
        status = end.code
    finally:
        os.environ.clear()
        os.environ.update(before)
        GaitSet.forward = forward
    torch_npu = sys.modules.get("torch_npu")
    switches, pinned = ([], []) if torch_npu is None else (list(torch_npu.calls), torch_npu.pinned_for())
    said = {"stdout": out.getvalue(), "stderr": err.getvalue()}
    return {"returncode": status, **said, "switches": switches, "pinned": pinned}


def run_in_a_row(jobs: list[dict]) -> None:
    """Run jobs in this process, one of several of torchrun, and on the CPU in the layout that an NPU gets.

    They share one process group: torchrun is there for one, and a second would find what the first left behind.
    """
    from scripts import load_script

    from model.devices import distributed
    from model.devices.device import DEVICE_KINDS

    DEVICE_KINDS["cpu"] = replace(DEVICE_KINDS["cpu"], channels_last=False)
    finish, distributed.finish = distributed.finish, lambda: None
    try:
        for job in jobs:
            load_script(job["script"]).main(job["arguments"])
    finally:
        finish()


def main() -> None:
    sys.path.insert(0, str(UNIT.parents[2]))
    if sys.argv[1:]:
        run_in_a_row(json.loads(sys.argv[1]))
        return
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries is not an answer
    for line in sys.stdin:
        try:
            answer = _answer(json.loads(line))
        except Exception:  # a bug, whose traceback the test shows
            answer = {"returncode": 1, "stdout": "", "stderr": traceback.format_exc(), "switches": [], "pinned": []}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
