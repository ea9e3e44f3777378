"""Whole sequences for ONNX Runtime on a processor: one model for any number of frames, of pixels as they are stored.

The static export pads each sequence to so many frames by repeating its own, which set pooling then looks at for
nothing. Here both axes are open, so that only real frames are computed, and division by 255 lies in the first layer's
weights. The graph is put down node by node: a trace of open shapes drags a hundred nodes about sizes along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from model.export.names import EARLIER, MAXIMA, OUTPUT_NAME, POOLED, SILS_NAME
from model.export.onnx_file import import_onnx
from model.network.basic_blocks import NEGATIVE_SLOPE, BasicConv2d
from model.network.gaitset import GaitSet
from model.network.pooling import PYRAMID

if TYPE_CHECKING:
    import onnx

OPSET = 17
# [c, h, w] behind the set layers that are pooled.
MAP_SHAPES = dict(zip(POOLED, ((32, 32, 22), (64, 16, 11), (128, 16, 11)), strict=True))
FRAMES_AT_ONCE = 16  # of set pooling's first look


class Graph:
    """Nodes and constants of an ONNX graph, in the order in which they are called for."""

    def __init__(self):
        self.onnx = import_onnx()
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def constant(self, value: np.ndarray, name: str | None = None) -> str:
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def sizes(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def __call__(self, operator: str, *inputs: str, name: str | None = None, domain: str = "", **attributes) -> str:
        """Add a node; returns the name of its only output, which is also its own."""
        name = name or f"{operator}_{len(self.nodes)}"
        node = self.onnx.helper.make_node(operator, inputs, [name], name=name, domain=domain, **attributes)
        self.nodes.append(node)
        return name

    def value(self, name: str, kind: type, *shape: int | str) -> onnx.ValueInfoProto:
        helper = self.onnx.helper
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)

    def model(self) -> onnx.ModelProto:
        helper = self.onnx.helper
        graph = helper.make_graph(self.nodes, "gaitset", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="gaitset")


class SetLayers(Protocol):
    """How frames pass the set layers; `graph` gets the nodes."""

    def frames(self, graph: Graph, sils: str) -> str:
        """uint8 [n, s, 64, 44] -> what the first layer takes, frames of all sequences on one axis."""

    def layer(self, graph: Graph, x: str, number: int) -> str:
        """Set layer `number` of 1 to 6."""

    def pooled(self, graph: Graph, rows: str, number: int) -> str:
        """Set pooling of the maps behind layer `number`, a row a frame [n, s, c·h·w]. -> float32 [n, c, h, w]."""

    def weight(self, graph: Graph, value: np.ndarray) -> str:
        """A weight of what runs once a sequence, in float32."""


class FloatSetLayers:
    """In float32, as trained."""

    def __init__(self, network: GaitSet):
        self.blocks = set_blocks(network)

    def frames(self, graph: Graph, sils: str) -> str:
        return graph("Cast", graph("Reshape", sils, graph.sizes(-1, 1, 64, 44)), to=graph.onnx.TensorProto.FLOAT)

    def layer(self, graph: Graph, x: str, number: int) -> str:
        block = self.blocks[number]
        weight = weights_of(block) / (255 if number == 1 else 1)
        # The activation beside its convolution, where ONNX Runtime computes both in one.
        x = convolution(graph, x, block, graph.constant(weight), f"set{number}")
        x = graph("LeakyRelu", x, alpha=NEGATIVE_SLOPE)
        return max_pool(graph, x) if block.pooling else x

    def pooled(self, graph: Graph, rows: str, number: int) -> str:
        # A two-dimensional maximum over (s, c·h·w) reads rows of floats; ReduceMax takes a third longer.
        x = graph("Unsqueeze", rows, graph.sizes(1))
        kernel = (FRAMES_AT_ONCE, 1)
        x = graph("MaxPool", x, kernel_shape=kernel, strides=kernel, ceil_mode=1)
        return graph("Reshape", graph("ReduceMax", x, axes=(2,), keepdims=0), graph.sizes(-1, *MAP_SHAPES[number]))

    def weight(self, graph: Graph, value: np.ndarray) -> str:
        return graph.constant(value)


def whole_model(network: GaitSet, layers: SetLayers) -> onnx.ModelProto:
    """uint8 `sils` [n, s, 64, 44] -> float32 `feature` [n, 62, d], for any n and s.

    A sequence too long for the memory goes in pieces: each piece also gives its set-pooled maps as `maxima2`, `maxima4`
    and `maxima6`, which the next takes as `earlier2`, `earlier4` and `earlier6`. Without these it is whole.
    """
    graph = Graph()
    graph.inputs.append(graph.value(SILS_NAME, np.uint8, "n", "s", 64, 44))
    graph.outputs.append(graph.value(OUTPUT_NAME, np.float32, "n", 2 * sum(PYRAMID), network.hidden_dim))
    sizes = graph("Shape", SILS_NAME, end=2)  # n and s
    x = layers.frames(graph, SILS_NAME)
    maps = []
    for number in range(1, 7):
        x = layers.layer(graph, x, number)
        if number in MAP_SHAPES:
            shape = graph("Concat", sizes, graph.sizes(int(np.prod(MAP_SHAPES[number]))), axis=0)
            pooled = layers.pooled(graph, graph("Reshape", x, shape), number)
            maps.append(_with_earlier(graph, pooled, number))
    _embed(graph, network, layers, *maps)
    return graph.model()


def _with_earlier(graph: Graph, pooled: str, number: int) -> str:
    # A constant that is an input, too, is what the input is when it is left out.
    earlier = graph.constant(np.full((1, 1, 1, 1), -np.inf, np.float32), f"{EARLIER}{number}")
    graph.inputs.append(graph.value(earlier, np.float32, *(f"{axis}{number}" for axis in "nchw")))
    graph.outputs.append(graph.value(f"{MAXIMA}{number}", np.float32, "n", *MAP_SHAPES[number]))
    return graph("Max", pooled, earlier, name=f"{MAXIMA}{number}")


def _embed(graph: Graph, network: GaitSet, layers: SetLayers, pooled2: str, pooled4: str, pooled6: str) -> None:
    """`GaitSet.embed`."""

    def block(x: str, number: int) -> str:
        its = getattr(network, f"gl_layer{number}")
        x = convolution(graph, x, its, layers.weight(graph, weights_of(its)), f"gl{number}")
        x = graph("LeakyRelu", x, alpha=NEGATIVE_SLOPE)
        return max_pool(graph, x) if its.pooling else x

    of_global = block(block(pooled2, 1), 2)
    of_global = graph("Add", block(block(graph("Add", of_global, pooled4), 3), 4), pooled6)
    pyramids = zip(_pyramid(graph, pooled6), _pyramid(graph, of_global), strict=True)
    strips = graph("Concat", *(strip for both in pyramids for strip in both), axis=2)
    features = graph("Transpose", strips, perm=(2, 0, 1))
    matrices = layers.weight(graph, network.fc_bin[0].detach().cpu().float().numpy())
    graph("Transpose", graph("MatMul", features, matrices), perm=(1, 0, 2), name=OUTPUT_NAME)


def _pyramid(graph: Graph, maps: str) -> list[str]:
    """`horizontal_pyramid_pooling`, each level from the next thinner one."""
    mean = graph("ReduceMean", maps, axes=(3,), keepdims=0)
    maximum = graph("ReduceMax", maps, axes=(3,), keepdims=0)
    strips = [graph("Add", mean, maximum)]
    for bins in PYRAMID[-2::-1]:
        pairs = graph.sizes(0, 0, bins, 2)
        mean = graph("ReduceMean", graph("Reshape", mean, pairs), axes=(3,), keepdims=0)
        maximum = graph("ReduceMax", graph("Reshape", maximum, pairs), axes=(3,), keepdims=0)
        strips.append(graph("Add", mean, maximum))
    return strips[::-1]


def convolution(graph: Graph, x: str, block: BasicConv2d, weight: str, name: str) -> str:
    size, edge = block.conv.kernel_size[0], block.conv.padding[0]
    return graph("Conv", x, weight, name=name, kernel_shape=(size, size), pads=(edge,) * 4)


def max_pool(graph: Graph, x: str) -> str:
    return graph("MaxPool", x, kernel_shape=(2, 2), strides=(2, 2))


def set_blocks(network: GaitSet) -> dict[int, BasicConv2d]:
    return {number: getattr(network, f"set_layer{number}").forward_block for number in range(1, 7)}


def weights_of(block: BasicConv2d) -> np.ndarray:
    return block.conv.weight.detach().cpu().float().contiguous().numpy()
