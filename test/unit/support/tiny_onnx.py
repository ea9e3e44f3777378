"""Make small ONNX models for the tests of the graph checks and of ATC."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from model.export.atc.convert import convert
from model.export.atc.source import source_of


def tiny_model(
    nodes=None,
    batch=2,
    opsets=(("", 11),),
    ir_version=6,
    dtype=TensorProto.FLOAT,
    names=("image_seq", "feature"),
    output_shape=(2, 8, 6),
    initializers=(),
):
    """Return a model with the input image_seq [batch, 4, 8, 6].

    Args:
        nodes: nodes of the graph. Default: one node that computes the maximum over axis 1.
    """
    source, target = names
    if nodes is None:
        nodes = [helper.make_node("ReduceMax", [source], [target], "pool", axes=[1], keepdims=0)]
    image_seq = helper.make_tensor_value_info(source, dtype, [batch, 4, 8, 6])
    feature = helper.make_tensor_value_info(target, dtype, output_shape)
    graph = helper.make_graph(nodes, "tiny", [image_seq], [feature], list(initializers))
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def with_nodes(*nodes, output_shape=(2, 4, 8, 6), initializers=()):
    return tiny_model(list(nodes), output_shape=output_shape, initializers=initializers)


def converted(model, soc_version="Ascend310", input_shape=None, lint=True, **arguments):
    """Convert the ONNX file `model` with atc, and return the facts about the om file."""
    return convert(source_of(model, input_shape, lint), model.with_suffix(".om"), soc_version, **arguments)


def constant(name, values):
    return numpy_helper.from_array(np.asarray(values, np.int64), name)
