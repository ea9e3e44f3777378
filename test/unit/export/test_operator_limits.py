"""Nodes at each operator limit of ATC and one step beyond it."""

import pytest
from onnx import helper

from model.export.lint import operator_limits


def problems(operator, shape, **attributes):
    node = helper.make_node(operator, ["x"], ["y"], "node", **attributes)
    return list(operator_limits(node, {"x": shape}))


def pool(shape=(2, 8, 16, 11), kernel_shape=(2, 2), **attributes):
    return problems("MaxPool", shape, kernel_shape=kernel_shape, **attributes)


def test_nodes_of_the_exported_network_are_within_the_limits():
    written = {"strides": (2, 2), "pads": (0, 0, 0, 0), "dilations": (1, 1), "ceil_mode": 0}
    assert pool((1600, 32, 64, 44), **written) == []
    assert problems("ReduceMax", (2, 100, 22528), axes=[1], keepdims=0) == []
    assert problems("ReduceMean", (2, 128, 16, 11), axes=[-1], keepdims=0) == []


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
    assert len(pool((2, 8, 16, 16, 16), (2, 2, 2))) == 2  # one more for its rank


@pytest.mark.parametrize("operator", ["ReduceMax", "ReduceMean"])
def test_limits_of_reductions(operator):
    assert problems(operator, (2, 3, 4, 5), axes=[-4, 3]) == []
    assert problems(operator, (1, 2, 3, 4, 5), axes=[1]) == []
    for axes in ([4], [-5], [1, -3]):
        assert "name each axis once" in problems(operator, (2, 3, 4, 5), axes=axes)[0]


def test_other_operators_have_only_the_general_limit():
    assert problems("Transpose", (1, 2, 3, 4, 5), perm=[4, 3, 2, 1, 0]) == []
    assert list(operator_limits(helper.make_node("Constant", [], ["y"]), {})) == []
