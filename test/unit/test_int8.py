"""The 8 bit model: what it computes in, how near torch it stays, how small it is, whom it is calibrated with."""

import json

import numpy as np
import onnx
import pytest
import torch
from scripts import ROOT, one_line_error, run_script

from model.checkpoint import load_encoder
from model.errors import UsageError, UserError
from model.export.int8 import export_int8, spread_positions
from model.export.onnx_export import export_onnx, walking_figure
from model.network import GaitSet
from model.runtime.ort_runtime import OrtRuntime
from model.shipped import shipped_encoder


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return GaitSet().eval()


@pytest.fixture(scope="module")
def figures():
    random = np.random.default_rng(3)
    return [np.rint(walking_figure(4, random) * 255).astype(np.uint8) for _ in range(4)]


@pytest.fixture(scope="module")
def exported(network, figures, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "two.onnx"
    return path, export_int8(network, path, figures, batch_size=2, frame_num=4)


def test_embeddings_stay_near_those_of_torch(figures, tmp_path):
    """Of figures not calibrated with, by trained weights: random ones hardly use the negative side of LeakyReLU."""
    network = GaitSet().eval()
    load_encoder(network, shipped_encoder())
    export_int8(network, tmp_path / "trained.onnx", figures, batch_size=2, frame_num=4)
    random = np.random.default_rng(8)
    sils = np.stack([walking_figure(4, random) for _ in range(2)])
    with torch.inference_mode():
        expected = network(torch.from_numpy(sils)).numpy()
    found = OrtRuntime(tmp_path / "trained.onnx").run(sils)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error < 0.06, error  # 0.04; with ReLU it would be 0.10


def test_it_is_nearly_four_times_smaller(network, exported, tmp_path):
    export_onnx(network, tmp_path / "float.onnx", frame_num=2)
    assert (tmp_path / "float.onnx").stat().st_size > 3.9 * exported[1]["bytes"]


def test_all_set_layers_run_in_whole_numbers_without_a_return_between(exported, tmp_path):
    """What ONNX Runtime makes of the file, on the spot."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(str(exported[0]), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    operators = [node.op_type for node in graph.node]
    assert operators.count("QLinearConv") == 6
    assert operators.count("QuantizeLinear") == 1  # the pixels
    made_by = {name: node for node in graph.node for name in node.output}
    weights = {one.name for one in graph.initializer}
    back = {node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"} - weights
    source = {made_by[made_by[name].input[0]].op_type for name in back if made_by[name].op_type == "Reshape"}
    assert source | {made_by[name].op_type for name in back} == {"Reshape", "ReduceMax"}


def test_sequences_are_spread_over_all_subjects_and_have_frames():
    assert spread_positions(np.array([5, 0, 5, 5, 5, 5]), 3) == [0, 3, 5]
    assert spread_positions(np.array([5, 5]), 16) == [0, 1]


def test_nothing_to_calibrate_with_is_told(network, tmp_path):
    with pytest.raises(UserError, match="no training sequence"):
        export_int8(network, tmp_path / "none.onnx", [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["--data_path", "x"], ["--int8", "--partition", "all"]])
def test_calibration_options_that_make_no_sense_are_refused(arguments, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    import pth2onnx

    with pytest.raises(UsageError, match=arguments[-2].lstrip("-")):
        pth2onnx.main(arguments)


def test_only_training_subjects_calibrate_and_are_named(aligned_tree, network, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    import pth2onnx

    torch.save(network.state_dict(), tmp_path / "encoder.ptm")
    subjects = sorted(each.name for each in aligned_tree.iterdir() if each.is_dir())
    pth2onnx.main([
        "--int8", "--quiet", "--input_path", str(tmp_path / "encoder.ptm"), "--frame_num", "3", "--pid_num", "2",
        "--data_path", str(aligned_tree), "--work_path", str(tmp_path / "work"), "--dataset", "Walkers",
        "--output_path", str(tmp_path / "int8.onnx"), "--json", str(tmp_path / "int8.json"),
    ])  # fmt: skip
    partition = json.loads(next((tmp_path / "work" / "partition").glob("*.json")).read_text())
    used = {name.split("/")[0] for name in json.loads((tmp_path / "int8.json").read_text())["calibrated_with"]}
    assert used == set(partition["TRAIN_SET"]) and len(used) == 2 < len(subjects)


def test_missing_calibration_data_is_told_with_status_2(tmp_path):
    ended = run_script("pth2onnx.py", "--int8", "--data_path", tmp_path / "none", cwd=tmp_path)
    assert f"{tmp_path / 'none'}: no such folder" in one_line_error(ended, 2)
