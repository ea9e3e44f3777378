"""Lint hand-built graphs that each have one problem for ATC, and nodes at the limits of ATC."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_onnx import constant, tiny_model, with_nodes

from model.common.errors import UserError
from model.export.lint import find_problems, lint_onnx, operator_limits

SHAPE = constant("shape", [2, 4, 8, 6])
FOLD = helper.make_node("Reshape", ["image_seq", "shape"], ["folded"], "fold")
ADD = helper.make_node("Add", ["folded", "ones"], ["feature"], "add")


def node(operator, name="", inputs=("image_seq",), outputs=("feature",), **attributes):
    return helper.make_node(operator, list(inputs), list(outputs), name, **attributes)


def with_empty_axes(operator, name):
    empty = node(operator, name)
    empty.attribute.append(helper.make_attribute("axes", [], attr_type=onnx.AttributeProto.INTS))
    return empty


def widened(axes):
    return with_nodes(
        node("Unsqueeze", "widen", outputs=["wide"], axes=axes),
        node("Reshape", inputs=["wide", "shape"]),
        initializers=[SHAPE],
    )


def with_ones(dtype, *more):
    ones = numpy_helper.from_array(np.ones(6, dtype), "ones")
    return with_nodes(*more, FOLD, ADD, initializers=[SHAPE, ones])


def two_activations(name):
    return with_nodes(node("LeakyRelu", name, outputs=["middle"]), node("LeakyRelu", name, inputs=["middle"]))


def sparse():
    model = tiny_model()
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    return model


def with_function():
    model = tiny_model()
    body = [node("LeakyRelu", inputs=["x"], outputs=["y"])]
    model.functions.append(helper.make_function("own", "f", ["x"], ["y"], body, [helper.make_opsetid("", 11)]))
    return model


def with_second_input():
    model = tiny_model()
    model.graph.input.append(helper.make_tensor_value_info("lengths", TensorProto.FLOAT, [2]))
    return model


RANK_5 = with_nodes(
    node("Unsqueeze", "widen", outputs=["wide"], axes=[0]),
    node("ReduceMax", "pool", inputs=["wide"], axes=[2], keepdims=0),
    output_shape=(1, 2, 8, 6),
)


@pytest.mark.parametrize("model", [tiny_model(), widened([0]), with_ones(np.float32), two_activations(""), RANK_5])
def test_suitable_graphs_have_no_problem(tmp_path, model):
    assert lint_onnx(model) == []
    onnx.save(model, tmp_path / "tiny.onnx")
    assert lint_onnx(tmp_path / "tiny.onnx") == []


INVALID = with_nodes(node("Add", inputs=["image_seq", "nowhere"]))
INDICES = node("MaxPool", "pool", outputs=["feature", "i"], kernel_shape=[2, 2])
# From opset 13 on, the axes of Unsqueeze are an input. Some versions of ATC ignore such axes without an error.
AXES_AS_INPUT = tiny_model([node("Unsqueeze", "wide", ["image_seq", "axes"])], opsets=[("", 13)],
                           output_shape=(2, 1, 4, 8, 6), initializers=[constant("axes", [1])])  # fmt: skip


@pytest.mark.parametrize(
    ("model", "certain", "finding"),
    [
        (tiny_model(opsets=[("", 12)]), False, "opset 12"),
        (tiny_model(opsets=[("", 13)]), False, "opset 13"),
        (tiny_model(opsets=[("", 11), ("ai.onnx.ml", 2)]), True, "2 opset imports"),
        (tiny_model(ir_version=8), False, "IR version 8"),
        (tiny_model(batch="batch"), True, "input image_seq has shape ['batch', 4, 8, 6]"),
        (tiny_model(batch=0), True, "input image_seq has shape [0, 4, 8, 6]"),
        (tiny_model(output_shape=("batch", 8, 6)), False, "output feature has shape"),
        (tiny_model(dtype=TensorProto.DOUBLE), True, "is DOUBLE"),
        (tiny_model(names=("input", "feature")), False, "the model has the inputs input, but scripts"),
        (tiny_model(names=("image_seq", "out")), False, "the model has the outputs out, but scripts"),
        (with_nodes(node("ReduceMax", "pool")), True, "ReduceMax node pool has no axes"),
        (with_nodes(with_empty_axes("ReduceMean", "mean")), True, "ReduceMean node mean has no axes"),
        (with_nodes(node("Relu", "act")), False, "operator Relu of node act"),
        (with_nodes(node("Add", inputs=["image_seq"] * 2, domain="own")), True, "operator own::Add of node"),
        (INVALID, True, "not a valid ONNX graph"),
        (with_ones(np.float64), True, "Add"),
        (sparse(), True, "1 sparse weights"),
        (with_function(), True, "1 functions in the model"),
        (with_second_input(), True, "the model has the inputs image_seq, lengths, but it must have exactly one"),
        (AXES_AS_INPUT, False, "has axes as input"),
        (with_nodes(INDICES, output_shape=(2, 4, 7, 5)), False, "MaxPool node pool also returns indices"),
    ],
)
def test_problem_is_found_as_certain_or_as_a_risk_of_some_versions(model, certain, finding):
    """`certain` models have a failure. All other models have only risks, which depend on the version of ATC."""
    problems = lint_onnx(model)
    assert any(finding in problem for problem in problems), problems
    assert all("\n" not in problem for problem in problems)
    failures, risks = find_problems(model)
    assert problems == [*risks, *failures]
    assert bool(failures) is certain
    assert certain or risks


@pytest.mark.parametrize(
    ("model", "finding"),
    [
        (widened([0, 1]), "has 6 axes"),
        (with_nodes(node("MaxPool", "pool", kernel_shape=[2, 2], storage_order=1), output_shape=(2, 4, 7, 5)),
         "MaxPool node pool has storage_order 1, but ATC accepts only 0"),
        (two_activations("act"), "two nodes have the name act, but ATC identifies nodes by name; "
         "export with torch.onnx.export(dynamo=False, opset_version=11)"),
    ],
)  # fmt: skip
def test_problem_is_the_only_finding(model, finding):
    problems = lint_onnx(model)
    assert len(problems) == 1 and finding in problems[0]


def test_shapes_computed_at_run_time_are_found():
    shape = node("Shape", outputs=["shape"])
    problems = lint_onnx(with_nodes(shape, node("Reshape", "fold", ["image_seq", "shape"])))
    assert any("operator Shape" in problem for problem in problems)
    assert any("Reshape node fold computes its shape" in problem for problem in problems)


def test_integers_are_allowed_only_as_shapes():
    problems = lint_onnx(with_ones(np.float32, node("Add", "sum", ["shape", "shape"], ["sum"])))
    assert problems == [problems[0]] * 2 and "Add node sum reads shape, which is INT64, not FLOAT" in problems[0]


@pytest.mark.parametrize("content", [b"", b"no protobuf at all", None])
def test_a_file_without_a_model_is_an_error(tmp_path, content):
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.onnx"):
        lint_onnx(path)


def test_a_name_that_is_not_utf8_is_a_problem(monkeypatch):
    """onnx's checker raises UnicodeDecodeError for a node whose name was damaged."""
    monkeypatch.setattr(onnx.checker, "check_model", lambda model: b"\xc0".decode())
    assert any("not a valid ONNX graph" in finding for finding in lint_onnx(tiny_model()))


def test_a_damaged_output_name_is_a_risk():
    """protobuf reads a name that is not UTF-8 as bytes."""
    content = tiny_model().SerializeToString().replace(b"feature", b"\xc0eature")
    _, risks = find_problems(onnx.load_from_string(content))
    assert any(r"outputs b'\xc0eature', but scripts expect feature" in risk for risk in risks), risks


# Nodes that are exactly at a limit of their operator, and nodes one step beyond the limit


def limits_of(operator, shape, **attributes):
    one = node(operator, "node", inputs=["x"], outputs=["y"], **attributes)
    return list(operator_limits(one, {"x": shape}))


def pool(shape=(2, 8, 16, 11), kernel_shape=(2, 2), **attributes):
    return limits_of("MaxPool", shape, kernel_shape=kernel_shape, **attributes)


def test_nodes_of_the_exported_network_are_within_the_limits():
    written = {"strides": (2, 2), "pads": (0, 0, 0, 0), "dilations": (1, 1), "ceil_mode": 0}
    assert pool((1600, 32, 64, 44), **written) == []
    assert limits_of("ReduceMax", (2, 100, 22528), axes=[1], keepdims=0) == []
    assert limits_of("ReduceMean", (2, 128, 16, 11), axes=[-1], keepdims=0) == []


@pytest.mark.parametrize(
    ("inside", "beyond", "word"),
    [
        ({"shape": (1, 1, 1, 4096)}, {"shape": (1, 1, 1, 4097)}, "width of 4097"),
        ({"kernel_shape": (1, 255)}, {"kernel_shape": (1, 256)}, "window of [1, 256]"),
        ({"kernel_shape": (15, 17)}, {"kernel_shape": (16, 16)}, "window of [16, 16]"),
        ({"strides": (63, 63)}, {"strides": (63, 64)}, "strides [63, 64]"),
        ({"dilations": (1, 1)}, {"dilations": (1, 2)}, "dilations"),
        ({"storage_order": 0}, {"storage_order": 1}, "storage_order 1, but ATC accepts only 0"),
        ({"auto_pad": "NOTSET", "pads": (1, 1, 1, 1)}, {"auto_pad": "SAME_UPPER", "pads": (1, 1, 1, 1)}, "auto_pad"),
        ({"auto_pad": "VALID", "ceil_mode": 0}, {"auto_pad": "VALID", "ceil_mode": 1}, "ceil_mode"),
    ],
)
def test_limits_of_max_pool(inside, beyond, word):
    assert pool(**inside) == []
    found = pool(**beyond)
    assert len(found) == 1 and word in found[0] and "\n" not in found[0]


def test_max_pool_must_pool_two_axes():
    assert "must pool height and width" in pool((2, 8, 16), (2,))[0]
    assert len(pool((2, 8, 16, 16, 16), (2, 2, 2))) == 2  # the second problem is the number of axes


@pytest.mark.parametrize("operator", ["ReduceMax", "ReduceMean"])
def test_limits_of_reductions(operator):
    assert limits_of(operator, (2, 3, 4, 5), axes=[-4, 3]) == []
    assert limits_of(operator, (1, 2, 3, 4, 5), axes=[1]) == []
    for axes in ([4], [-5], [1, -3]):
        assert "name each axis once" in limits_of(operator, (2, 3, 4, 5), axes=axes)[0]


def test_other_operators_have_only_the_general_limit():
    assert limits_of("Transpose", (1, 2, 3, 4, 5), perm=[4, 3, 2, 1, 0]) == []
    assert list(operator_limits(node("Constant", inputs=[], outputs=["y"]), {})) == []
