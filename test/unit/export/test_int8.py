"""Set layers in 8 bit: what they compute in, how near torch they stay, how small they are, by whom calibrated."""

import json

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from scripts import load_script, one_line_error, run_script

from model.checkpoints.bundled import shipped_encoder
from model.checkpoints.checkpoint import load_encoder
from model.common.errors import UserError
from model.export.int8 import beside_each_other, quantised_weights, ranges_of, spread_positions, step_of
from model.export.onnx_export import walking_pixels
from model.export.whole import export_int8, export_whole
from model.network import GaitSet
from model.runtime.whole_runtime import WholeRuntime


@pytest.fixture(scope="module")
def trained():
    """By trained weights: random ones hardly use the negative side of LeakyReLU."""
    network = GaitSet().eval()
    load_encoder(network, shipped_encoder())
    return network


@pytest.fixture(scope="module")
def figures():
    random = np.random.default_rng(3)
    return [walking_pixels(frames, random) for frames in (4, 6, 9, 5)]


@pytest.fixture(scope="module")
def exported(trained, figures, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    return path, export_int8(trained, path, figures, runtime=WholeRuntime)


def test_embeddings_stay_near_those_of_torch(trained, exported):
    """Of figures not calibrated with."""
    random = np.random.default_rng(8)
    sils = np.stack([walking_pixels(7, random) for _ in range(2)])
    with torch.inference_mode():
        expected = trained(torch.from_numpy(sils)).numpy()
    found = WholeRuntime(exported[0]).run(sils)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error < 0.06, error  # 0.04; with ReLU it would be 0.10


def test_it_is_nearly_four_times_smaller(trained, exported, tmp_path):
    facts = export_whole(trained, tmp_path / "float.onnx", runtime=WholeRuntime)
    assert facts["bytes"] > 3.95 * exported[1]["bytes"]


def test_all_set_layers_run_in_whole_numbers_without_a_return_between(exported):
    """Types by inference over the file: from the pixels to set pooling nothing is float32."""
    graph = onnx.load(exported[0]).graph
    made_by = {name: node for node in graph.node for name in node.output}
    back = [node for node in graph.node if node.op_type == "DequantizeLinear"]
    assert len(back) == 3  # behind layers 2, 4 and 6
    kinds = set()
    waiting = [node.input[0] for node in back]
    while waiting:
        node = made_by.get(waiting.pop())
        if node is not None:
            kinds.add(node.op_type)
            waiting.append(node.input[0])
    assert kinds == {"QLinearConv", "QLinearLeakyRelu", "NhwcMaxPool", "Reshape", "Unsqueeze", "ReduceMax"}
    assert sum(node.op_type == "QLinearConv" for node in graph.node) == 6


@pytest.mark.parametrize(("size", "pixels"), [(5, 4), (3, 4), (5, 2)])
def test_pixels_of_a_row_as_channels_are_the_same_convolution(size, pixels):
    """Against torch's, of one channel, edges included."""
    random = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (2, 1, 6, 12), generator=random).double()
    weight = torch.randint(-127, 128, (3, 1, size, size), generator=random).double()
    expected = F.conv2d(image, weight, padding=size // 2)
    grouped = image.view(2, 6, 12 // pixels, pixels).permute(0, 3, 1, 2)  # a row's neighbours are the channels
    wide = torch.from_numpy(beside_each_other(weight.numpy(), pixels))
    found = F.conv2d(grouped, wide, padding=(size // 2, 1))  # [2, pixels * 3, 6, 12 / pixels]
    found = found.view(2, pixels, 3, 6, 12 // pixels).permute(0, 2, 3, 4, 1).reshape(expected.shape)
    assert torch.equal(found, expected)


def test_ranges_are_those_of_the_convolutions(trained, figures):
    reached = {}
    for number in range(1, 7):
        conv = getattr(trained, f"set_layer{number}").forward_block.conv
        conv.register_forward_hook(
            lambda module, inputs, output, number=number: reached.setdefault(number, []).extend(
                [output.min().item(), output.max().item()]
            )
        )
    with torch.inference_mode():
        for one in figures:
            trained(torch.from_numpy(one[None]))
    for number in range(1, 7):
        getattr(trained, f"set_layer{number}").forward_block.conv._forward_hooks.clear()
    for number, found in ranges_of(trained, figures).items():
        assert found == pytest.approx((min(reached[number]), max(reached[number])), rel=1e-4)


def test_steps_hold_zero_and_weights_stay_within_half_a_step():
    for smallest, largest in ((-2.0, 0.5), (0.1, 3.0), (-1.0, -0.5), (0.0, 0.0)):
        step = step_of(smallest, largest)
        assert step.scale > 0 and 0 <= step.zero <= 255
        for value in (0.0, smallest, largest):
            whole = np.clip(round(value / step.scale) + step.zero, 0, 255)
            assert abs((whole - step.zero) * step.scale - value) <= 0.51 * step.scale
    weight = np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype(np.float32)
    weight[1] = 0
    whole, scale = quantised_weights(weight)
    assert whole.dtype == np.int8 and np.abs(whole[0]).max() == 127 and not whole[1].any()
    assert np.abs(whole * scale[:, None, None, None] - weight).max() <= 0.5001 * scale.max()


def test_sequences_are_spread_over_all_subjects_and_have_frames():
    assert spread_positions(np.array([5, 0, 5, 5, 5, 5]), 3) == [0, 3, 5]
    assert spread_positions(np.array([5, 5]), 16) == [0, 1]


def test_nothing_to_calibrate_with_is_told(trained, tmp_path):
    with pytest.raises(UserError, match="no training sequence"):
        export_int8(trained, tmp_path / "none.onnx", [], runtime=WholeRuntime)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def calibration(aligned_tree, trained, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "encoder.ptm")
    return [
        "--quiet", "--input_path", str(tmp_path / "encoder.ptm"), "--pid_num", "2", "--data_path", str(aligned_tree),
        "--work_path", str(tmp_path / "work"), "--dataset", "Walkers", "--json", str(tmp_path / "facts.json"),
    ]  # fmt: skip


def used_and_training(tmp_path) -> tuple[set[str], set[str]]:
    partition = json.loads(next((tmp_path / "work" / "partition").glob("*.json")).read_text())
    named = json.loads((tmp_path / "facts.json").read_text())["calibrated_with"]
    return {name.split("/")[0] for name in named}, set(partition["TRAIN_SET"])


def test_only_training_subjects_calibrate_and_are_named(aligned_tree, calibration, tmp_path):
    load_script("pth2onnx").main(["--int8", "--output_path", str(tmp_path / "int8.onnx"), *calibration])
    subjects = [each for each in aligned_tree.iterdir() if each.is_dir()]
    used, training = used_and_training(tmp_path)
    assert used == training and len(used) == 2 < len(subjects)


def test_calibration_bins_for_ascend_are_of_training_subjects_and_fit_the_model(calibration, tmp_path, capsys):
    load_script("pth2onnx").main([
        "--frame_num", "3", "--calibration_bins", str(tmp_path / "bins"), "--output_path", str(tmp_path / "m.onnx"),
        *calibration,
    ])  # fmt: skip
    used, training = used_and_training(tmp_path)
    assert used == training
    bins = list((tmp_path / "bins").glob("*.bin"))
    assert len(bins) == 16 and all(each.stat().st_size == 4 * 3 * 64 * 44 for each in bins)
    told = capsys.readouterr().out
    assert '"image_seq:1,3,64,44"' in told and f"--data_dir {tmp_path / 'bins'} --data_types float32" in told


def test_missing_calibration_data_is_told_with_status_2(tmp_path):
    ended = run_script("pth2onnx.py", "--int8", "--data_path", tmp_path / "none", cwd=tmp_path)
    assert f"{tmp_path / 'none'}: no such folder" in one_line_error(ended, 2)
