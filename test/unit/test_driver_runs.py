"""Runs of the shell drivers: conversion, pretreatment, and all steps from a different current folder."""

import os
import shlex
from pathlib import Path

import pytest
import small_network
import torch
from ascend import executable, names_in
from cann_folder import write_cann, write_command, write_script
from options_page import parser_of
from scripts import one_line_error, run_driver, succeed, summary_of
from walkers import write_aligned_tree

from model.network import GaitSet

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("driver", ["train_full_1p.sh", "train_performance_8p.sh"])
def test_options_of_the_npu_port_reach_train_py(driver, tmp_path):
    """The drivers pass the devices and the precision in environment variables. The variable DEVICE_ID is ignored."""
    script = '#!/bin/bash\necho 2\n[[ "$*" != *train.py* ]] || { env; printf \'%s\\n\' "$@"; } > $RECORD\n'
    record = executable(tmp_path / "python", script)
    options = "--amp=apex --loss_scale=32 --batch_size_p=4 --batch_size_m=2 --workers=5 --device_id=1,3 --hf32"
    more = {"PYTHON": str(record), "RECORD": str(tmp_path / "train"), "DEVICE_ID": "0"}
    succeed(driver, "--device=cpu", "--zoo_log", *options.split(), **more)
    lines = (tmp_path / "train").read_text().splitlines()
    assert {"ASCEND_RT_VISIBLE_DEVICES=1,3", "CUDA_VISIBLE_DEVICES=1,3", "ALLOW_HF32=True"} <= set(lines)
    assert not any(line.startswith("ALLOW_FP32") for line in lines)
    arguments = lines[lines.index("train.py") + 1 :]
    parsed = parser_of("train.py").parse_args(arguments)
    assert (parsed.amp, parsed.loss_scale, parsed.num_workers, parsed.zoo_log) == ("apex", "32", 5, True)
    assert (parsed.batch_size_p, parsed.batch_size_m) == (4, 2)
    assert parsed.device_num == (1 if "1p" in driver else 2)
    assert parsed.zoo_path == Path(os.environ["GAITSET_OUTPUT"]) / "1"  # the first device


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder") / "e.ptm"
    torch.save(GaitSet(**small_network.conf["model"]).state_dict(), path)
    return [f"--checkpoint={path}", f"--config={small_network.__file__}", "--frame_num=2"]


def test_checkpoint_becomes_one_om_per_batch_size(tmp_path, encoder):
    """The driver finds CANN in the home folder, without PATH or --cann_path. npu-smi reports the SoC version."""
    write_cann(tmp_path / "Ascend" / "ascend-toolkit")
    write_command(tmp_path / "bin", "npu-smi")
    machine = {"HOME": str(tmp_path), "PATH": f"{tmp_path}/bin:/usr/bin:/bin", "NPU_SMI_CHIPS": "310P3,310P3"}
    options = [*encoder, "--output_path=oms", "--batch_sizes=1,3", "--precision=fp32", "--aoe"]
    options += ["--atc_options=--log=debug --keep_dtype=nodes.cfg"]
    (tmp_path / "nodes.cfg").write_text("conv1")  # a path that starts at the folder of the caller
    done = succeed("pth2om.sh", *options, cwd=tmp_path, **machine)
    assert "CANN: sourcing" in done.stderr and "SoC version Ascend310P3: from npu-smi info" in done.stderr
    made = [f"gaitset_submit{batch}.{suffix}" for batch in ("", "_bs3") for suffix in ("aoe.json", "om", "onnx")]
    assert names_in(tmp_path / "oms") == made
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
    assert "instead of one om with content it left: none" in one_line_error(done, 1)
    assert (tmp_path / "gaitset_submit.om").read_bytes() == b"of an earlier run"


def test_predeal_without_data_makes_walkers(tmp_path):
    options = "--synthetic_subjects=3 --synthetic_frames=2 --pid_num=2 --synthetic_path=raw"
    more = "--bin_path=bins --work_path=work -- --bin_frames 2"
    done = succeed("predeal.sh", *options.split(), "--output_path=pre data", *more.split(), cwd=tmp_path)
    assert "making 3 synthetic walkers" in done.stdout
    assert f"--data_path={tmp_path}/pre data" in shlex.split(done.stdout.splitlines()[-1]), "it can be pasted"
    assert summary_of("predeal")["bins"]["bins"] == 110


def test_published_commands_give_an_accuracy_table(tmp_path: Path):
    """Prepare, train, export and evaluate with a small data set. The paths are relative to a different current folder.

    The subjects are easy to identify. After so little training, the distances between synthetic walkers would be nearly
    equal, and the rounding of each runtime would decide which subject is nearest.
    """
    write_aligned_tree(tmp_path / "raw", margin=20)
    (tmp_path / "small.py").write_text("conf = {'model': {'channels': (8, 16, 32)}}")

    def run(command, **environment):
        driver, *options = command.split()
        done = succeed(driver, "--work_path=work", *options, cwd=tmp_path, **environment)
        return done, summary_of(driver.removesuffix(".sh"))

    places = "--input_path=raw --output_path=pre --bin_path=bins"
    _, summary = run(f"predeal.sh --dataset=Synthetic --pid_num=2 {places} -- --bin_frames 8")
    assert summary["bins"]["bins"] == 2 * 20

    recipe = "--pid_num 2 --batch_size_p 2 --batch_size_m 2 --frame_num 2"
    data = "--config=small.py --dataset=Synthetic --data_path=pre --device=cpu"
    _, summary = run(f"train_full_1p.sh {data} --iters=2 -- {recipe} --save_iter 2")
    checkpoint = summary["training"]["checkpoint"]
    assert Path(checkpoint).is_relative_to(tmp_path)

    done, summary = run(f"train_full_8p.sh {data} --iters=2 -- {recipe} --save_iter 2", OMP_NUM_THREADS="1")
    used = summary["training"]["processes"]
    assert used < 8 and f"using {used}" in done.stdout

    _, summary = run(f"train_performance_1p.sh {data} --iters=2 -- {recipe}")
    assert summary["performance"]["sequences_per_second"] > 0

    _, summary = run(f"train_eval_8p.sh {data} --checkpoint={checkpoint} -- --pid_num 2")
    ours = summary["accuracy"]["rank1"]

    run(f"pth2om.sh --checkpoint={checkpoint} --onnx-only --output_path=models --frame_num=8")
    assert names_in(tmp_path / "models") == ["gaitset_submit.onnx", "gaitset_submit_bs16.onnx"]

    places = "--bin_path=bins --model_path=models --result_path=result"
    _, deployed = run(f"eval_acc_perf.sh --dataset=Synthetic {places}")
    # After two iterations, distances are nearly equal. Rounding can change the nearest subject of a few of 440 probes.
    for batch in ("accuracy_bs1", "accuracy_bs16"):
        for condition, figures in deployed[batch]["rank1"].items():
            assert figures["excluding"] == pytest.approx(ours[condition]["excluding"], abs=100 * 3 / 440)
    assert ours["NM"]["excluding"] > 50
    assert deployed["throughput_bs16"]["e2e_throughput"] > 0
