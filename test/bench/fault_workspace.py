"""A folder with tiny data in which the commands run, and the checks of the files that they leave."""

import hashlib
import json
import random
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fault_commands import COMMANDS, RECIPE, Command, Job, start
from raw_trees import make_tree
from walkers import write_aligned_tree

# Files that differ from run to run, and temporary files of this project.
VOLATILE = re.compile(r"(^|/)(events\.out\.tfevents|pretreatment\.log|perf_vision|train-\d)")
LEFTOVER = re.compile(r"(^|/)\.[^/]*\.(part|old|lock)(/|$)")
# These commands replace existing files. The others continue them.
REPLACING = ("export", "bins", "inference", "report", "test", "embed")


@dataclass(frozen=True)
class Workspace:
    """Data for the commands.

    complete: folder with all inputs and outputs of the commands.
    trial: folder in which the commands run. It is always the same, because the name of a store contains its path.
    expected: file name to checksum per command, after an uninterrupted run.
    seconds: duration of an uninterrupted run per command.
    """

    complete: Path
    trial: Path
    expected: dict[str, dict[str, str]]
    seconds: dict[str, float]

    def reset(self, command: Command, keep: bool = False) -> Path:
        """Fill the trial folder with the inputs of a command, and with `keep` also with its previous outputs."""
        self.trial.mkdir(exist_ok=True)
        for path in self.trial.iterdir():
            _remove(path)
        shutil.copytree(self.complete, self.trial, symlinks=True, dirs_exist_ok=True)
        for output in () if keep else command.outputs:
            _remove(self.trial / output)
        return self.trial

    def check_complete_files(self, command: Command) -> str | None:
        """Return an error if a file has other content than after an uninterrupted run.

        Logs grow during a run, and earlier checkpoints are checked by resuming from them.
        """
        expected = self.expected[command.name]
        for name, digest in contents(self.trial, command).items():
            if not name.endswith(".jsonl") and "/checkpoint/" not in name and expected.get(name) != digest:
                return f"{name} is incomplete"
        return None

    def check_rerun(self, command: Command) -> str | None:
        """Run the same command again, and return an error unless the result equals that of an uninterrupted run."""
        job = start(command, self.trial)
        statuses = job.wait()
        if set(statuses) != {0}:
            return f"the same command ended with {statuses}: {job.stderr()[-600:]}"
        return self.check_result(command)

    def check_result(self, command: Command) -> str | None:
        """Return an error unless all files equal those of an uninterrupted run and no temporary file is left."""
        found, expected = contents(self.trial, command), self.expected[command.name]
        if found != expected:
            different = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
            return f"different result: {different[:4]}"
        left = leftovers(self.trial, command)
        return f"temporary files left: {left[:4]}" if left else None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def prepare(folder: Path) -> Workspace:
    """Create the data, and run each command once without interruption."""
    trial, complete = folder / "trial", folder / "complete"
    trial.mkdir(parents=True)
    (trial / "recipe.py").write_text(RECIPE)
    write_aligned_tree(trial / "aligned", subjects=4, frames=4)
    make_tree(trial / "raw", sequences=24, frames=12)
    workspace = Workspace(complete, trial, {}, {})
    for command in COMMANDS.values():
        if command.processes == 1:
            _run_uninterrupted(workspace, command)
    shutil.copytree(trial, complete)
    for command in COMMANDS.values():
        if command.processes > 1:
            workspace.reset(command)
            _run_uninterrupted(workspace, command)
    return workspace


def _run_uninterrupted(workspace: Workspace, command: Command) -> None:
    begin = time.perf_counter()
    job = start(command, workspace.trial)
    assert set(job.wait()) == {0}, (command.name, job.stderr())
    workspace.seconds[command.name] = time.perf_counter() - begin
    workspace.expected[command.name] = contents(workspace.trial, command)


def run_trials(
    shares: Mapping[str, float], count: int, draw: random.Random, trial: Callable[[Command, float], str | None]
) -> dict:
    """Call `trial` for `count` cases, distributed over the commands by their shares.

    `trial` gets the command and a position from 0 to 1 that is spread evenly over the cases of the command. It returns
    an error, or None if the case passed. With fewer cases than commands, some commands get none.
    """
    numbers = {name: int(count * share / sum(shares.values())) for name, share in shares.items()}
    for name in draw.sample(list(shares), k=min(len(shares), count - sum(numbers.values()))):
        numbers[name] += 1
    failures: list[str] = []
    for name, number in numbers.items():
        for case in range(number):
            failure = trial(COMMANDS[name], (case + draw.random()) / number)
            if failure:
                failures.append(f"{name}: {failure}")
                print(failures[-1], flush=True)
        if number:
            print(f"{name}: {number} cases", flush=True)
    return {"cases": {name: number for name, number in numbers.items() if number}, "failures": failures}


def contents(folder: Path, command: Command) -> dict[str, str]:
    """Return name and checksum of each output of a command, without parts that differ from run to run."""
    found = {}
    for output in command.outputs:
        path = folder / output
        for file in sorted(path.rglob("*")) if path.is_dir() else [path] if path.exists() else []:
            name = file.relative_to(folder).as_posix()
            if file.is_file() and not VOLATILE.search(name) and not LEFTOVER.search(name):
                found[name] = hashlib.sha256(_reproducible_content(file)).hexdigest()
    return found


def leftovers(folder: Path, command: Command) -> list[str]:
    """Return temporary files next to and below the outputs of a command."""
    folders = {(folder / output).parent for output in command.outputs} | {folder / output for output in command.outputs}
    names = {file.relative_to(folder).as_posix() for path in folders if path.is_dir() for file in path.rglob(".*")}
    return sorted(name for name in names if LEFTOVER.search(name))


def traceback_in(job: Job) -> str | None:
    """Return an error if a process printed a traceback."""
    text = job.stderr()
    return f"traceback: {text[-700:]}" if "Traceback" in text else None


def _reproducible_content(file: Path) -> bytes:
    """Return the content of a file without times, speeds and random names."""
    content = file.read_bytes()
    if file.suffix == ".jsonl":
        points = [json.loads(line) for line in content.splitlines() if line.endswith(b"}")]
        return json.dumps([{k: v for k, v in p.items() if k != "iterations_per_second"} for p in points]).encode()
    if file.suffix == ".json" and "store" not in file.parts:
        value = json.loads(content)
        for key in ("time", "run", "launch", "details", "seconds", "sha256_of_the_rest"):
            value.pop(key, None)
        return json.dumps(value, sort_keys=True).encode()
    if file.suffix == ".html":
        assert content.rstrip().endswith(b"</html>"), file
        return b"complete page"
    if file.suffix == ".nc":
        import xarray

        with xarray.open_dataset(file, engine="netcdf4") as dataset:
            return dataset["accuracy" if "accuracy" in dataset else "embeddings"].values.tobytes()
    return content
