"""Run entry scripts, modules and shell drivers from tests."""

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from types import ModuleType

from forking import python_command

ROOT = Path(__file__).resolve().parents[3]
BARE = {"PATH": "/usr/bin:/bin"}  # an environment without any variables of the user


def load_script(name: str) -> ModuleType:
    """Import an entry script by its path. `import test` would import the package of the standard library instead."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_script(
    script: str | Path, *arguments: object, cwd: Path | None = None, python: str | None = None, **environment: str
):
    """Run `python script arguments` in a fork, or with the interpreter `python`. Return the completed process."""
    command = [python or python_command(), str(ROOT / script), *map(str, arguments)]
    return run_quietly(command, cwd, environment)


def run_module(module: str, *arguments: object, **environment: str):
    return run_quietly([python_command(), "-m", module, *map(str, arguments)], ROOT, environment)


def run_driver(driver: str, *arguments: object, cwd: Path | None = None, **environment: str):
    """Run a shell driver, whose Python commands run in forks. Return the completed process."""
    command = ["bash", str(ROOT / "test" / driver), *map(str, arguments)]
    return run_quietly(command, cwd, {"PYTHON": python_command(), **environment})


def succeed(driver: str, *arguments: object, cwd: Path | None = None, **environment: str):
    done = run_driver(driver, *arguments, cwd=cwd, **environment)
    assert done.returncode == 0, done.stderr
    return done


def summary_of(driver: str) -> dict:
    """Return the JSON summary that a driver has written, and check that its text summary has key=value lines."""
    output = Path(os.environ["GAITSET_OUTPUT"])
    assert all("=" in line for line in (output / f"{driver}.txt").read_text().splitlines())
    return json.loads((output / f"{driver}.json").read_text())


def run_quietly(command: list, cwd: Path | None, environment: dict[str, str], base=os.environ):
    """Run a command with the environment variables `base` and `environment`. Return the completed process."""
    variables = {**base, **environment}
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False, timeout=600)


def one_line_error(done, status: int) -> str:
    """Check that a command has ended with `status` and one error line, and return this line."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(lines) == 1, done.stderr
    return lines[0]
