"""Static ONNX export: agreement with torch, rules of the graph, and no traces of the machine in the file."""

import copy
import socket
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from model.common.errors import UserError
from model.export import onnx_export
from model.export.input_files import fixed_length
from model.export.lint import lint_onnx
from model.export.onnx_export import StaticGaitSet, export_onnx, strip_metadata, walking_pixels
from model.runtime.ort_runtime import OrtRuntime


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "two.onnx"
    return path, export_onnx(network, path, batch_size=2, frame_num=6, runtime=OrtRuntime)


def test_interface_and_opset_of_the_exported_file(exported):
    path, facts = exported
    model = onnx.load(path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 11)]
    assert facts["input"] == {"image_seq": [2, 6, 64, 44]}
    assert facts["output"] == {"feature": [2, 62, 8]}
    assert facts["bytes"] == path.stat().st_size
    assert facts["operator_count"] == len(model.graph.node)
    assert lint_onnx(path) == []


def test_set_pooling_reduces_at_rank_three(exported):
    graph = onnx.shape_inference.infer_shapes(onnx.load(exported[0])).graph
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.value_info}
    over_frames = [n for n in graph.node if n.op_type == "ReduceMax" and list(n.attribute[0].ints) == [1]]
    assert len(over_frames) == 3
    assert [ranks[node.input[0]] for node in over_frames] == [3, 3, 3]


def test_static_network_equals_the_network(network):
    sils = torch.rand(3, 5, 64, 44, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(StaticGaitSet(network, 3, 5)(sils), network(sils), rtol=0, atol=1e-7)


def test_export_does_not_change_the_network(network, tmp_path):
    network.train()
    export_onnx(network, tmp_path / "one.onnx", frame_num=2, runtime=OrtRuntime)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_same_weights_give_the_same_bytes(network, exported, tmp_path):
    path, facts = exported
    again = export_onnx(network, tmp_path / "elsewhere.onnx", batch_size=2, frame_num=6, runtime=OrtRuntime)
    assert again["sha256"] == facts["sha256"]
    assert (tmp_path / "elsewhere.onnx").read_bytes() == path.read_bytes()


def test_file_holds_no_paths_or_host_name(exported):
    content = exported[0].read_bytes()
    root = Path(__file__).resolve().parents[3]
    assert b"gaitset.py" not in content and b"site-packages" not in content
    for secret in (str(root), str(Path.home()), str(exported[0].parent), socket.gethostname()):
        if len(secret) > 5:  # a short path such as / also occurs in the names of nodes
            assert secret.encode() not in content


def test_strip_metadata_clears_all_fields():
    node = helper.make_node("ReduceMax", ["image_seq"], ["feature"], "pool", axes=[1], doc_string="/home/me/a.py:3")
    value = helper.make_tensor_value_info("image_seq", 1, [1, 2, 3, 4], doc_string="/home/me/b.py")
    output = helper.make_tensor_value_info("feature", 1, [1, 1, 3, 4])
    model = helper.make_model(helper.make_graph([node], "g", [value], [output], doc_string="/home/me/c"))
    model.doc_string = "/home/me/d"
    helper.set_model_props(model, {"source": "/home/me/e"})
    if hasattr(node, "metadata_props"):
        entry = model.graph.node[0].metadata_props.add()
        entry.key, entry.value = "stack", "/home/me/f.py"
    assert b"/home/me" in model.SerializeToString()
    assert b"/home/me" not in strip_metadata(model).SerializeToString()


def test_nan_weights_keep_the_old_file(network, tmp_path):
    broken = copy.deepcopy(network)
    broken.fc_bin[0].data[0, 0, 0] = float("nan")
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the good one")
    with pytest.raises(UserError, match="differs from torch by nan"):
        export_onnx(broken, path, frame_num=2, runtime=OrtRuntime)
    assert path.read_bytes() == b"the good one"
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_an_exporter_that_writes_another_opset_is_detected(network, tmp_path, monkeypatch):
    """torch's newer exporter writes opset 18 without a warning if opset 11 is requested."""
    trace = onnx_export._trace

    def other_opset(static, path):
        trace(static, path)
        model = onnx.load(path)
        model.opset_import[0].version = 18
        onnx.save(model, path)

    monkeypatch.setattr(onnx_export, "_trace", other_opset)
    with pytest.raises(UserError, match=r"does not suit ATC: opset 18"):
        export_onnx(network, tmp_path / "model.onnx", frame_num=2, runtime=OrtRuntime)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("batch_size", "frame_num"), [(0, 6), (1, 0)])
def test_sizes_below_one_are_rejected(network, tmp_path, batch_size, frame_num):
    with pytest.raises(ValueError, match="at least 1"):
        export_onnx(network, tmp_path / "model.onnx", batch_size, frame_num, runtime=OrtRuntime)


def test_an_unwritable_path_is_an_error(network, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        export_onnx(network, tmp_path / "file" / "model.onnx", frame_num=2, runtime=OrtRuntime)


def test_repeat_padding_is_exact_and_zero_padding_is_not(network, exported):
    """Pad three frames to six, run the exported file, and compare with torch on the three frames."""
    sequences = [walking_pixels(3, np.random.default_rng(i)) for i in range(2)]
    with torch.inference_mode():
        alone = np.concatenate([network(torch.from_numpy(s[None] / np.float32(255))).numpy() for s in sequences])

    def error(padding):
        fixed = np.stack([fixed_length(s, 6, padding) for s in sequences]) / np.float32(255)
        return np.abs(OrtRuntime(exported[0]).run(fixed) - alone).max() / np.abs(alone).max()

    assert error("repeat") < 1e-5
    assert error("zero") > 1e-4


def test_walking_pixels_resemble_silhouettes():
    frames = walking_pixels(8, np.random.default_rng(0))
    assert frames.shape == (8, 64, 44) and frames.dtype == np.uint8
    assert 0.1 < frames.mean() / 255 < 0.5
    assert (frames[0] != frames[4]).any()
