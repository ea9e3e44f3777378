"""The shell drivers: their help, their refusals, and one run of the whole chain from another folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scripts import ROOT, one_line_error, run_driver

from model.network import GaitSet

DRIVERS = sorted(p.name for p in (ROOT / "test").glob("*.sh") if p.name not in ("env.sh", "train_common.sh"))


def summary_of(driver: str) -> dict:
    content = json.loads((ROOT / "test" / "output" / f"{driver}.json").read_text())
    lines = (ROOT / "test" / "output" / f"{driver}.txt").read_text().splitlines()
    assert all("=" in line for line in lines)
    return content


def test_the_published_drivers_are_there():
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


@pytest.mark.parametrize("driver", DRIVERS)
def test_unknown_options_are_refused(driver):
    assert "unknown option --nonsense" in one_line_error(run_driver(driver, "--nonsense=1"), 2)
    assert "unexpected argument nonsense" in one_line_error(run_driver(driver, "nonsense"), 2)


@pytest.mark.parametrize("path", [ROOT / "test" / name for name in [*DRIVERS, "env.sh", "train_common.sh"]])
def test_every_script_is_strict_and_parses(path):
    assert "set -euo pipefail" in path.read_text()
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0


def test_without_atc_the_way_out_is_named(tmp_path):
    done = run_driver("pth2om.sh", PATH="/usr/bin:/bin")
    assert "--onnx-only" in one_line_error(done, 1)


def test_without_bins_the_step_before_is_named(tmp_path):
    done = run_driver("eval_acc_perf.sh", f"--bin_path={tmp_path}/none")
    assert "predeal.sh" in one_line_error(done, 1)


def test_python_may_be_named_without_a_path():
    """`python` is also what the drivers call their own function: it must not call itself."""
    folder = str(Path(sys.executable).parent)
    done = run_driver(
        "pth2om.sh", "--onnx-only", "--config=nowhere.py", PYTHON="python", PATH=f"{folder}:/usr/bin:/bin"
    )
    assert "--config" in done.stderr and "no such file" in done.stderr


def test_a_device_that_is_not_there_is_one_line():
    done = run_driver("train_full_1p.sh", "--device=tpu")
    assert "--device tpu: no such device" in one_line_error(done, 2)


def test_flags_take_true_and_false_and_nothing_else(tmp_path):
    done = run_driver("pth2om.sh", "--onnx_only=true", "--config=nowhere.py")
    assert "no such file" in done.stderr and "atc is not" not in done.stderr
    assert "--onnx_only must be True or False, not yes" in one_line_error(run_driver("pth2om.sh", "--onnx_only=yes"), 2)


@pytest.mark.slow
def test_an_om_of_an_earlier_run_does_not_pass_for_a_new_one(tmp_path):
    torch.save(GaitSet().state_dict(), tmp_path / "e.ptm")
    (tmp_path / "atc").write_text("#!/bin/sh\necho 'ATC run success, welcome to the next use.'\n")
    (tmp_path / "atc").chmod(0o755)
    for name in ("gaitset_submit.om", "gaitset_submit_bs16.om"):
        (tmp_path / name).touch()
    options = [f"--checkpoint={tmp_path}/e.ptm", f"--output_path={tmp_path}", "--batch_sizes=1", "--frame_num=2"]
    done = run_driver("pth2om.sh", *options, PATH=f"{tmp_path}:/usr/bin:/bin")
    assert "wrote no" in one_line_error(done, 1)


@pytest.mark.slow
def test_the_published_commands_give_a_table(tmp_path: Path):
    """predeal, train, export, evaluate: few walkers, few frames, called from another folder with relative paths."""
    frames = "8"
    places = ["--work_path=work"]
    done = run_driver(
        "predeal.sh", "--synthetic_subjects=4", f"--synthetic_frames={frames}", "--pid_num=2", "--output_path=pre",
        "--synthetic_path=raw", "--bin_path=bins", *places, "--", "--bin_frames", frames, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "making 4 synthetic walkers" in done.stdout
    assert summary_of("predeal")["bins"]["bins"] == 2 * 110

    recipe = ["--pid_num", "2", "--batch_size_p", "2", "--batch_size_m", "2", "--frame_num", "2", "--save_iter", "2"]
    data = ["--dataset=Synthetic", "--data_path=pre", "--device=cpu", *places]
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
        f"--frame_num={frames}",
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
    assert deployed["accuracy_bs1"]["rank1"] == deployed["accuracy_bs16"]["rank1"] == ours
    assert deployed["throughput_bs16"]["e2e_throughput"] > 0
