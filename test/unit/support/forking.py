"""Run `python ...` commands in forks of a process that has already imported torch and the plotting libraries.

Run as a program, this file is that process. It reads jobs as lines of JSON from stdin and writes results to stdout. It
computes nothing before a fork, so that torch has no threads that the fork would lose.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NamedTuple


class Done(NamedTuple):
    returncode: int
    stderr: str  # includes stdout


class Forking:
    """Run commands in the folder `home`, whose package `model` comes first on the path."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=home,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def run(self, words: list[str]) -> Done:
        """Run `python` with `words`: a script, or -m and a module, then arguments."""
        print(json.dumps(words), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer, f"the forking process has ended: {words}"
        return Done(*json.loads(answer))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def _serve() -> None:
    for name in ("torch", "matplotlib.figure", "sklearn.manifold"):
        with contextlib.suppress(ImportError):  # a command that needs a missing package reports it
            importlib.import_module(name)
    sys.path[0] = str(Path.cwd())
    for line in sys.stdin:
        words = json.loads(line)
        with tempfile.TemporaryFile("w+") as output:
            child = os.fork()
            if not child:
                os._exit(_run(words, output.fileno()))
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            output.seek(0)
            print(json.dumps([status, output.read()]), flush=True)


def _run(words: list[str], output: int) -> int:
    for stream in (1, 2):
        os.dup2(output, stream)
    is_module = words[0] == "-m"
    sys.argv = words[is_module:]
    try:
        runpy.run_module(words[1], run_name="__main__", alter_sys=True) if is_module else runpy.run_path(
            words[0], run_name="__main__"
        )
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    _serve()
