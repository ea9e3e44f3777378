"""Graphs built by hand, each with one fault that ATC would stumble over."""

import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_onnx import constant, tiny_model, with_nodes

from model.common.errors import UserError
from model.export.lint import lint_onnx


def without_axes(operator):
    node = helper.make_node(operator, ["image_seq"], ["feature"], "mean")
    node.attribute.append(helper.make_attribute("axes", [], attr_type=onnx.AttributeProto.INTS))
    return node


def test_sound_graph_has_no_problem(tmp_path):
    model = tiny_model()
    assert lint_onnx(model) == []
    onnx.save(model, tmp_path / "tiny.onnx")
    assert lint_onnx(tmp_path / "tiny.onnx") == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"opsets": [("", 12)]}, "opset 12"),
        ({"opsets": [("", 11), ("ai.onnx.ml", 2)]}, "2 opset imports"),
        ({"ir_version": 8}, "IR version 8"),
        ({"batch": "batch"}, "input image_seq has shape ['batch', 4, 8, 6]"),
        ({"batch": 0}, "input image_seq has shape [0, 4, 8, 6]"),
        ({"output_shape": ("batch", 8, 6)}, "output feature has shape"),
        ({"dtype": TensorProto.DOUBLE}, "is DOUBLE"),
        ({"names": ("input", "feature")}, "the inputs are called input"),
        ({"names": ("image_seq", "out")}, "the outputs are called out"),
    ],
)
def test_faults_of_the_model(arguments, words):
    problems = lint_onnx(tiny_model(**arguments))
    assert any(words in problem for problem in problems), problems
    assert all("\n" not in problem for problem in problems)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("ReduceMax", ["image_seq"], ["feature"], "pool"), "ReduceMax node pool has no axes"),
        (without_axes("ReduceMean"), "ReduceMean node mean has no"),
        (helper.make_node("Relu", ["image_seq"], ["feature"], "act"), "operator Relu of node act"),
        (helper.make_node("Add", ["image_seq", "image_seq"], ["feature"], domain="own"), "operator own::Add of node"),
        (helper.make_node("Add", ["image_seq", "nowhere"], ["feature"]), "no valid ONNX graph"),
    ],
)  # fmt: skip
def test_faults_of_a_node(node, words):
    problems = lint_onnx(with_nodes(node))
    assert any(words in problem for problem in problems), problems


def test_axes_as_an_input():
    """Opset 13 and later: some ATC drop them without a word."""
    node = helper.make_node("Unsqueeze", ["image_seq", "axes"], ["feature"], "wide")
    model = tiny_model([node], opsets=[("", 13)], output_shape=(2, 1, 4, 8, 6), initializers=[constant("axes", [1])])
    assert any("has axes as input" in problem for problem in lint_onnx(model))


def test_six_axes_are_one_too_many():
    def unsqueeze(axes):
        return helper.make_node("Unsqueeze", ["image_seq"], ["wide"], "widen", axes=axes)

    def back(shape):
        return helper.make_node("Reshape", ["wide", shape], ["feature"])

    shape = constant("shape", [2, 4, 8, 6])
    assert lint_onnx(with_nodes(unsqueeze([0]), back("shape"), initializers=[shape])) == []
    problems = lint_onnx(with_nodes(unsqueeze([0, 1]), back("shape"), initializers=[shape]))
    assert len(problems) == 1 and "has 6 axes" in problems[0]


def test_shape_computed_while_running():
    problems = lint_onnx(
        with_nodes(
            helper.make_node("Shape", ["image_seq"], ["shape"]),
            helper.make_node("Reshape", ["image_seq", "shape"], ["feature"], "fold"),
        )
    )
    assert any("operator Shape" in problem for problem in problems)
    assert any("Reshape node fold computes its shape" in problem for problem in problems)


def test_pooling_with_indices():
    node = helper.make_node("MaxPool", ["image_seq"], ["feature", "where"], "pool", kernel_shape=[2, 2])
    problems = lint_onnx(with_nodes(node, output_shape=(2, 4, 7, 5)))
    assert any("MaxPool node pool also gives indices" in problem for problem in problems)


def test_reductions_stay_at_four_axes():
    """No ATC promises one at rank 5."""
    wide = helper.make_node("Unsqueeze", ["image_seq"], ["wide"], "widen", axes=[0])
    reduced = helper.make_node("ReduceMax", ["wide"], ["feature"], "pool", axes=[2], keepdims=0)
    problems = lint_onnx(with_nodes(wide, reduced, output_shape=(1, 2, 8, 6)))
    assert len(problems) == 1 and "ReduceMax node pool works on 5 axes, at most 4" in problems[0]


def test_a_pooling_beyond_the_limits_of_atc():
    node = helper.make_node("MaxPool", ["image_seq"], ["feature"], "pool", kernel_shape=[2, 2], dilations=[2, 2])
    problems = lint_onnx(with_nodes(node, output_shape=(2, 4, 6, 4)))
    assert len(problems) == 1 and "MaxPool node pool has dilations [2, 2]" in problems[0]


def test_integers_may_be_shapes_and_nothing_else():
    fold = helper.make_node("Reshape", ["image_seq", "shape"], ["folded"], "fold")
    shape = constant("shape", [2, 4, 8, 6])
    add = helper.make_node("Add", ["folded", "ones"], ["feature"], "add")
    floats = numpy_helper.from_array(np.ones(6, np.float32), "ones")
    assert lint_onnx(with_nodes(fold, add, initializers=[shape, floats])) == []
    doubles = numpy_helper.from_array(np.ones(6), "ones")
    problems = lint_onnx(with_nodes(fold, add, initializers=[shape, doubles]))
    assert any("Add" in problem or "no valid ONNX graph" in problem for problem in problems), problems
    both = helper.make_node("Add", ["shape", "shape"], ["sum"], "sum")
    problems = lint_onnx(with_nodes(both, fold, add, initializers=[shape, floats]))
    assert problems == [problems[0]] * 2 and "Add node sum reads shape, which is INT64, not FLOAT" in problems[0]


def test_names_of_nodes_are_told_apart():
    nodes = [
        helper.make_node("LeakyRelu", ["image_seq"], ["middle"], "act"),
        helper.make_node("LeakyRelu", ["middle"], ["feature"], "act"),
    ]
    assert lint_onnx(with_nodes(*nodes)) == [
        "two nodes are called act, ATC tells them apart by name; "
        "export with torch.onnx.export(dynamo=False, opset_version=11)"
    ]
    for node in nodes:
        node.ClearField("name")
    assert lint_onnx(with_nodes(*nodes)) == []


def test_sparse_weights():
    model = tiny_model()
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64)), [4])
    model.graph.sparse_initializer.append(sparse)
    assert any("1 sparse weights" in problem for problem in lint_onnx(model))


def test_weights_in_another_file(tmp_path):
    weights = numpy_helper.from_array(np.ones((2, 4, 8, 6), np.float32), "weights")
    node = helper.make_node("Add", ["image_seq", "weights"], ["feature"])
    model = with_nodes(node, initializers=[weights])
    assert lint_onnx(model) == []
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(model, tmp_path / "split.onnx", **options)
    assert any("1 weights lie in another file" in problem for problem in lint_onnx(tmp_path / "split.onnx"))


@pytest.mark.parametrize("content", [b"", b"no protobuf at all", None])
def test_no_model(tmp_path, content):
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.onnx"):
        lint_onnx(path)


def test_without_onnx(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"the package onnx cannot be imported \(.*\); pip install onnx"):
        lint_onnx(tmp_path / "m.onnx")


def test_what_the_checker_says_in_bytes_that_are_no_text_is_one_line(monkeypatch):
    """As it does of a node whose name was damaged."""

    def refuse(model):
        b"\xc0".decode()

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    assert any("no valid ONNX graph" in finding for finding in lint_onnx(tiny_model()))
