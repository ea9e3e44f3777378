"""Build the ONNX graph of a variable-length model, which takes uint8 pixels of any number of sequences and frames.

For a static model, frames are repeated until a sequence has the required length. The repeated frames cost time, but
do not change the embedding. Here, the numbers of sequences and frames are dynamic, so only real frames are computed.
The division of the pixels by 255 is part of the first layer's weights. The graph is built node by node, because a
traced graph with dynamic shapes contains about a hundred nodes that only compute sizes.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model.common.geometry import PYRAMID, STRIPS
from model.export.onnx_file import EARLIER, MAXIMA, OUTPUT_NAME, POOLED, SILS_NAME
from model.network.basic_blocks import NEGATIVE_SLOPE, BasicConv2d
from model.network.gaitset import SMALLEST_LENGTH, GaitSet

OPSET = 17
MAP_SIZES = dict(zip(POOLED, ((32, 22), (16, 11), (16, 11)), strict=True))  # [h, w] of the set-pooled maps
POOLING_CHUNK = 16  # frames per window of the first step of set pooling


class Graph:
    """An ONNX graph under construction. Calling it adds a node."""

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def constant(self, value: np.ndarray, name: str | None = None) -> str:
        """Add an initializer and return its name."""
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def sizes(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def __call__(self, operator: str, *inputs: str, name: str | None = None, domain: str = "", **attributes) -> str:
        """Add a node with one output and return its name, which is also the name of the output."""
        name = name or f"{operator}_{len(self.nodes)}"
        node = helper.make_node(operator, inputs, [name], name=name, domain=domain, **attributes)
        self.nodes.append(node)
        return name

    def value(self, name: str, kind: type, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "gaitset", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="gaitset")


class SetLayers:
    """The layers that run once per frame, in float32. Each method adds nodes and returns the name of their output."""

    def __init__(self, network: GaitSet):
        self.network, self.blocks = network, set_blocks(network)

    def frames(self, graph: Graph, sils: str) -> str:
        """Convert uint8 [n, s, 64, 44] to the first layer's input, with the frames of all sequences on one axis."""
        return graph("Cast", graph("Reshape", sils, graph.sizes(-1, 1, 64, 44)), to=TensorProto.FLOAT)

    def layer(self, graph: Graph, x: str, number: int) -> str:
        """Add set layer `number`, 1 to 6."""
        block = self.blocks[number]
        weight = weights_of(block) / (255 if number == 1 else 1)
        # The activation directly follows its convolution, so that ONNX Runtime fuses them.
        x = convolution(graph, x, block, graph.constant(weight), f"set{number}")
        x = graph("LeakyRelu", x, alpha=NEGATIVE_SLOPE)
        return max_pool(graph, x) if block.pooling else x

    def pooled(self, graph: Graph, rows: str, number: int) -> str:
        """Set-pool the maps after layer `number`: one row per frame [n, s, c·h·w] -> float32 [n, c, h, w]."""
        # MaxPool over (s, c·h·w) reads contiguous rows; ReduceMax alone takes a third longer.
        x = graph("Unsqueeze", rows, graph.sizes(1))
        kernel = (POOLING_CHUNK, 1)
        x = graph("MaxPool", x, kernel_shape=kernel, strides=kernel, ceil_mode=1)
        shape = graph.sizes(-1, *map_shape(self.blocks, number))
        return graph("Reshape", graph("ReduceMax", x, axes=(2,), keepdims=0), shape)

    def weight(self, graph: Graph, value: np.ndarray) -> str:
        """Add a weight of the layers that run once per sequence; its output is float32."""
        return graph.constant(value)


def variable_length_model(layers: SetLayers) -> onnx.ModelProto:
    """Build the model: uint8 `sils` [n, s, 64, 44] -> float32 `feature` [n, 62, d], for any n and s.

    Sequences that do not fit into the memory are computed in chunks of frames. Each run also returns the set-pooled
    maps of all chunks so far as `maxima2`, `maxima4` and `maxima6`. The run of the next chunk takes them as the
    optional inputs `earlier2`, `earlier4` and `earlier6`.
    """
    graph = Graph()
    graph.inputs.append(graph.value(SILS_NAME, np.uint8, "n", "s", 64, 44))
    graph.outputs.append(graph.value(OUTPUT_NAME, np.float32, "n", STRIPS, layers.network.hidden_dim))
    sizes = graph("Shape", SILS_NAME, end=2)  # n and s
    x = layers.frames(graph, SILS_NAME)
    maps = []
    for number in range(1, 7):
        x = layers.layer(graph, x, number)
        if number in POOLED:
            shape_of_map = map_shape(layers.blocks, number)
            shape = graph("Concat", sizes, graph.sizes(int(np.prod(shape_of_map))), axis=0)
            pooled = layers.pooled(graph, graph("Reshape", x, shape), number)
            maps.append(_with_earlier(graph, pooled, number, shape_of_map))
    _embed(graph, layers, *maps)
    return graph.model()


def _with_earlier(graph: Graph, pooled: str, number: int, shape_of_map: tuple[int, int, int]) -> str:
    """Add the maximum of the set-pooled maps of this chunk and of earlier chunks."""
    # A constant with the name of an input is the default value of the input.
    earlier = graph.constant(np.full((1, 1, 1, 1), -np.inf, np.float32), f"{EARLIER}{number}")
    graph.inputs.append(graph.value(earlier, np.float32, *(f"{axis}{number}" for axis in "nchw")))
    graph.outputs.append(graph.value(f"{MAXIMA}{number}", np.float32, "n", *shape_of_map))
    return graph("Max", pooled, earlier, name=f"{MAXIMA}{number}")


def _embed(graph: Graph, layers: SetLayers, pooled2: str, pooled4: str, pooled6: str) -> None:
    """Add the layers after set pooling, as in `GaitSet.embed`."""

    def block(x: str, number: int) -> str:
        layer = getattr(layers.network, f"gl_layer{number}")
        x = convolution(graph, x, layer, layers.weight(graph, weights_of(layer)), f"gl{number}")
        x = graph("LeakyRelu", x, alpha=NEGATIVE_SLOPE)
        return max_pool(graph, x) if layer.pooling else x

    global_maps = block(block(pooled2, 1), 2)
    global_maps = graph("Add", block(block(graph("Add", global_maps, pooled4), 3), 4), pooled6)
    pyramids = zip(_pyramid(graph, pooled6), _pyramid(graph, global_maps), strict=True)
    strips = graph("Concat", *(strip for both in pyramids for strip in both), axis=2)
    features = graph("Transpose", strips, perm=(2, 0, 1))
    matrices = layers.weight(graph, layers.network.fc_bin[0].detach().cpu().float().numpy())
    products = graph("MatMul", features, matrices)
    if layers.network.unit_strips is not None:
        lengths = graph("ReduceL2", products, axes=(2,))
        products = graph("Div", products, graph("Add", lengths, graph.constant(np.float32(SMALLEST_LENGTH))))
    graph("Transpose", products, perm=(1, 0, 2), name=OUTPUT_NAME)


def _pyramid(graph: Graph, maps: str) -> list[str]:
    """Add `horizontal_pyramid_pooling`. Each level pools pairs of strips of the next finer level."""
    mean = graph("ReduceMean", maps, axes=(3,), keepdims=0)
    maximum = graph("ReduceMax", maps, axes=(3,), keepdims=0)
    strips = [graph("Add", mean, maximum)]
    for level in PYRAMID[-2::-1]:
        pairs = graph.sizes(0, 0, level, 2)
        mean = graph("ReduceMean", graph("Reshape", mean, pairs), axes=(3,), keepdims=0)
        maximum = graph("ReduceMax", graph("Reshape", maximum, pairs), axes=(3,), keepdims=0)
        strips.append(graph("Add", mean, maximum))
    return strips[::-1]


def convolution(graph: Graph, x: str, block: BasicConv2d, weight: str, name: str) -> str:
    """Add the convolution of `block` with the given weight."""
    size, edge = block.conv.kernel_size[0], block.conv.padding[0]
    return graph("Conv", x, weight, name=name, kernel_shape=(size, size), pads=(edge,) * 4)


def max_pool(graph: Graph, x: str) -> str:
    """Add a 2 x 2 max pooling."""
    return graph("MaxPool", x, kernel_shape=(2, 2), strides=(2, 2))


def set_blocks(network: GaitSet) -> dict[int, BasicConv2d]:
    """Return the six set layers by number."""
    return {number: getattr(network, f"set_layer{number}").forward_block for number in range(1, 7)}


def map_shape(blocks: dict[int, BasicConv2d], number: int) -> tuple[int, int, int]:
    """Return [c, h, w] of the maps after set layer `number`, one of POOLED."""
    return blocks[number].conv.out_channels, *MAP_SIZES[number]


def weights_of(block: BasicConv2d) -> np.ndarray:
    """Return the weights of a block's convolution as float32 [o, i, k, k]."""
    return block.conv.weight.detach().cpu().float().contiguous().numpy()
