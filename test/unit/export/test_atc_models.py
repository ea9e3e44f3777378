"""Check and convert models with a symbolic batch size, models of other programs, and models in other folders."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from scripts import run_module
from standins.om_file import read_om
from tiny_onnx import constant, converted, tiny_model, with_nodes

from model.common.errors import UsageError, UserError

pytestmark = pytest.mark.slow


def symbolic_model(path, *more):
    """Write a model that computes a shape from its symbolic batch size, as the export of the NPU port does."""
    nodes = [
        helper.make_node("Shape", ["image_seq"], ["shape"], "shape"),
        helper.make_node("Gather", ["shape", "first"], ["batch"], "gather", axis=0),
        helper.make_node("Slice", ["shape", "begin", "end"], ["two"], "slice"),
        helper.make_node("Concat", ["batch", "rest"], ["target"], "concat", axis=0),
        helper.make_node("Unsqueeze", ["image_seq"], ["wide"], "widen", axes=[0]),
        helper.make_node("ReduceMax", ["wide"], ["pooled"], "pool", axes=[2], keepdims=0),
        helper.make_node("Reshape", ["pooled", "target"], ["feature"], "fold"),
        *more,
    ]
    weights = [constant("first", [0]), constant("begin", [0]), constant("end", [2]), constant("rest", [6, 8])]
    onnx.save(tiny_model(nodes, batch="-1", output_shape=("-1", 6, 8), initializers=weights), path)
    return path


@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_symbolic_batch_size_is_fixed_by_the_input_shape(cann, tmp_path, caplog, batch_size):
    model = symbolic_model(tmp_path / "zoo.onnx")
    with pytest.raises(UserError, match=r"does not suit ATC: .* \['-1', 4, 8, 6\], .*--input_shape=image_seq:N"):
        converted(model)
    assert [path.name for path in tmp_path.glob("zoo*")] == ["zoo.onnx"], "atc was not run"
    facts = converted(model, input_shape=[batch_size, 4, 8, 6])
    assert facts["batch_size"] == batch_size and facts["input"] == {"image_seq": [batch_size, 4, 8, 6]}
    assert read_om(model.with_suffix(".om"))[0]["input_shape"] == [batch_size, 4, 8, 6]
    assert f"--input_shape=image_seq:{batch_size},4,8,6" in Path(facts["log"]).read_text()
    assert caplog.messages == []


def test_a_risk_of_a_model_with_a_fixed_batch_size_is_a_warning(cann, tmp_path, caplog):
    act = helper.make_node("Relu", ["pooled"], ["more"], "act")
    converted(symbolic_model(tmp_path / "zoo.onnx", act), input_shape=[16, 4, 8, 6])
    assert len(caplog.messages) == 1 and "operator Relu of node act" in caplog.messages[0]


@pytest.mark.parametrize("shape", [[16, 4, 8], [16, 4, 8, 7], [3, 2, 4, 8, 6]])
def test_an_input_shape_that_contradicts_the_model_is_an_error(cann, tmp_path, shape):
    with pytest.raises(UsageError, match=r"--input_shape=\d.*zoo\.onnx has the shape \['-1', 4, 8, 6\]"):
        converted(symbolic_model(tmp_path / "zoo.onnx"), input_shape=shape)


def test_an_input_shape_cannot_change_a_static_batch_size(cann, model):
    with pytest.raises(UsageError, match=r"--input_shape=16,4,8,6: the input of .* has the shape \[2, 4, 8, 6\]"):
        converted(model, input_shape=[16, 4, 8, 6])


def test_risks_of_foreign_files_are_warnings(cann, tmp_path, caplog, monkeypatch):
    """atc still runs, and if it rejects the model, its error is reported."""
    acts = [helper.make_node("Relu", ["image_seq" if i == 0 else f"t{i}"], [f"t{i + 1}"], f"act{i}") for i in range(7)]
    acts[-1].output[0] = "feature"
    path = tmp_path / "foreign.onnx"
    onnx.save(with_nodes(*acts), path)
    converted(path)
    assert path.with_suffix(".om").is_file()
    assert len(caplog.messages) == 6 and caplog.messages[-1].endswith("2 more warnings of this kind")
    warning = "foreign.onnx: some versions of ATC may reject the model or run it slowly: operator Relu of node act0"
    assert warning in caplog.messages[0]
    caplog.clear()
    converted(path, lint=False)
    assert caplog.messages == []
    onnx.save(tiny_model(opsets=[("", 12)]), path)
    with pytest.raises(UserError, match=r"atc failed with status 255: E19010"):
        converted(path)
    assert "opset 12, but only 11" in caplog.text


def test_the_input_may_have_another_name(cann, tmp_path):
    path = tmp_path / "foreign.onnx"
    onnx.save(tiny_model(names=("input", "out")), path)
    assert converted(path)["input"] == {"input": [2, 4, 8, 6]}


@pytest.mark.parametrize("lint", [True, False])
def test_weights_in_another_file_stop_only_the_check(behave, tmp_path, lint):
    behave("echo ok > $om.om; echo $success")
    weights = numpy_helper.from_array(np.ones((2, 4, 8, 6), np.float32), "weights")
    path = tmp_path / "split.onnx"
    model = with_nodes(helper.make_node("Add", ["image_seq", "weights"], ["feature"], "add"), initializers=[weights])
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    if lint:
        with pytest.raises(UserError, match=r"does not suit ATC: 1 weights are in another file"):
            converted(path)
    else:
        assert converted(path, lint=False)["batch_size"] == 2


def test_chinese_folders_are_accepted(cann, model, tmp_path):
    moved = tmp_path / "步态" / "m.onnx"
    moved.parent.mkdir()
    model.replace(moved)
    converted(moved)
    assert moved.with_suffix(".om").is_file()


def test_command_line_converts_one_symbolic_model_for_several_batch_sizes(cann, tmp_path):
    model = symbolic_model(tmp_path / "zoo.onnx")
    for shape, om in (("image_seq:1,4,8,6", "zoo.om"), ("16,4,8,6", "zoo_bs16.om")):
        done = run_module("model.export.atc", f"--input_shape={shape}", "--soc_version=Ascend310", "--no_lint", model)
        assert done.returncode == 0 and f"wrote {tmp_path / om}" in done.stdout, done.stderr
    assert read_om(tmp_path / "zoo_bs16.om")[0]["input_shape"] == [16, 4, 8, 6]
