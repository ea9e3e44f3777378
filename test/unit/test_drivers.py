"""The shell drivers: help, rejected options, and the paths and commands that they pass to Python."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ascend import executable
from cann_folder import write_cann, write_script
from hostile_values import DRIVERS, RECORDER
from options_page import parser_of
from scripts import ROOT, one_line_error, run_driver, run_quietly, succeed

pytestmark = pytest.mark.slow
PTH2OM = "pth2om.sh --cann_path={}/cann"


def test_all_published_drivers_exist():
    assert set(DRIVERS) >= {
        "predeal.sh", "train_full_1p.sh", "train_full_8p.sh", "train_performance_1p.sh", "train_performance_8p.sh",
        "train_eval_8p.sh", "pth2om.sh", "eval_acc_perf.sh", "quickstart.sh", "run_tests.sh",
    }  # fmt: skip


@pytest.mark.parametrize("driver", DRIVERS)
def test_help_describes_driver_and_options(driver, tmp_path):
    done = run_driver(driver, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"bash test/{driver}" in done.stdout and "Options" in done.stdout
    assert "#!" not in done.stdout and "set -euo" not in done.stdout
    options = [line for line in done.stdout.splitlines() if line.startswith("  --")]
    assert options and all("(empty: " in line or " (default: " in line for line in options)
    assert "(default: none)" not in done.stdout, "the text in (empty: ...) is the default"


@pytest.mark.parametrize("driver", DRIVERS)
def test_unknown_options_are_rejected(driver):
    assert "unknown option --nonsense" in one_line_error(run_driver(driver, "--nonsense=1"), 2)
    assert "unexpected argument nonsense" in one_line_error(run_driver(driver, "nonsense"), 2)


@pytest.mark.parametrize("path", sorted((ROOT / "test").glob("*.sh")))
def test_scripts_are_strict_and_parse(path):
    assert "set -euo pipefail" in path.read_text()
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0


@pytest.mark.parametrize(
    ("given", "expected"), [("", ROOT / "test" / "output"), ("/some/where", "/some/where"), ("a b", "{}/a b")]
)
def test_gaitset_output_sets_the_output_folder(tmp_path, given, expected):
    command = ["bash", "-c", f'source "{ROOT}/test/env.sh"; echo "$OUTPUT"']
    done = run_quietly(command, tmp_path, {"GAITSET_OUTPUT": given})
    assert done.stdout.strip() == str(expected).format(tmp_path)


@pytest.mark.skipif(Path("/usr/local/Ascend").exists(), reason="there is a CANN on this machine")
def test_missing_atc_names_the_alternatives(tmp_path):
    done = run_driver("pth2om.sh", PATH="/usr/bin:/bin", HOME=str(tmp_path))
    line = one_line_error(done, 1)
    assert "--onnx-only" in line and "--cann_path" in line and "set_env.sh" in line
    assert "CANN: no set_env.sh in the usual folders" in done.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("quickstart.sh --subjects=many", "--subjects=many: must be a whole number"),
        ("quickstart.sh --frames=1.5", "--frames=1.5: must be a whole number"),
        ("quickstart.sh --pid_num=36", "--pid_num=36: must be at least 2 and less than --subjects=36"),
        ("quickstart.sh --pid_num=1", "--pid_num=1: must be at least 2"),
        ("quickstart.sh --device=gpu", "--device=gpu: must be auto, cpu, cuda or npu"),
        ("train_full_1p.sh --device=tpu", "--device tpu: unknown device"),
        ("train_full_8p.sh --fp32 --hf32", "--fp32 and --hf32: they exclude each other"),
        ("train_full_8p.sh --device_id=a", "--device_id=a: must be numbers such as 3 or 0,1"),
        ("train_full_8p.sh --device_id=1 --device=npu:1", "--device_id=1 and --device=npu:1: both select a device"),
        ("predeal.sh --dataset=mygait --input_path=.", "no evaluation protocol for dataset 'mygait'"),
        ("pth2om.sh --onnx_only=yes", "--onnx_only: must be True or False, found yes"),
        ("pth2om.sh --onnx_only=TRUE --config=nowhere.py", "no such file"),
        ("pth2om.sh --onnx_only=true --config=nowhere.py", "no such file"),
        ("pth2om.sh --onnx_only --config=nowhere.py", "no such file"),
        ("pth2om.sh --cann_path={}/nowhere", "not a CANN folder"),
        ("pth2om.sh --aoe=3", "must be 1 (subgraphs), 2 (operators) or both"),
        ("pth2om.sh '--batch_sizes=1;touch x'", "must be numbers such as 1,16"),
        ("pth2om.sh --batch_sizes=1,,16", "must be numbers such as 1,16"),
        ("pth2om.sh --batch_sizes=*", "must be numbers such as 1,16"),
        ("pth2om.sh --batch_sizes=0", "must be numbers such as 1,16"),
        ("pth2om.sh --batch_sizes=4,1,4", "4 is given twice"),
        (f"{PTH2OM} '--output_path={{}}/a b'", "ATC accepts letters"),
        (f"{PTH2OM} '--output_path={{}}/$(touch x)'", "ATC accepts letters"),
        (f"{PTH2OM} --soc_version=310P3", "for example Ascend310P3"),
        (f"{PTH2OM} '--soc_version=$(touch x)'", "ATC expects"),
        (f"{PTH2OM} '--atc_options=`touch x`'", "does not have the form --name=value"),
        (f"{PTH2OM} --atc_options=--dynamic_batch_size=1,16", "one model per value of --batch_sizes"),
        (f"{PTH2OM} --atc_options=--keep_dtype=gone.cfg", "gone.cfg: no such file; correct --keep_dtype"),
    ],
)
def test_invalid_values_are_rejected_before_any_work(tmp_path, command, message):
    write_cann(tmp_path / "cann")
    done = run_driver(*shlex.split(command.replace("{}", str(tmp_path))), cwd=tmp_path)
    assert message in one_line_error(done, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["cann"] and not (ROOT / "x").exists()
    assert "installing" not in done.stdout and "pretreatment.py --input" not in done.stderr


def test_python_can_be_a_name_without_a_path():
    """The drivers define a function `python`, which must not call itself."""
    folder = str(Path(sys.executable).parent)
    done = run_driver(
        "pth2om.sh", "--onnx-only", "--config=nowhere.py", PYTHON="python", PATH=f"{folder}:/usr/bin:/bin"
    )
    assert "--config" in done.stderr and "no such file" in done.stderr


@pytest.fixture
def recorded(tmp_path):
    """Return a function that runs a driver with a Python that only records its arguments.

    The current folder is a folder of the user. The function returns the completed driver and the recorded arguments.
    """
    executable(tmp_path / "record", RECORDER + 'echo "$BENCHMARK_TOOL" > "$ARGUMENTS.tool"\n')
    for name in ("p.json", "c.py", "bins.info", "a.json", "b.json"):
        (tmp_path / name).touch()

    def run(driver, *arguments, **environment):
        (tmp_path / "arguments").unlink(missing_ok=True)
        names = {"PYTHON": str(tmp_path / "record"), "ARGUMENTS": str(tmp_path / "arguments"), **environment}
        bins = ["--bin_path=bins"] if driver == "eval_acc_perf.sh" else []
        onnx = ["--onnx_only"] if driver == "pth2om.sh" else []
        done = run_driver(driver, *bins, *onnx, *arguments, cwd=tmp_path, **names)
        record = tmp_path / "arguments"
        return done, record.read_text().split("\0") if record.exists() else []

    return run


WITH_PYTHON_OPTIONS = [driver for driver in DRIVERS if driver != "run_tests.sh"]


@pytest.mark.parametrize("driver", WITH_PYTHON_OPTIONS)
def test_paths_after_the_dashes_are_relative_to_the_folder_of_the_caller(recorded, tmp_path, driver):
    passed = ["--partition", "p.json", "--config=c.py", "--json", "new.json", "--throughput", "a.json", "b.json"]
    done, words = recorded(driver, "--", *passed, "--partition", "all", "--lr", "p.json", "--padding=p.json")
    assert done.returncode == 0, done.stderr
    start = words.index(str(tmp_path / "p.json")) - 1
    assert words[start : start + 13] == [
        "--partition", f"{tmp_path}/p.json", f"--config={tmp_path}/c.py", "--json", f"{tmp_path}/new.json",
        "--throughput", f"{tmp_path}/a.json", f"{tmp_path}/b.json", "--partition", "all", "--lr", "p.json",
        "--padding=p.json",
    ]  # fmt: skip


@pytest.mark.parametrize("driver", WITH_PYTHON_OPTIONS)
@pytest.mark.parametrize("passed", [["--partition", "gone.json"], ["--config=gone.py"]])
def test_missing_files_after_the_dashes_are_reported_before_any_work(recorded, tmp_path, driver, passed):
    done, words = recorded(driver, "--", *passed)
    assert "gone" in one_line_error(done, 2) and "no such file" in done.stderr and words == []


def test_partition_of_predeal_is_relative_to_the_caller_and_checked_first(recorded, tmp_path):
    done, words = recorded("predeal.sh", "--partition=p.json")
    assert done.returncode == 0 and words.count(str(tmp_path / "p.json")) == 2  # for --check and for the input files
    assert "--check" in words[: words.index("model.synthetic")]
    assert recorded("predeal.sh", PARTITION="all")[0].returncode == 0
    for way in ({"PARTITION": "gone.json"}, {}):
        done, words = recorded("predeal.sh", *([] if way else ["--partition=gone.json"]), **way)
        assert f"{tmp_path}/gone.json: no such file" in one_line_error(done, 2) and words == []


def test_benchmark_tool_is_relative_to_the_caller(recorded, tmp_path):
    assert recorded("eval_acc_perf.sh", BENCHMARK_TOOL="tools/benchmark")[0].returncode == 0
    assert (tmp_path / "arguments.tool").read_text().strip() == f"{tmp_path}/tools/benchmark"


def test_tests_are_found_from_the_folder_of_the_caller(recorded, tmp_path):
    (tmp_path / "unit").mkdir()
    (tmp_path / "unit/test_x.py").touch()
    _, words = recorded("run_tests.sh", "--", "unit/test_x.py::test_y", "-k", "unit", "test/unit/test_docs.py")
    assert words[-5:-1] == [f"{tmp_path}/unit/test_x.py::test_y", "-k", "unit", "test/unit/test_docs.py"]


def test_the_drivers_know_the_path_options_of_the_python_commands():
    lists = (ROOT / "test/env.sh").read_text().split("READ_PATHS=")[1].split("\n\n")[0]
    for command in ("train.py", "test.py", "pth2onnx.py"):
        for action in parser_of(command)._actions:
            if action.type is Path or action.metavar in ("FILE", "DIR"):
                assert f" {action.option_strings[0]} " in lists


@pytest.mark.parametrize("driver", DRIVERS)
def test_dry_run_prints_existing_commands_and_runs_none(driver, tmp_path):
    places = [] if driver == "run_tests.sh" else [f"--work_path={tmp_path / 'work'}"]
    elsewhere = {"PATH": "/usr/bin:/bin", "GAITSET_OUTPUT": str(tmp_path / "output")}
    done = run_driver(driver, "--dry_run", *places, cwd=tmp_path, **elsewhere)
    assert done.returncode == 0, done.stderr
    commands = [line.split() for line in done.stdout.splitlines() if line.startswith("+ python ")]
    assert commands
    for command in commands:
        place = command[2] if command[2] != "-m" else command[3].replace(".", "/")
        ours = (ROOT / place).exists() or (ROOT / f"{place}.py").exists()
        assert ours or place in ("pytest", "torch/distributed/run"), command
    assert not list(tmp_path.iterdir())


def test_quickstart_accepts_numbers_with_a_zero_and_a_device_with_a_number():
    assert "+ python train.py" in succeed("quickstart.sh", "--pid_num=08", "--device=cuda:1", "--dry_run").stdout


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_installation_uses_uv_if_present_and_happens_once(tmp_path, installer):
    (tmp_path / "test").mkdir()
    for name in ("env.sh", "cann.sh"):
        shutil.copy(ROOT / "test" / name, tmp_path / "test")
    (tmp_path / "requirements.txt").write_text("torch\n")
    write_script(tmp_path / ".venv" / "bin" / "python", f'echo "pip $*" >> {tmp_path}/calls')
    if installer == "uv":
        write_script(tmp_path / "bin" / "uv", f'echo "uv $*" >> {tmp_path}/calls')
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    for _ in range(2):
        command = ["bash", "-c", "source test/env.sh; install requirements.txt"]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert call.split()[0] == installer and call.endswith("-r requirements.txt")
