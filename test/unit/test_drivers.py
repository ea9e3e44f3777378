"""The shell drivers: help, rejected options, and one run of all steps from another folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ascend import executable
from cann_folder import write_cann, write_command, write_script
from hostile_values import DRIVERS, RECORDER
from options_page import parser_of
from scripts import ROOT, one_line_error, run_driver, summary_of
from walkers import write_aligned_tree

from model.network import GaitSet

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--subjects=many", "--subjects=many: must be a whole number"),
        ("--frames=1.5", "--frames=1.5: must be a whole number"),
        ("--pid_num=08", None),
        ("--pid_num=36", "--pid_num=36: must be at least 2 and less than --subjects=36"),
        ("--pid_num=1", "--pid_num=1: must be at least 2"),
        ("--device=gpu", "--device=gpu: must be auto, cpu, cuda or npu"),
        ("--device=cuda:1", None),
    ],
)
def test_quickstart_checks_its_values_before_the_installation(option, message):
    done = run_driver("quickstart.sh", option, "--dry_run")
    if message is None:
        assert done.returncode == 0 and "+ python train.py" in done.stdout, done.stderr
    else:
        assert message in one_line_error(done, 2) and done.stdout == ""


@pytest.mark.parametrize("path", [ROOT / "test" / name for name in [*DRIVERS, "env.sh", "train_common.sh"]])
def test_scripts_are_strict_and_parse(path):
    assert "set -euo pipefail" in path.read_text()
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0


@pytest.mark.parametrize(
    ("given", "expected"), [("", ROOT / "test" / "output"), ("/some/where", "/some/where"), ("a b", "{}/a b")]
)
def test_gaitset_output_sets_the_output_folder(tmp_path, given, expected):
    command = ["bash", "-c", f'source "{ROOT}/test/env.sh"; echo "$OUTPUT"']
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"GAITSET_OUTPUT": given}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(expected).format(tmp_path)


@pytest.mark.skipif(Path("/usr/local/Ascend").exists(), reason="there is a CANN on this machine")
def test_missing_atc_names_the_alternatives(tmp_path):
    done = run_driver("pth2om.sh", PATH="/usr/bin:/bin", HOME=str(tmp_path))
    line = one_line_error(done, 1)
    assert "--onnx-only" in line and "--cann_path" in line and "set_env.sh" in line
    assert "CANN: no set_env.sh in the usual folders" in done.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--output_path={}/a b", "ATC accepts letters"),
        ("--output_path={}/$(touch x)", "ATC accepts letters"),
        ("--soc_version=310P3", "for example Ascend310P3"),
        ("--soc_version=$(touch x)", "ATC expects"),
        ("--atc_options=`touch x`", "does not have the form --name=value"),
        ("--atc_options=--dynamic_batch_size=1,16", "one model per value of --batch_sizes"),
        ("--batch_sizes=1;touch x", "must be numbers such as 1,16"),
        ("--batch_sizes=1,,16", "must be numbers such as 1,16"),
        ("--batch_sizes=*", "must be numbers such as 1,16"),
        ("--batch_sizes=0", "must be numbers such as 1,16"),
        ("--batch_sizes=4,1,4", "4 is given twice"),
        ("--cann_path={}/nowhere", "not a CANN folder"),
        ("--aoe=3", "must be 1 (subgraphs), 2 (operators) or both"),
        ("--atc_options=--keep_dtype=gone.cfg", "gone.cfg: no such file; correct --keep_dtype"),
    ],
)
def test_invalid_values_for_atc_are_rejected_before_the_export(tmp_path, option, message):
    cann = write_cann(tmp_path / "cann")
    done = run_driver("pth2om.sh", f"--cann_path={cann}", option.format(tmp_path), cwd=tmp_path)
    assert message in one_line_error(done, 2)
    assert not list(tmp_path.glob("**/x")) and not (ROOT / "x").exists()


def test_missing_input_files_name_the_previous_step(tmp_path):
    done = run_driver("eval_acc_perf.sh", f"--bin_path={tmp_path}/none")
    assert "predeal.sh" in one_line_error(done, 1)


def test_python_can_be_a_name_without_a_path():
    """The drivers define a function `python`, which must not call itself."""
    folder = str(Path(sys.executable).parent)
    done = run_driver(
        "pth2om.sh", "--onnx-only", "--config=nowhere.py", PYTHON="python", PATH=f"{folder}:/usr/bin:/bin"
    )
    assert "--config" in done.stderr and "no such file" in done.stderr


def test_unknown_device_is_one_line():
    done = run_driver("train_full_1p.sh", "--device=tpu")
    assert "--device tpu: unknown device" in one_line_error(done, 2)


@pytest.mark.parametrize("value", ["=true", "=TRUE", ""])
def test_flags_accept_only_true_and_false(value):
    done = run_driver("pth2om.sh", f"--onnx_only{value}", "--config=nowhere.py")
    assert "no such file" in done.stderr and "atc is not" not in done.stderr


def test_flags_reject_other_values():
    assert "--onnx_only must be True or False, not yes" in one_line_error(run_driver("pth2om.sh", "--onnx_only=yes"), 2)


@pytest.mark.parametrize("driver", ["train_full_1p.sh", "train_performance_8p.sh"])
def test_options_of_the_npu_port_reach_train_py(driver, tmp_path):
    """Environment variables carry the devices and the precision. The variable DEVICE_ID is ignored."""
    record = executable(
        tmp_path / "python",
        '#!/bin/bash\necho 2\n[[ "$*" != *train.py* ]] || { env; printf \'%s\\n\' "$@"; } > $RECORD\n',
    )
    options = [
        "--amp=apex", "--loss_scale=32", "--batch_size_p=4", "--batch_size_m=2", "--workers=5", "--device_id=1,3",
        "--hf32", "--zoo_log",
    ]  # fmt: skip
    more = {"PYTHON": str(record), "RECORD": str(tmp_path / "train"), "DEVICE_ID": "0"}
    done = run_driver(driver, "--device=cpu", *options, **more)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "train").read_text().splitlines()
    assert {"ASCEND_RT_VISIBLE_DEVICES=1,3", "CUDA_VISIBLE_DEVICES=1,3", "ALLOW_HF32=True"} <= set(lines)
    assert not any(line.startswith("ALLOW_FP32") for line in lines)
    arguments = lines[lines.index("train.py") + 1 :]
    parsed = parser_of("train.py").parse_args(arguments)
    assert (parsed.amp, parsed.loss_scale, parsed.num_workers, parsed.zoo_log) == ("apex", "32", 5, True)
    assert (parsed.batch_size_p, parsed.batch_size_m) == (4, 2)
    assert parsed.device_num == (1 if "1p" in driver else 2)
    assert parsed.zoo_path == Path(os.environ["GAITSET_OUTPUT"]) / "1"  # the first device


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fp32", "--hf32"], "--fp32 and --hf32: they exclude each other"),
        (["--device_id=a"], "--device_id=a: must be numbers such as 3 or 0,1"),
        (["--device_id=1", "--device=npu:1"], "--device_id=1 and --device=npu:1: both select a device"),
    ],
)
def test_contradicting_options_of_the_training_drivers(options, message):
    assert message in one_line_error(run_driver("train_full_8p.sh", *options), 2)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder") / "e.ptm"
    torch.save(GaitSet(hidden_dim=8).state_dict(), path)
    (path.parent / "small.py").write_text("conf = {'model': {'hidden_dim': 8}}")
    return [f"--checkpoint={path}", f"--config={path.parent / 'small.py'}", "--frame_num=2"]


def test_checkpoint_becomes_one_om_per_batch_size(tmp_path, encoder):
    """Find CANN in the home folder, without PATH or --cann_path, and the SoC version with npu-smi."""
    write_cann(tmp_path / "Ascend" / "ascend-toolkit")
    write_command(tmp_path / "bin", "npu-smi")
    machine = {"HOME": str(tmp_path), "PATH": f"{tmp_path}/bin:/usr/bin:/bin", "NPU_SMI_CHIPS": "310P3,310P3"}
    options = [*encoder, "--output_path=oms", "--batch_sizes=1,3", "--precision=fp32", "--aoe"]
    options += ["--atc_options=--log=debug --keep_dtype=nodes.cfg"]
    (tmp_path / "nodes.cfg").write_text("conv1")  # a path that starts at the folder of the caller
    done = run_driver("pth2om.sh", *options, cwd=tmp_path, **machine)
    assert done.returncode == 0, done.stderr
    assert "CANN: sourcing" in done.stderr and "SoC version Ascend310P3: from npu-smi info" in done.stderr
    assert sorted(p.name for p in (tmp_path / "oms").iterdir()) == [
        "gaitset_submit.aoe.json", "gaitset_submit.om", "gaitset_submit.onnx",
        "gaitset_submit_bs3.aoe.json", "gaitset_submit_bs3.om", "gaitset_submit_bs3.onnx",
    ]  # fmt: skip
    summary = summary_of("pth2om")
    assert summary["soc_version"] == "Ascend310P3" and summary["folder"] == str(tmp_path / "oms")
    for batch, name in ((1, "gaitset_submit"), (3, "gaitset_submit_bs3")):
        om = summary[f"om_bs{batch}"]
        assert om["om"] == str(tmp_path / "oms" / f"{name}.om") and om["batch_size"] == batch
        assert om["input"] == summary[f"onnx_bs{batch}"]["input"] == {"image_seq": [batch, 2, 64, 44]}
        assert "--log=debug" in Path(om["log"]).read_text()
        keep = f"--keep_dtype={tmp_path / 'nodes.cfg'}"
        assert om["options"] == ["--log=debug", keep, "--precision_mode_v2=cube_fp16in_fp32out"]
        assert om["aoe"][0]["milliseconds_before"] == 1.65 and Path(om["aoe"][0]["report"]).is_file()


def test_stale_om_of_an_earlier_run_is_not_accepted(tmp_path, encoder):
    write_script(tmp_path / "bin" / "atc", "echo 'ATC run success, welcome to the next use.'")
    (tmp_path / "gaitset_submit.om").write_bytes(b"of an earlier run")
    options = [*encoder, f"--output_path={tmp_path}", "--batch_sizes=1"]
    done = run_driver("pth2om.sh", *options, PATH=f"{tmp_path}/bin:/usr/bin:/bin", HOME=str(tmp_path))
    assert "instead of one gaitset_submit.om it left: none" in one_line_error(done, 1)
    assert (tmp_path / "gaitset_submit.om").read_bytes() == b"of an earlier run"


def test_predeal_without_data_makes_walkers(tmp_path):
    done = run_driver(
        "predeal.sh", "--synthetic_subjects=3", "--synthetic_frames=2", "--pid_num=2", "--output_path=pre",
        "--synthetic_path=raw", "--bin_path=bins", "--work_path=work", "--", "--bin_frames", "2", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "making 3 synthetic walkers" in done.stdout
    assert summary_of("predeal")["bins"]["bins"] == 110


def test_published_commands_give_an_accuracy_table(tmp_path: Path):
    """Run predeal, train, export and evaluate on a small dataset, from another folder with relative paths.

    The subjects are easy to identify. With synthetic walkers, a network with so little training has nearly equal
    distances, and the rounding of each runtime would decide.
    """
    write_aligned_tree(tmp_path / "raw", margin=20)
    places = ["--work_path=work"]
    (tmp_path / "small.py").write_text("conf = {'model': {'channels': (8, 16, 32)}}")
    done = run_driver(
        "predeal.sh", "--dataset=Synthetic", "--input_path=raw", "--pid_num=2", "--output_path=pre", "--bin_path=bins",
        *places, "--", "--bin_frames", "8", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert summary_of("predeal")["bins"]["bins"] == 2 * 20

    recipe = ["--pid_num", "2", "--batch_size_p", "2", "--batch_size_m", "2", "--frame_num", "2", "--save_iter", "2"]
    data = ["--config=small.py", "--dataset=Synthetic", "--data_path=pre", "--device=cpu", *places]
    done = run_driver("train_full_1p.sh", *data, "--iters=2", "--", *recipe, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    checkpoint = summary_of("train_full_1p")["training"]["checkpoint"]
    assert Path(checkpoint).is_relative_to(tmp_path)

    done = run_driver("train_full_8p.sh", *data, "--iters=2", "--", *recipe, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    used = summary_of("train_full_8p")["training"]["processes"]
    assert used < 8 and f"using {used}" in done.stdout

    done = run_driver("train_performance_1p.sh", *data, "--iters=2", "--", *recipe[:-2], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert summary_of("train_performance_1p")["performance"]["sequences_per_second"] > 0

    done = run_driver("train_eval_8p.sh", *data, f"--checkpoint={checkpoint}", "--", "--pid_num", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ours = summary_of("train_eval_8p")["accuracy"]["rank1"]

    done = run_driver(
        "pth2om.sh",
        f"--checkpoint={checkpoint}",
        "--onnx-only",
        "--output_path=models",
        "--frame_num=8",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == [
        "gaitset_submit.onnx",
        "gaitset_submit_bs16.onnx",
    ]

    done = run_driver(
        "eval_acc_perf.sh", "--dataset=Synthetic", "--bin_path=bins", "--model_path=models", "--result_path=result",
        *places, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    deployed = summary_of("eval_acc_perf")
    # After two iterations, embeddings are so close that rounding can change the result of a few of the 440 probes.
    for batch in ("accuracy_bs1", "accuracy_bs16"):
        for condition, figures in deployed[batch]["rank1"].items():
            assert figures["excluding"] == pytest.approx(ours[condition]["excluding"], abs=100 * 3 / 440)
    assert ours["NM"]["excluding"] > 50
    assert deployed["throughput_bs16"]["e2e_throughput"] > 0


@pytest.fixture
def recorded(tmp_path):
    """Run a driver in a folder of the user, with a Python that only records its arguments; return both."""
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
    assert done.returncode == 0 and words.count(str(tmp_path / "p.json")) == 2  # of the check and of the bins
    assert "--check" in words[: words.index("model.synthetic")]
    assert recorded("predeal.sh", PARTITION="all")[0].returncode == 0
    for way in ({"PARTITION": "gone.json"}, {}):
        done, words = recorded("predeal.sh", *([] if way else ["--partition=gone.json"]), **way)
        assert f"{tmp_path}/gone.json: no such file" in one_line_error(done, 2) and words == []


def test_a_dataset_without_a_protocol_is_reported_before_the_pretreatment(tmp_path):
    done = run_driver("predeal.sh", "--dataset=mygait", f"--input_path={tmp_path}", cwd=tmp_path)
    assert "no evaluation protocol for dataset 'mygait'" in one_line_error(done, 2)
    assert "pretreatment.py" not in done.stderr and not list(tmp_path.iterdir())


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


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_installation_uses_uv_if_present_and_happens_once(tmp_path, installer):
    (tmp_path / "test").mkdir()
    shutil.copy(ROOT / "test" / "env.sh", tmp_path / "test")
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
