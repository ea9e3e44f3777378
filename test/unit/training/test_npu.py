"""Training on NPUs: torch_npu and its device are stand-ins in host memory (see test/unit/support/standins)."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from forking import python_command
from scripts import load_script, one_line_error, run_driver, run_quietly, summary_of
from standins.npu_machine import STANDINS, NpuProcess, npu_environment, quick_network
from training_runs import arguments as common_arguments
from training_runs import files_of, same
from training_runs import weights as weights_of
from walkers import write_aligned_tree

from model.checkpoints.loading import load_tensors
from model.devices.device import DEVICE_KINDS
from model.network import GaitSet

TOTAL, HALF = 4, 2  # iterations
FP16 = ("--amp", "torch", "--amp_dtype", "fp16")
APEX = ("--amp", "apex", "--loss_scale")
WITHOUT_FLOAT_STATUS = {"NPUSIM_APEX_WITHOUT_FLOAT_STATUS": "1"}
OLDER = {"NPUSIM_CHIP": "Ascend910ProB"}  # saturates overflow to the largest number and sets a flag


@pytest.fixture(scope="module")
def machine(npu_library):
    machine = NpuProcess(npu_library)
    yield machine
    machine.close()


def arguments(tree, work, *more) -> list[str]:
    return common_arguments(tree, work, "--iters", TOTAL, "--save_iter", HALF, *more)


def weights(work, iteration=TOTAL) -> dict[str, torch.Tensor]:
    return weights_of(work, iteration)


def on_npu(machine, tree, work, *more, **environment):
    done = machine.run("train", *arguments(tree, work, "--device", "npu", *more), **environment)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def unbroken(machine, aligned_tree, tmp_path_factory):
    """An uninterrupted run on the stand-in."""
    work = tmp_path_factory.mktemp("npu")
    done = on_npu(machine, aligned_tree, work)
    assert "on npu:0 (Ascend910B3)" in done.stdout and "resident on the device" in done.stdout
    return work


@pytest.fixture
def on_cpu(aligned_tree, monkeypatch):
    """Training on the CPU with one thread and the memory layout of the NPU, which affect the last bit."""
    monkeypatch.setitem(DEVICE_KINDS, "cpu", replace(DEVICE_KINDS["cpu"], channels_last=False))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(work, *more) -> None:
        assert load_script("train").main(arguments(aligned_tree, work, *more)) == 0

    yield run
    torch.set_num_threads(threads)


def optimizer_of(work, iteration=TOTAL) -> dict:
    return load_tensors(files_of(work).part(iteration, "optimizer"))


def points_of(work) -> list[dict]:
    return [json.loads(line) for line in next(work.glob("log/*/train.jsonl")).open()]


def test_training_on_the_stand_in_equals_the_cpu_bit_for_bit(unbroken, on_cpu, tmp_path):
    on_cpu(tmp_path)
    assert same(weights(tmp_path), weights(unbroken))
    ours, theirs = (optimizer_of(work)["state"] for work in (unbroken, tmp_path))
    for number in theirs:
        assert all(torch.equal(ours[number][key], theirs[number][key]) for key in ("exp_avg", "exp_avg_sq"))
        assert ours[number]["step"] == theirs[number]["step"] == TOTAL


def test_adam_of_torch_npu_is_used_unless_kernels_are_plain(machine, aligned_tree, unbroken, tmp_path):
    on_npu(machine, aligned_tree, tmp_path, "--kernels", "plain")
    assert same(weights(tmp_path), weights(unbroken))
    assert isinstance(optimizer_of(unbroken)["state"][0]["step"], int)  # shows which Adam wrote the state
    assert isinstance(optimizer_of(tmp_path)["state"][0]["step"], torch.Tensor)


def test_stopped_and_resumed_run_equals_an_uninterrupted_run(machine, aligned_tree, unbroken, tmp_path):
    on_npu(machine, aligned_tree, tmp_path, "--iters", HALF)
    on_npu(machine, aligned_tree, tmp_path, "--restore_iter", -1)
    assert same(weights(tmp_path), weights(unbroken))


def test_checkpoints_resume_on_another_device(machine, aligned_tree, unbroken, on_cpu, tmp_path):
    """torch's Adam writes its step counts as tensors, which torch_npu's Adam would count twice; it writes numbers."""
    on_cpu(tmp_path / "a", "--iters", HALF)
    on_npu(machine, aligned_tree, tmp_path / "a", "--restore_iter", -1)
    on_npu(machine, aligned_tree, tmp_path / "b", "--iters", HALF)
    parts = [load_tensors(files_of(tmp_path / "b").part(HALF, name)) for name in ("encoder", "optimizer", "state")]
    assert "npu" not in str(parts)  # tensors show their device unless it is the CPU
    on_cpu(tmp_path / "b", "--restore_iter", -1)
    assert same(weights(tmp_path / "a"), weights(unbroken)) and same(weights(tmp_path / "b"), weights(unbroken))


def options_of_test(tree, work, checkpoint, device) -> list:
    return [
        "--dataset", "Synthetic", "--data_path", tree, "--partition", "all", "--work_path", work, "--device", device,
        "--checkpoint", checkpoint, "--json", work / "figures.json",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def small_tree(tmp_path_factory) -> Path:
    tree = write_aligned_tree(tmp_path_factory.mktemp("small") / "walkers", subjects=2, frames=2)
    shutil.rmtree(tree / "001" / "nm-01" / "000")  # as in CASIA-B not all have equally many
    return tree


@pytest.mark.parametrize("chip", [{}, OLDER], ids=["A2", "910"])
def test_evaluation_gives_the_same_table_as_the_cpu(machine, small_tree, unbroken, tmp_path, chip):
    """Padding without a sequence has an infinite distance, or the largest number of the chip."""
    figures = []
    for device in ("npu", "cpu"):
        checkpoint = files_of(unbroken).part(TOTAL, "encoder")
        done = machine.run("test", *options_of_test(small_tree, tmp_path, checkpoint, device), "--rt2", **chip)
        assert done.returncode == 0, done.stderr
        assert (["set_compile_mode", "jit_compile", False] in done.switches) == (device == "npu")
        figures.append(json.loads((tmp_path / "figures.json").read_text()))
        assert figures[-1].pop("details")["device"].startswith(device)
    assert figures[0] == figures[1]


def test_mixed_precision_of_torch_resumes_exactly(machine, aligned_tree, tmp_path):
    """Train the real network with few small batches."""
    small = (*FP16, "--batch_size_m", 1, "--frame_num", 1, "--save_iter", 1)
    on_npu(machine, aligned_tree, tmp_path / "a", *small, "--iters", 2)
    on_npu(machine, aligned_tree, tmp_path / "b", *small, "--iters", 1)
    on_npu(machine, aligned_tree, tmp_path / "b", *small, "--iters", 2, "--restore_iter", -1)
    a, b = (load_tensors(next(tmp_path.glob(f"{run}/checkpoint/*/*-00002-encoder.ptm"))) for run in "ab")
    assert same(a, b) and all(value.dtype == torch.float32 for value in a.values())


@pytest.mark.parametrize("precision", [(), FP16, (*APEX, "dynamic")], ids=["float32", "fp16", "apex"])
def test_chip_without_infinity_gives_the_same_weights(machine, aligned_tree, tmp_path, precision):
    """No number in an iteration overflows, which would skip the step."""
    small = (*precision, "--batch_size_m", 1, "--frame_num", 1, "--iters", 2)
    done = on_npu(machine, aligned_tree, tmp_path / "a", *small)
    assert "float32 convolutions" not in done.stdout
    done = on_npu(machine, aligned_tree, tmp_path / "b", *small, **OLDER)
    warning = (
        "warning: --amp off: npu:0 (Ascend910ProB) rounds the operands of float32 convolutions to fp16; train with"
    )
    assert (warning in done.stdout) == (not precision)
    a, b = (load_tensors(next(tmp_path.glob(f"{run}/checkpoint/*/*-00002-encoder.ptm"))) for run in "ab")
    assert same(a, b)
    assert [point["skipped"] for point in points_of(tmp_path / "b")] == [0]


@pytest.mark.parametrize("precision", [FP16, (*APEX, "dynamic")], ids=["fp16", "apex"])
def test_overflow_is_found_on_a_chip_without_infinity(machine, aligned_tree, tmp_path, precision):
    on_npu(machine, aligned_tree, tmp_path, *precision, "--iters", 8, QUICK_NETWORK="3 5 6", **OLDER)
    assert [point["skipped"] for point in points_of(tmp_path)] == [0, 1, 2, 0]
    state = load_tensors(next(tmp_path.glob("checkpoint/*/*-00008-state.ptm")))["precision"]
    scale = state["amp"]["loss_scaler0"]["loss_scale"] if "amp" in state else state["scale"]
    assert scale == 65536 / 2**3


def test_static_scale_skips_overflowing_steps_and_does_not_change(machine, aligned_tree, tmp_path):
    for chip in ({}, OLDER):
        work = tmp_path / chip.get("NPUSIM_CHIP", "A2")
        on_npu(machine, aligned_tree, work, *FP16, "--loss_scale", 32, QUICK_NETWORK="2", **chip)
        assert [point["skipped"] for point in points_of(work)] == [1, 0]
        assert load_tensors(files_of(work).part(TOTAL, "state"))["precision"]["scale"] == 32


def test_loss_scale_of_another_device_is_restored(machine, aligned_tree, on_cpu, tmp_path, monkeypatch):
    """The state of torch's scaler lacks values that torch_npu's scaler reads."""
    monkeypatch.setattr(GaitSet, "forward", quick_network([1]))
    on_cpu(tmp_path, *FP16, "--iters", HALF)
    on_npu(machine, aligned_tree, tmp_path, *FP16, "--restore_iter", -1, QUICK_NETWORK="2")
    assert load_tensors(files_of(tmp_path).part(TOTAL, "state"))["precision"]["scale"] == 65536 / 2**2


def test_bfloat16_needs_a_chip_that_supports_it(machine, aligned_tree, tmp_path):
    options = arguments(aligned_tree, tmp_path, "--device", "npu", "--amp", "torch", "--amp_dtype", "bf16")
    done = machine.run("train", *options, NPUSIM_CHIP="Ascend910A")
    assert "npu:0 (Ascend910A) does not support bfloat16; use fp16" in one_line_error(done, 2)
    assert machine.run("train", *options, QUICK_NETWORK="").returncode == 0


def test_a_static_scale_of_apex_needs_no_float_status(machine, aligned_tree, tmp_path):
    on_npu(machine, aligned_tree, tmp_path, *APEX, 32, QUICK_NETWORK="", **WITHOUT_FLOAT_STATUS)


def test_apex_trains_the_network_in_half_precision(machine, aligned_tree, tmp_path):
    options = (*APEX, 32, "--batch_size_m", 1, "--frame_num", 1, "--iters", 2)
    done = on_npu(machine, aligned_tree, tmp_path, *options)
    assert "Selected optimization level O2" in done.stdout
    encoder = load_tensors(next(tmp_path.glob("checkpoint/*/*-00002-encoder.ptm")))
    assert all(torch.equal(value, value.half().float()) for value in encoder.values())
    assert all(value.dtype == torch.float32 for value in encoder.values())


@pytest.mark.parametrize("scale", ["dynamic", 32])
def test_apex_resumes_exactly_with_the_master_weights(machine, aligned_tree, tmp_path, scale):
    overflow = "2" if scale == "dynamic" else ""  # so that its scale differs from the initial scale
    on_npu(machine, aligned_tree, tmp_path / "a", *APEX, scale, QUICK_NETWORK=overflow)
    on_npu(machine, aligned_tree, tmp_path / "b", *APEX, scale, "--iters", HALF, QUICK_NETWORK=overflow)
    on_npu(machine, aligned_tree, tmp_path / "b", *APEX, scale, "--restore_iter", -1, QUICK_NETWORK="")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    a, b = (load_tensors(files_of(tmp_path / run).part(TOTAL, "state"))["precision"] for run in "ab")
    scaler = a["amp"]["loss_scaler0"]
    assert scaler["loss_scale"] == b["amp"]["loss_scaler0"]["loss_scale"] == (32768 if overflow else 32)
    assert not overflow or (a["amp"] == b["amp"] and scaler["unskipped"] == TOTAL - 2)
    masters = [a["masters"], b["masters"]]
    assert all(torch.equal(x, y) for x, y in zip(*masters, strict=True))
    rounded = weights(tmp_path / "a").values()
    assert any(not torch.equal(master, weight) for master, weight in zip(masters[0], rounded, strict=True))
    assert all(torch.equal(master.half().float(), weight) for master, weight in zip(masters[0], rounded, strict=True))
    moments = [optimizer_of(tmp_path / run)["state"][0]["exp_avg_sq"] for run in "ab"]
    assert torch.equal(*moments) and moments[0].any()


def test_apex_starts_with_the_weights_of_the_published_files(machine, aligned_tree, tmp_path):
    """The master weights that apex made from the initial network are replaced."""
    on_npu(machine, aligned_tree, tmp_path, *APEX, 32, "--iters", HALF, QUICK_NETWORK="")
    files = files_of(tmp_path)
    before = weights(tmp_path, HALF)
    for path in (files.part(HALF, "state"), files.metadata(HALF)):
        path.unlink()
    on_npu(
        machine, aligned_tree, tmp_path, *APEX, 32, "--iters", 3, "--restore_iter", HALF, "--seed", 7, QUICK_NETWORK=""
    )
    after = weights(tmp_path, 3)
    assert max((after[key] - before[key]).abs().max() for key in before) < 3e-3  # a step of 1e-4, rounding of 1e-3


def test_apex_skips_steps_only_with_a_dynamic_scale(machine, aligned_tree, tmp_path):
    on_npu(machine, aligned_tree, tmp_path, *APEX, "dynamic", "--iters", 8, QUICK_NETWORK="3 5 6")
    assert [point["skipped"] for point in points_of(tmp_path)] == [0, 1, 2, 0]
    done = machine.run(
        "train", *arguments(aligned_tree, tmp_path / "b", "--device", "npu", *APEX, 32), QUICK_NETWORK="3"
    )
    assert "is not a finite number" in one_line_error(done, 1)


def test_switches_of_the_npu_port(machine, aligned_tree, tmp_path):
    def switches(*more, **environment):
        options = ("--iters", 1, "--performance", *more)
        return on_npu(machine, aligned_tree, tmp_path, *options, QUICK_NETWORK="", **environment).switches

    exact = [["conv", "allow_hf32", False], ["matmul", "allow_hf32", False]]
    layout = ["config", "allow_internal_format", False]
    assert switches() == exact
    assert switches(ALLOW_FP32="1") == switches(ALLOW_FP32="1", ALLOW_HF32="0") == [*exact, layout]
    assert switches(ALLOW_HF32="False") == exact
    assert switches(ALLOW_HF32="1") == [["conv", "allow_hf32", True], exact[1], layout]
    assert switches("--rt2") == [*exact, ["set_compile_mode", "jit_compile", False]]
    done = machine.run("train", "--device", "npu", ALLOW_FP32="1", ALLOW_HF32="1")
    assert "exclude each other" in one_line_error(done, 2)


def test_profiling_writes_the_folder_of_the_profiler_for_each_process(machine, aligned_tree, tmp_path):
    options = ("--iters", 4, "--performance", "--profiling=CANN", "--start_step", 2, "--stop_step", 3)
    done = on_npu(machine, aligned_tree, tmp_path, *options)
    (trace,) = tmp_path.glob("profile/*/rank0_*_ascend_pt/ASCEND_PROFILER_OUTPUT/trace_view.json")
    names = [event.get("name") for event in json.loads(trace.read_text())["traceEvents"]]
    assert [name for name in names if name and name.startswith("ProfilerStep#")]
    assert f"profiled iterations 2 to 3 of this run: {trace.parents[2]}" in done.stdout


def test_number_environment_and_config_select_the_device(machine, aligned_tree, tmp_path):
    def device(*more, **environment):
        options = ("--iters", 1, "--performance", *more)
        done = on_npu(machine, aligned_tree, tmp_path, *options, QUICK_NETWORK="", **environment)
        return re.search(r" on npu:(\d) ", done.stdout)[1]

    config = tmp_path / "config.py"
    config.write_text("conf = {'ASCEND_VISIBLE_DEVICES': '0, 1'}")
    assert device("--device", "npu:1") == "1"
    assert device("--local_rank", 1) == "1"  # the option of the NPU port for the device of one process
    assert device("--config", config) == "0"
    assert device(ASCEND_RT_VISIBLE_DEVICES="1") == "0"  # visible devices are numbered from 0


@pytest.mark.parametrize("cache", [(), ("--cache", "False")], ids=["resident", "read"])
def test_prefetching_threads_use_the_device_of_their_process(
    machine, aligned_tree, small_tree, unbroken, tmp_path, cache
):
    """A new thread starts on the first device, which another process may use."""
    training = ("--iters", 3, "--performance", "--num_workers", 2, *cache)
    done = on_npu(machine, aligned_tree, tmp_path, "--device", "npu:1", *training, QUICK_NETWORK="")
    assert done.pinned == [1]
    if not cache:
        checkpoint = files_of(unbroken).part(TOTAL, "encoder")
        done = machine.run("test", *options_of_test(small_tree, tmp_path, checkpoint, "npu:1"))
        assert done.returncode == 0 and done.pinned == [1], done.stderr


@pytest.mark.parametrize(
    ("environment", "message", "device", "options"),
    [
        ({}, "--device npu:2: this machine has 2 npu devices, numbered from 0", "npu:2", ()),
        ({"NPUSIM_TAKEN": "1"}, "npu:1: cannot be used (SetDevice: NPU function error: aclrtSetDevice(1)", "npu:1", ()),
        ({"ASCEND_RT_VISIBLE_DEVICES": "1,0"}, "_DEVICES=1,0 must list some of them in ascending order", "npu", ()),
        ({"ASCEND_RT_VISIBLE_DEVICES": "4"}, "ASCEND_RT_VISIBLE_DEVICES=4 must list some of them", "npu", ()),
        ({"NPUSIM_DEVICES": "0"}, "finds no npu device on this machine", "npu:0", ()),
        (
            {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"},
            "--dist_backend nccl does not support --device npu; use hccl",
            "npu",
            ("--dist_backend", "nccl"),
        ),
        ({}, "--amp apex computes in fp16", "npu", (*APEX, "32", "--amp_dtype", "bf16")),
        ({}, "apex computes on an NPU or GPU and this is the cpu", "cpu", (*APEX, "32")),
        (
            {},
            "--start_step 5 to --stop_step 3: the range is empty",
            "npu",
            ("--profiling", "--start_step", 5, "--stop_step", 3),
        ),
        ({}, "--profiling: must be CANN, GE, True, False or None, not 'XLA'", "npu", ("--profiling=XLA",)),
        (
            WITHOUT_FLOAT_STATUS,
            "this apex cannot find overflows (No module named 'npu_float_status'); give a fixed scale such as --loss",
            "npu",
            (*APEX, "dynamic"),
        ),
    ],
)
def test_invalid_options_are_one_line_if_torch_npu_works(
    machine, aligned_tree, tmp_path, environment, message, device, options
):
    done = machine.run("train", *arguments(aligned_tree, tmp_path, "--device", device, *options), **environment)
    assert message in one_line_error(done, 2)


def job(script: str, *options) -> dict:
    return {"script": script, "arguments": list(map(str, options))}


@pytest.mark.slow
def test_two_processes_with_hccl_equal_two_with_gloo(npu_library, aligned_tree, small_tree, tmp_path):
    """Gradients, log points, checkpoints and embeddings: all-reduce, broadcast, send and receive."""
    launch = [python_command(), "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    figures = []
    for device in ("npu", "cpu"):
        work = tmp_path / device
        training = arguments(aligned_tree, work, "--device", device, "--iters", HALF)
        testing = options_of_test(small_tree, work, files_of(work).part(HALF, "encoder"), device)
        jobs = [job("train", *training), job("test", *testing)]
        command = [*launch, str(STANDINS / "npu_machine.py"), json.dumps(jobs)]
        done = run_quietly(command, None, npu_environment(npu_library))
        assert done.returncode == 0, done.stderr
        figures.append(json.loads((work / "figures.json").read_text()))
        assert figures[-1].pop("details")["processes"] == 2
    assert same(weights(tmp_path / "npu", HALF), weights(tmp_path / "cpu", HALF))
    assert figures[0] == figures[1]
    ours, theirs = (points_of(tmp_path / device) for device in ("npu", "cpu"))
    for point in (*ours, *theirs):
        del point["iterations_per_second"]
    assert ours == theirs


@pytest.mark.slow
def test_the_driver_of_one_npu_measures_and_profiles(npu_library, aligned_tree, tmp_path):
    """test_ascend_chain.py runs the configuration with eight devices."""
    recipe = ("--pid_num", 2, "--batch_size_p", 2, "--batch_size_m", 1, "--frame_num", 1)
    options = [f"--data_path={aligned_tree}", "--dataset=Synthetic", f"--work_path={tmp_path}", "--iters=2"]
    options += ["--device=npu", "--rt2", "--profiling=CANN", "--start_step=1", "--stop_step=1", "--", *recipe]
    eight = npu_environment(npu_library, NPUSIM_DEVICES="8")
    done = run_driver("train_performance_1p.sh", *options, cwd=tmp_path, **eight)
    assert done.returncode == 0, done.stderr
    assert summary_of("train_performance_1p")["performance"]["sequences_per_second"] > 0
    assert list(tmp_path.glob("profile/*/rank0_*_ascend_pt")) and "profiled iterations 1 to 1" in done.stdout
