"""Training on NPUs. Stand-ins in host memory replace torch_npu and the NPU (see test/unit/support/standins)."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from forking import python_command
from npu_runs import APEX, HALF, OLDER, TOTAL, arguments, part, weights
from scripts import one_line_error, run_quietly
from standins.npu_machine import STANDINS, npu_environment
from training_runs import files_of, log_points, same
from walkers import write_aligned_tree

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unbroken(on_npu, tmp_path_factory):
    """An uninterrupted run on the stand-in."""
    work = tmp_path_factory.mktemp("npu")
    done = on_npu(work)
    assert "on npu:0 (Ascend910B3)" in done.stdout and "resident on the device" in done.stdout
    return work


def options_of_test(tree, work, checkpoint, device) -> list:
    return [
        "--dataset", "Synthetic", "--data_path", tree, "--partition", "all", "--work_path", work, "--device", device,
        "--checkpoint", checkpoint, "--json", work / "figures.json",
    ]  # fmt: skip


def test_training_on_the_stand_in_equals_the_cpu_bit_for_bit(unbroken, on_cpu, tmp_path):
    on_cpu(tmp_path)
    assert same(weights(tmp_path), weights(unbroken))
    ours, theirs = (part(work, "optimizer")["state"] for work in (unbroken, tmp_path))
    for number in theirs:
        assert all(torch.equal(ours[number][key], theirs[number][key]) for key in ("exp_avg", "exp_avg_sq"))
        assert ours[number]["step"] == theirs[number]["step"] == TOTAL


def test_adam_of_torch_npu_is_used_unless_kernels_are_plain(on_npu, unbroken, tmp_path):
    on_npu(tmp_path, "--kernels", "plain")
    assert same(weights(tmp_path), weights(unbroken))
    assert isinstance(part(unbroken, "optimizer")["state"][0]["step"], int)  # shows which Adam wrote the state
    assert isinstance(part(tmp_path, "optimizer")["state"][0]["step"], torch.Tensor)


def test_checkpoints_resume_on_another_device(on_npu, unbroken, on_cpu, tmp_path):
    """The CPU trains with torch's Adam and the NPU with torch_npu's Adam, so each Adam loads the state of the other.

    torch's Adam saves step counts as tensors. If torch_npu's Adam did not convert them, it would count steps twice.
    """
    on_cpu(tmp_path / "a", "--iters", HALF)
    on_npu(tmp_path / "a", "--restore_iter", -1)
    on_npu(tmp_path / "b", "--iters", HALF)
    parts = [part(tmp_path / "b", name, HALF) for name in ("encoder", "optimizer", "state")]
    assert "npu" not in str(parts)  # tensors show their device unless it is the CPU
    on_cpu(tmp_path / "b", "--restore_iter", -1)
    assert same(weights(tmp_path / "a"), weights(unbroken)) and same(weights(tmp_path / "b"), weights(unbroken))


@pytest.fixture(scope="module")
def small_tree(tmp_path_factory) -> Path:
    tree = write_aligned_tree(tmp_path_factory.mktemp("small") / "walkers", subjects=2, frames=2)
    shutil.rmtree(tree / "001" / "nm-01" / "000")  # as in CASIA-B, subjects have different numbers of sequences
    return tree


@pytest.mark.parametrize("chip", [{}, OLDER], ids=["A2", "910"])
def test_evaluation_gives_the_same_table_as_the_cpu(machine, small_tree, unbroken, tmp_path, chip):
    """In a padded matrix of distances, padding is infinite, or the largest number of a chip without infinity."""
    figures = []
    for device in ("npu", "cpu"):
        checkpoint = files_of(unbroken).part(TOTAL, "encoder")
        done = machine.run("test", *options_of_test(small_tree, tmp_path, checkpoint, device), "--rt2", **chip)
        assert done.returncode == 0, done.stderr
        assert (["set_compile_mode", "jit_compile", False] in done.switches) == (device == "npu")
        figures.append(json.loads((tmp_path / "figures.json").read_text()))
        assert figures[-1].pop("details")["device"].startswith(device)
    assert figures[0] == figures[1]


def test_switches_of_the_npu_port(machine, on_npu, tmp_path):
    def switches(*more, **environment):
        options = ("--iters", 1, "--performance", *more)
        return on_npu(tmp_path, *options, QUICK_NETWORK="", **environment).switches

    exact = [["conv", "allow_hf32", False], ["matmul", "allow_hf32", False]]
    layout = ["config", "allow_internal_format", False]
    assert switches() == exact
    assert switches(ALLOW_FP32="1") == switches(ALLOW_FP32="1", ALLOW_HF32="0") == [*exact, layout]
    assert switches(ALLOW_HF32="False") == exact
    assert switches(ALLOW_HF32="1") == [["conv", "allow_hf32", True], exact[1], layout]
    assert switches("--rt2") == [*exact, ["set_compile_mode", "jit_compile", False]]
    done = machine.run("train", "--device", "npu", ALLOW_FP32="1", ALLOW_HF32="1")
    assert "exclude each other" in one_line_error(done, 2)


def test_profiling_writes_the_folder_of_the_profiler_for_each_process(on_npu, tmp_path):
    options = ("--iters", 4, "--performance", "--profiling=CANN", "--start_step", 2, "--stop_step", 3)
    done = on_npu(tmp_path, *options)
    (trace,) = tmp_path.glob("profile/*/rank0_*_ascend_pt/ASCEND_PROFILER_OUTPUT/trace_view.json")
    names = [event.get("name") for event in json.loads(trace.read_text())["traceEvents"]]
    assert [name for name in names if name and name.startswith("ProfilerStep#")]
    assert f"profiled iterations 2 to 3 of this run: {trace.parents[2]}" in done.stdout


def test_number_environment_and_config_select_the_device(on_npu, tmp_path):
    def device(*more, **environment):
        options = ("--iters", 1, "--performance", *more)
        done = on_npu(tmp_path, *options, QUICK_NETWORK="", **environment)
        return re.search(r" on npu:(\d) ", done.stdout)[1]

    config = tmp_path / "config.py"
    config.write_text("conf = {'ASCEND_VISIBLE_DEVICES': '0, 1'}")
    assert device("--device", "npu:1") == "1"
    assert device("--local_rank", 1) == "1"  # in the NPU port, this option selects the device of a single process
    assert device("--config", config) == "0"
    assert device(ASCEND_RT_VISIBLE_DEVICES="1") == "0"  # visible devices are numbered from 0


@pytest.mark.parametrize("cache", [(), ("--cache", "False")], ids=["resident", "read"])
def test_prefetching_threads_use_the_device_of_their_process(machine, on_npu, small_tree, unbroken, tmp_path, cache):
    """By default, a new thread uses the first device, which can be the device of another process."""
    training = ("--iters", 3, "--performance", "--num_workers", 2, *cache)
    done = on_npu(tmp_path, "--device", "npu:1", *training, QUICK_NETWORK="")
    assert done.pinned == [1]
    if not cache:
        checkpoint = files_of(unbroken).part(TOTAL, "encoder")
        done = machine.run("test", *options_of_test(small_tree, tmp_path, checkpoint, "npu:1"))
        assert done.returncode == 0 and done.pinned == [1], done.stderr


RANK_0 = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
NO_FLOAT_STATUS, DYNAMIC = {"NPUSIM_APEX_WITHOUT_FLOAT_STATUS": "1"}, (*APEX, "dynamic")


@pytest.mark.parametrize(
    ("environment", "message", "device", "options"),
    [
        ({}, "--device npu:2: this machine has 2 npu devices, numbered from 0", "npu:2", ()),
        ({"NPUSIM_TAKEN": "1"}, "npu:1: cannot be used (SetDevice: NPU function error: aclrtSetDevice(1)", "npu:1", ()),
        ({"ASCEND_RT_VISIBLE_DEVICES": "1,0"}, "that ASCEND_RT_VISIBLE_DEVICES=1,0 lists existing devices", "npu", ()),
        ({"ASCEND_RT_VISIBLE_DEVICES": "4"}, "that ASCEND_RT_VISIBLE_DEVICES=4 lists existing devices", "npu", ()),
        ({"NPUSIM_DEVICES": "0"}, "finds no npu device on this machine", "npu:0", ()),
        (RANK_0, "--dist_backend nccl does not support --device npu; use hccl", "npu", ("--dist_backend", "nccl")),
        ({}, "apex computes only in fp16; use --amp torch", "npu", (*APEX, "32", "--amp_dtype", "bf16")),
        ({}, "apex needs an NPU or GPU, but the device is cpu; use", "cpu", (*APEX, "32")),
        (NO_FLOAT_STATUS, "apex cannot detect overflows (No module named 'npu_float_status'); give", "npu", DYNAMIC),
    ],
)
def test_invalid_options_of_npus_are_one_line(machine, aligned_tree, tmp_path, environment, message, device, options):
    done = machine.run("train", *arguments(aligned_tree, tmp_path, "--device", device, *options), **environment)
    assert message in one_line_error(done, 2)


def job(script: str, *options) -> dict:
    return {"script": script, "arguments": list(map(str, options))}


def test_two_processes_with_hccl_equal_two_with_gloo(npu_library, aligned_tree, small_tree, tmp_path):
    """Gradients, log points, checkpoints and embeddings use all-reduce, broadcast, send and receive."""
    launch = [python_command(), "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    figures = []
    for device, kernels in (("npu", "auto"), ("cpu", "plain")):
        work = tmp_path / device
        training = arguments(aligned_tree, work, "--device", device, "--kernels", kernels, "--iters", HALF)
        testing = options_of_test(small_tree, work, files_of(work).part(HALF, "encoder"), device)
        jobs = [job("train", *training), job("test", *testing)]
        command = [*launch, str(STANDINS / "npu_machine.py"), json.dumps(jobs)]
        done = run_quietly(command, None, npu_environment(npu_library))
        assert done.returncode == 0, done.stderr
        figures.append(json.loads((work / "figures.json").read_text()))
        assert figures[-1].pop("details")["processes"] == 2
    assert same(weights(tmp_path / "npu", HALF), weights(tmp_path / "cpu", HALF))
    assert figures[0] == figures[1]
    ours, theirs = (log_points(tmp_path / device) for device in ("npu", "cpu"))
    for point in (*ours, *theirs):
        del point["iterations_per_second"]
    assert ours == theirs
