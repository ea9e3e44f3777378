"""Prepare a folder with tiny data, in which the commands run, and check the files that the commands leave there."""

import hashlib
import json
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from fault_commands import COMMANDS, RECIPE, Command, start
from raw_trees import make_tree
from walkers import write_aligned_tree

# Files that differ from run to run.
VOLATILE = re.compile(r"(^|/)(events\.out\.tfevents|pretreatment\.log|perf_vision|train-\d)")
# Temporary files of this project.
LEFTOVER = re.compile(r"(^|/)\.[^/]*\.(part|old|lock)(/|$)")
# If the file of a key exists, all files whose names start with its value must exist.
IMPLIED_FILES = {"bins.info": "bins.json", "bins.json": "bins/", "result/dumpOutput_device0_record.json": "result/dump"}
# Files that may be missing after a stopped run, because a command deletes them before it writes new ones.
DELETED_FIRST = re.compile(r"^bins\.(info|json)$|^bins_done|_record\.json$|^bins/")


@dataclass(frozen=True)
class Workspace:
    """Data for the commands. The methods that check raise AssertionError.

    complete: folder with all inputs and outputs of the commands.
    trial: folder in which every command runs. It is always the same, because the name of a store depends on its path.
    expected: per command, the checksums of its output files by name, after an uninterrupted run.
    seconds: per command, the duration of an uninterrupted run.
    """

    complete: Path
    trial: Path
    expected: dict[str, dict[str, str]]
    seconds: dict[str, float]

    def reset(self, command: Command, keep: bool = False) -> Path:
        """Fill the trial folder with the inputs of a command. If `keep`, also fill it with the command's outputs."""
        self.trial.mkdir(exist_ok=True)
        for path in self.trial.iterdir():
            _remove(path)
        shutil.copytree(self.complete, self.trial, symlinks=True, dirs_exist_ok=True)
        for output in () if keep else command.outputs:
            _remove(self.trial / output)
        return self.trial

    def run_uninterrupted(self, command: Command) -> None:
        """Run a command in the trial folder, and record its duration and its result."""
        begin = time.perf_counter()
        job = start(command, self.trial)
        assert set(job.wait()) == {0}, (command.name, job.stderr())
        self.seconds[command.name] = time.perf_counter() - begin
        self.expected[command.name] = contents(self.trial, command)

    def check_files(self, command: Command, had_output: bool, finished: bool = False) -> None:
        """Check that the files of a stopped or failed run are complete, and that no file of an earlier run is lost.

        The contents of logs and checkpoints are not checked: logs grow during a run, and the next run resumes from
        checkpoints. If `finished`, all files must exist.
        """
        found, expected = contents(self.trial, command), self.expected[command.name]
        for name, digest in found.items():
            grows = name.endswith(".jsonl") or "/checkpoint/" in name
            assert grows or expected.get(name) == digest, f"{name} is incomplete"
        missing = expected.keys() - found.keys()
        for name, implied in IMPLIED_FILES.items():
            has_all = not any(other.startswith(implied) for other in missing)
            assert name not in found or has_all, f"{name} exists without {implied}"
        lost = sorted(n for n in missing if finished or (had_output and not DELETED_FIRST.search(n)))
        assert not lost, f"lost {lost[:3]}"

    def check_rerun(self, command: Command) -> None:
        """Run the command again, and check that the result equals the result of an uninterrupted run."""
        job = start(command, self.trial)
        statuses = job.wait()
        assert set(statuses) == {0}, f"the same command ended with {statuses}: {job.stderr()[-600:]}"
        self.check_result(command)

    def check_result(self, command: Command) -> None:
        """Check that all files equal the files of an uninterrupted run, and that no temporary file is left."""
        found, expected = contents(self.trial, command), self.expected[command.name]
        different = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
        assert not different, f"different result: {different[:4]}"
        left = leftovers(self.trial, command)
        assert not left, f"temporary files left: {left[:4]}"


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
            workspace.run_uninterrupted(command)
    shutil.copytree(trial, complete)
    for command in COMMANDS.values():
        if command.processes > 1:
            workspace.reset(command)
            workspace.run_uninterrupted(command)
    return workspace


def contents(folder: Path, command: Command) -> dict[str, str]:
    """Return the checksums of a command's output files by name, without contents that differ from run to run."""
    found = {}
    for output in command.outputs:
        path = folder / output
        for file in sorted(path.rglob("*")) if path.is_dir() else [path] if path.exists() else []:
            name = file.relative_to(folder).as_posix()
            if file.is_file() and not VOLATILE.search(name) and not LEFTOVER.search(name):
                found[name] = hashlib.sha256(_reproducible_content(file)).hexdigest()
    return found


def leftovers(folder: Path, command: Command) -> list[str]:
    """Return the temporary files next to the outputs of a command, and in output folders."""
    folders = {(folder / output).parent for output in command.outputs} | {folder / output for output in command.outputs}
    names = {file.relative_to(folder).as_posix() for path in folders if path.is_dir() for file in path.rglob(".*")}
    return sorted(name for name in names if LEFTOVER.search(name))


def _reproducible_content(file: Path) -> bytes:
    """Return the parts of a file's content that are equal in every run: no times, speeds or random names."""
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
