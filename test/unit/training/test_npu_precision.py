"""Mixed precision on NPUs. Stand-ins in host memory replace torch_npu, its scaler and apex."""

import pytest
import torch
from npu_runs import APEX, FP16, HALF, OLDER, TOTAL, arguments, part, weights
from scripts import one_line_error
from training_runs import files_of, log_points, overflow_at, same

pytestmark = pytest.mark.slow


def test_mixed_precision_of_torch_resumes_exactly(on_npu, tmp_path):
    """Train the real network with few small batches."""
    small = (*FP16, "--batch_size_m", 1, "--frame_num", 1, "--save_iter", 1)
    on_npu(tmp_path / "a", *small, "--iters", 2)
    on_npu(tmp_path / "b", *small, "--iters", 1)
    on_npu(tmp_path / "b", *small, "--iters", 2, "--restore_iter", -1)
    a, b = (weights(tmp_path / run, 2) for run in "ab")
    assert same(a, b) and all(value.dtype == torch.float32 for value in a.values())


@pytest.mark.parametrize("precision", [(), FP16, (*APEX, "dynamic")], ids=["float32", "fp16", "apex"])
def test_chip_without_infinity_gives_the_same_weights(on_npu, tmp_path, precision):
    """No gradient of these iterations may overflow, because an overflow would skip the step."""
    small = (*precision, "--batch_size_m", 1, "--frame_num", 1, "--iters", 2)
    done = on_npu(tmp_path / "a", *small)
    assert "float32 convolutions" not in done.stdout
    done = on_npu(tmp_path / "b", *small, **OLDER)
    warning = "warning: --amp off: npu:0 (Ascend910ProB) rounds the operands of float32 convolutions to fp16; train"
    assert (warning in done.stdout) == (not precision)
    a, b = (weights(tmp_path / run, 2) for run in "ab")
    assert same(a, b)
    assert [point["skipped"] for point in log_points(tmp_path / "b")] == [0]


@pytest.mark.parametrize("chip", [{}, OLDER], ids=["A2", "910"])
@pytest.mark.parametrize("precision", [FP16, (*APEX, "dynamic")], ids=["fp16", "apex"])
def test_overflow_skips_the_step_and_halves_the_scale(on_npu, tmp_path, precision, chip):
    on_npu(tmp_path, *precision, "--iters", 8, QUICK_NETWORK="3 5 6", **chip)
    assert [point["skipped"] for point in log_points(tmp_path)] == [0, 1, 2, 0]
    state = part(tmp_path, "state", 8)["precision"]
    scale = state["amp"]["loss_scaler0"]["loss_scale"] if "amp" in state else state["scale"]
    assert scale == 65536 / 2**3


def test_static_scale_skips_overflowing_steps_and_does_not_change(on_npu, tmp_path):
    for chip in ({}, OLDER):
        work = tmp_path / chip.get("NPUSIM_CHIP", "A2")
        on_npu(work, *FP16, "--loss_scale", 32, QUICK_NETWORK="2", **chip)
        assert [point["skipped"] for point in log_points(work)] == [1, 0]
        assert part(work, "state")["precision"]["scale"] == 32


def test_loss_scale_of_another_device_is_restored(on_npu, on_cpu, tmp_path, monkeypatch):
    """torch_npu's scaler reads values that are not in the state of torch's scaler."""
    overflow_at(monkeypatch, [1])
    on_cpu(tmp_path, *FP16, "--iters", HALF)
    on_npu(tmp_path, *FP16, "--restore_iter", -1, QUICK_NETWORK="2")
    assert part(tmp_path, "state")["precision"]["scale"] == 65536 / 2**2


def test_bfloat16_needs_a_chip_that_supports_it(machine, aligned_tree, tmp_path):
    options = arguments(aligned_tree, tmp_path, "--device", "npu", "--amp", "torch", "--amp_dtype", "bf16")
    done = machine.run("train", *options, NPUSIM_CHIP="Ascend910A")
    assert "npu:0 (Ascend910A) does not support bfloat16; use fp16" in one_line_error(done, 2)
    assert machine.run("train", *options, QUICK_NETWORK="").returncode == 0


def test_a_static_scale_of_apex_needs_no_float_status(on_npu, tmp_path):
    on_npu(tmp_path, *APEX, 32, QUICK_NETWORK="", NPUSIM_APEX_WITHOUT_FLOAT_STATUS="1")


def test_apex_trains_the_network_in_half_precision(on_npu, tmp_path):
    options = (*APEX, 32, "--batch_size_m", 1, "--frame_num", 1, "--iters", 2)
    done = on_npu(tmp_path, *options)
    assert "Selected optimization level O2" in done.stdout
    encoder = weights(tmp_path, 2)
    assert all(torch.equal(value, value.half().float()) for value in encoder.values())
    assert all(value.dtype == torch.float32 for value in encoder.values())


@pytest.mark.parametrize("scale", ["dynamic", 32])
def test_apex_resumes_exactly_with_the_master_weights(on_npu, tmp_path, scale):
    overflow = "2" if scale == "dynamic" else ""  # an overflow in iteration 2 changes the dynamic scale
    on_npu(tmp_path / "a", *APEX, scale, QUICK_NETWORK=overflow)
    on_npu(tmp_path / "b", *APEX, scale, "--iters", HALF, QUICK_NETWORK=overflow)
    on_npu(tmp_path / "b", *APEX, scale, "--restore_iter", -1, QUICK_NETWORK="")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    a, b = (part(tmp_path / run, "state")["precision"] for run in "ab")
    scaler = a["amp"]["loss_scaler0"]
    assert scaler["loss_scale"] == b["amp"]["loss_scaler0"]["loss_scale"] == (32768 if overflow else 32)
    assert not overflow or (a["amp"] == b["amp"] and scaler["unskipped"] == TOTAL - 2)
    masters = [a["masters"], b["masters"]]
    assert all(torch.equal(x, y) for x, y in zip(*masters, strict=True))
    rounded = weights(tmp_path / "a").values()
    assert any(not torch.equal(master, weight) for master, weight in zip(masters[0], rounded, strict=True))
    assert all(torch.equal(master.half().float(), weight) for master, weight in zip(masters[0], rounded, strict=True))
    moments = [part(tmp_path / run, "optimizer")["state"][0]["exp_avg_sq"] for run in "ab"]
    assert torch.equal(*moments) and moments[0].any()


def test_apex_starts_with_the_weights_of_the_published_files(on_npu, tmp_path):
    """Resuming replaces the master weights that apex created from the initial weights of the network."""
    on_npu(tmp_path, *APEX, 32, "--iters", HALF, QUICK_NETWORK="")
    files = files_of(tmp_path)
    before = weights(tmp_path, HALF)
    for path in (files.part(HALF, "state"), files.metadata(HALF)):
        path.unlink()
    on_npu(tmp_path, *APEX, 32, "--iters", 3, "--restore_iter", HALF, "--seed", 7, QUICK_NETWORK="")
    after = weights(tmp_path, 3)
    assert (
        max((after[key] - before[key]).abs().max() for key in before) < 3e-3
    )  # a step of 1e-4 plus a rounding of 1e-3


def test_apex_skips_no_steps_with_a_static_scale(machine, aligned_tree, tmp_path):
    options = arguments(aligned_tree, tmp_path, "--device", "npu", *APEX, 32)
    done = machine.run("train", *options, QUICK_NETWORK="3")
    assert "is not a finite number" in one_line_error(done, 1)
