"""Set layers in 8 bit: what they compute in, how near torch they stay, how small they are, by whom calibrated."""

import json
from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from scripts import load_script, one_line_error, run_script

from model.checkpoints.bundled import shipped_encoder
from model.checkpoints.checkpoint import load_encoder
from model.common.errors import UserError
from model.export.int8 import (
    beside_each_other,
    fit_scales,
    quantised_weights,
    ranges_of,
    saturates,
    spread_positions,
    step_of,
)
from model.export.onnx_export import walking_pixels
from model.export.whole import export_int8, export_whole
from model.export.whole_onnx import weights_of
from model.network import GaitSet
from model.runtime.whole_runtime import WholeRuntime

unchecked = partial(WholeRuntime, check=False)


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
    return path, export_int8(trained, path, figures[:3], figures[3:], runtime=unchecked)


def test_embeddings_stay_near_those_of_torch(trained, exported):
    """Of figures not calibrated with."""
    random = np.random.default_rng(8)
    sils = np.stack([walking_pixels(7, random) for _ in range(2)])
    with torch.inference_mode():
        expected = trained(torch.from_numpy(sils)).numpy()
    found = WholeRuntime(exported[0]).run(sils)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error < 0.06, error  # 0.04; with ReLU it would be 0.10


def convolution_operands(path, sils):
    """Per convolution: uint8 maps [places, k] of one frame, as its sums read them, and int8 weights [k, outputs]."""
    model = onnx.load(path)
    nodes = [node for node in model.graph.node if node.op_type == "QLinearConv"]
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    made = [node.input[0] for node in nodes]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in made)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for node, maps in zip(nodes, session.run(made, {"sils": sils}), strict=True):
        weight, zero = constants[node.input[3]], constants[node.input[2]]
        pads = next(attribute.ints for attribute in node.attribute if attribute.name == "pads")
        edges = [(pads[0], pads[2]), (pads[1], pads[3]), (0, 0)]
        padded = np.pad(maps[0], edges, constant_values=zero.item())  # h, w, c
        windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], (0, 1))  # h, w, c, kh, kw
        columns = windows.transpose(0, 1, 3, 4, 2).reshape(-1, weight[0].size)
        yield columns, weight.transpose(2, 3, 1, 0).reshape(weight[0].size, -1)


def vpmaddubsw(maps, weight):
    """Sums of a convolution as x86 processors without VNNI compute them: two products at a time, saturated at int16."""
    sums = np.zeros((len(maps), weight.shape[1]), np.int32)
    for first in range(0, len(weight), 2):
        pair = maps[:, first : first + 2].astype(np.int32) @ weight[first : first + 2].astype(np.int32)
        sums += np.clip(pair, -32768, 32767)
    return sums


def is_exact(maps, weight):
    return np.array_equal(vpmaddubsw(maps, weight), maps.astype(np.int32) @ weight.astype(np.int32))


def test_no_sum_saturates_without_vnni(trained, exported):
    """Each convolution's sums are exact. With weights that use all of int8 they would not be."""
    sils = walking_pixels(1, np.random.default_rng(8))[None]
    operands = list(convolution_operands(exported[0], sils))
    assert len(operands) == 6
    assert all(is_exact(maps, weight) for maps, weight in operands)
    # Weights that use the whole range of int8 saturate in several layers.
    exact = []
    for number in range(2, 7):
        maps = operands[number - 1][0]
        block = getattr(trained, f"set_layer{number}").forward_block
        weight = quantised_weights(weights_of(block))[0].transpose(2, 3, 1, 0).reshape(maps.shape[1], -1)
        exact.append(is_exact(maps, weight))
    assert not all(exact), exact


def test_no_two_weights_of_a_channel_can_saturate_whatever_the_maps(exported):
    model = onnx.load(exported[0])
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    weights = [constants[node.input[3]] for node in model.graph.node if node.op_type == "QLinearConv"]
    assert len(weights) == 6 and not any(saturates(weight).any() for weight in weights)
    # More than 7 bits are used where one weight of a channel is much larger than the others.
    assert max(np.abs(weight).max() for weight in weights) > 64


def test_saturating_pairs_are_those_whose_products_leave_int16():
    pairs = np.array([[a, b] for a in range(-128, 128) for b in range(-128, 128)], np.int8)
    # The largest and smallest sum of two products with maps of 0 to 255.
    largest, smallest = (255 * side(pairs.astype(int), 0).sum(1) for side in (np.maximum, np.minimum))
    assert np.array_equal(saturates(pairs), (largest > 32767) | (smallest < -32768))


def test_scales_are_those_that_change_the_convolution_least():
    random = np.random.default_rng(0)
    weight = random.normal(size=(6, 3, 3, 3)).astype(np.float32)
    weight[1] = 0
    maps = torch.from_numpy(random.random((2, 3, 8, 8)).astype(np.float32))

    def change(whole, scale):
        rounding = weight - whole * scale[:, None, None, None]
        return F.conv2d(maps, torch.from_numpy(rounding), padding=1).square().mean((0, 2, 3)).numpy()

    whole, scale = fit_scales(weight, maps)
    assert whole.dtype == np.int8 and not whole[1].any() and not saturates(whole).any()
    for factor in (1.0, 1.1, 1.25):
        other = (scale * factor).astype(np.float32)
        rounded = np.rint(weight / other[:, None, None, None])
        assert change(whole, scale).sum() <= change(rounded, other).sum() * 1.0001


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


def test_nothing_to_calibrate_or_check_with_is_told(trained, figures, tmp_path):
    for sequences, held_out, count in (([], [], 0), (figures[:1], [], 1)):
        with pytest.raises(UserError, match=f"needs two, found {count}; give --data_path"):
            export_int8(trained, tmp_path / "none.onnx", sequences, held_out, runtime=unchecked)
    assert not list(tmp_path.iterdir())


def test_a_large_error_on_held_out_sequences_is_refused(trained, figures, tmp_path):
    """Ranges of empty frames hold nothing of a person."""
    empty = [np.zeros_like(figures[0])]
    with pytest.raises(UserError, match=r"not written.*held out differ from torch's by .* at most 10 % is allowed"):
        export_int8(trained, tmp_path / "wrong.onnx", empty, figures[3:], runtime=unchecked)
    assert not list(tmp_path.iterdir())


def test_a_file_of_an_older_version_is_refused(exported, tmp_path):
    model = onnx.load(exported[0])
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "old.onnx")
    with pytest.raises(UserError, match=r"old\.onnx.*without VNNI; export it again with pth2onnx\.py --int8"):
        WholeRuntime(tmp_path / "old.onnx")


def test_wrong_arithmetic_is_refused_when_the_file_is_opened(exported, tmp_path):
    """The weights of one layer are clipped, which is what saturated sums amount to."""
    model = onnx.load(exported[0])
    node = [node for node in model.graph.node if node.op_type == "QLinearConv"][1]
    weight = next(each for each in model.graph.initializer if each.name == node.input[3])
    weight.CopyFrom(onnx.numpy_helper.from_array(np.clip(onnx.numpy_helper.to_array(weight), -30, 30), weight.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    with pytest.raises(UserError, match=r"wrong 8 bit embeddings on this processor.* at most 2 % is allowed"):
        WholeRuntime(tmp_path / "wrong.onnx")


@pytest.mark.parametrize(("key", "value"), [
    ("check_sils", "no base64!"), ("check_sils", "AAAA"), ("check_feature", "AAA"), ("check_feature", ""),
])  # fmt: skip
def test_a_damaged_check_is_refused(exported, tmp_path, key, value):
    model = onnx.load(exported[0])
    next(each for each in model.metadata_props if each.key == key).value = value
    onnx.save(model, tmp_path / "damaged.onnx")
    with pytest.raises(UserError, match=r"export it again with pth2onnx\.py --int8"):
        WholeRuntime(tmp_path / "damaged.onnx")


def test_the_check_takes_few_bytes(exported):
    properties = onnx.load(exported[0]).metadata_props
    assert {each.key for each in properties} == {"check_sils", "check_feature"}
    assert sum(len(each.value) for each in properties) < 20_000


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


def test_only_training_subjects_calibrate_and_are_named(aligned_tree, calibration, tmp_path, capsys):
    load_script("pth2onnx").main(["--int8", "--output_path", str(tmp_path / "int8.onnx"), *calibration])
    subjects = [each for each in aligned_tree.iterdir() if each.is_dir()]
    used, training = used_and_training(tmp_path)
    assert used == training and len(used) == 2 < len(subjects)
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["checked_with"] and not set(facts["checked_with"]) & set(facts["calibrated_with"])
    error, others = 100 * facts["relative_error"], len(facts["checked_with"])
    assert f"differs from torch by {error:.1f} % of an embedding's length on {others} others" in capsys.readouterr().out


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
