"""Build set layers that compute with 8-bit integers in ONNX Runtime on a CPU, for a faster model of a quarter the size.

The six set layers are the convolutions that run on every frame, with 99 % of the arithmetic. They take uint8 maps and
int8 weights with one scale per output channel. The ranges of the maps are measured on calibration sequences. The global
branch, the pyramid and the 62 matrices run once per sequence. They compute in float32, with weights stored as int8.

The graph has the operators that ONNX Runtime's quantizer would use, but in faster layouts. Channels come last from the
pixels to set pooling, so that no transpose is needed. Four pixels of a row become four channels of the first layer's
input. Layers 1, 3 and 5 use ReLU instead of LeakyReLU, because an 8-bit convolution computes ReLU without extra time.
The weights of layers 2, 4 and 6 are changed to compensate for this. Set pooling uses MaxPool on bytes, which is twelve
times as fast as ReduceMax.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from onnx import TensorProto

from model.export.quantization import (
    QuantParams,
    fit_scales,
    fit_to_relu,
    fold_pixels_into_channels,
    quant_params,
    quantize_weights,
)
from model.export.variable_length_onnx import Graph, SetLayers, map_shape, set_blocks, weights_of
from model.network.basic_blocks import NEGATIVE_SLOPE
from model.network.gaitset import GaitSet

MICROSOFT = "com.microsoft"  # domain of ONNX Runtime's own operators
FOLDED_PIXELS = 4  # pixels of a row that become channels, because ONNX Runtime does not vectorize a single channel
CALIBRATION_SEQUENCES = 16
HELD_OUT_SEQUENCES = 4  # further sequences, on which the exported file is compared with torch
FIT_FRAMES = 4  # frames of each calibration sequence that are used to choose the scales of the weights
POOLING_CHUNK = 8  # frames per window of set pooling
RANGE_STRIDE = 7  # every 7th value of a map is used to choose the range of a layer
RANGE_FACTORS = 2.0 ** -np.arange(10)  # candidates for the lower end of a range, relative to the smallest value
RELU_LAYERS = (1, 3, 5)  # only the next layer reads their maps, and its weights compensate for the lost negatives


def spread_positions(frames: np.ndarray, count: int) -> list[int]:
    """Return at most `count` positions of sequences with frames, evenly spread over the subjects."""
    usable = np.flatnonzero(frames)
    return usable[np.unique(np.linspace(0, len(usable) - 1, min(count, len(usable))).astype(int))].tolist()


class Int8SetLayers(SetLayers):
    """Set layers with 8-bit integers, calibrated with `sequences` (uint8 [f, 64, 44] each)."""

    def __init__(self, network: GaitSet, sequences: Sequence[np.ndarray]):
        super().__init__(network)
        self.ranges = measure_ranges(network, sequences)
        self.weights = fit_weights(network, sequences)

    def frames(self, graph: Graph, sils: str) -> str:
        self.params = QuantParams(1 / 255, 0)  # scale and zero point of the current map
        # After the padding, four neighbouring outputs of the 5 x 5 kernel read exactly two groups of four pixels.
        edge = self.blocks[1].conv.padding[0]
        x = graph("Pad", graph("Reshape", sils, graph.sizes(-1, 64, 44)), graph.sizes(0, 0, edge, 0, 0, edge))
        return graph("Reshape", x, graph.sizes(-1, 64, (44 + 2 * edge) // FOLDED_PIXELS, FOLDED_PIXELS))

    def layer(self, graph: Graph, x: str, number: int) -> str:
        block = self.blocks[number]
        edge = block.conv.padding[0]
        weight, scale = self.weights[number]
        pads = (edge,) * 4
        if number == 1:
            weight, pads = fold_pixels_into_channels(weight, FOLDED_PIXELS), (edge, 0, edge, 0)
            scale = np.tile(scale, FOLDED_PIXELS)
        smallest, largest = self.ranges[number]
        # The output of a convolution is clipped to the range that uint8 represents. If it starts at 0, this is ReLU.
        before, self.params = self.params, quant_params(smallest, largest)
        x = graph(
            "QLinearConv", x, *_constants(graph, before), graph.constant(weight), graph.constant(scale),
            graph.constant(np.zeros(len(scale), np.int8)), *_constants(graph, self.params),
            domain=MICROSOFT, channels_last=1, kernel_shape=weight.shape[2:], pads=pads,
        )  # fmt: skip
        if number == 1:  # convert groups of channels back to pixels
            x = graph("Reshape", x, graph.sizes(-1, 64, 44, block.conv.out_channels))
        if block.pooling:
            channels, height, width = map_shape(self.blocks, number)
            # Pool pairs of pixels, then pairs of rows. A window of 2 x 2 would take twice as long.
            x = _max_pool(graph, graph("Reshape", x, graph.sizes(-1, 4 * height * width, channels)), 2)
            x = _max_pool(graph, graph("Reshape", x, graph.sizes(-1, 2 * height, width * channels)), 2)
            x = graph("Reshape", x, graph.sizes(-1, height, width, channels))
        # Layers 1, 3 and 5 already have ReLU. Layer 6 gets LeakyReLU after set pooling, once per sequence in float32.
        return self._activation(graph, x, smallest, largest) if number in (2, 4) else x

    def _activation(self, graph: Graph, x: str, smallest: float, largest: float) -> str:
        """Add LeakyReLU as slope * x + (1 - slope) * relu(x).

        The operator QLinearLeakyRelu is slower, because it looks up each value in a table.
        """
        (scale, zero_point), self.params = self.params, quant_params(NEGATIVE_SLOPE * smallest, largest)
        unit = QuantParams(1, 0)
        zero = graph.constant(np.zeros(1, np.uint8))
        positive = _add(graph, x, QuantParams(1, zero_point), zero, unit, unit)  # ReLU, because the sum saturates at 0
        slope, rest = QuantParams(NEGATIVE_SLOPE * scale, zero_point), QuantParams((1 - NEGATIVE_SLOPE) * scale, 0)
        return _add(graph, x, slope, positive, rest, self.params)

    def pooled(self, graph: Graph, rows: str, number: int) -> str:
        channels, height, width = map_shape(self.blocks, number)
        x = _max_pool(graph, _max_pool(graph, rows, POOLING_CHUNK), POOLING_CHUNK)
        x = graph("ReduceMax", x, axes=(1,), keepdims=0)
        x = graph("DequantizeLinear", x, *_constants(graph, self.params))
        x = graph("Transpose", graph("Reshape", x, graph.sizes(-1, height, width, channels)), perm=(0, 3, 1, 2))
        return graph("LeakyRelu", x, alpha=NEGATIVE_SLOPE) if number == 6 else x

    def weight(self, graph: Graph, value: np.ndarray) -> str:
        """Store `value` as int8 with one scale per index of the first axis.

        Cast and Mul convert it to float32. ONNX Runtime computes these operators once, when it opens the file. It would
        compute DequantizeLinear in every run.
        """
        weight, scale = quantize_weights(value)
        integers = graph("Cast", graph.constant(weight), to=TensorProto.FLOAT)
        return graph("Mul", integers, graph.constant(scale.reshape(-1, *[1] * (value.ndim - 1))))


def _constants(graph: Graph, params: QuantParams) -> tuple[str, str]:
    return graph.constant(np.float32(params.scale)), graph.constant(np.uint8(params.zero_point))


def _add(graph: Graph, a: str, a_params: QuantParams, b: str, b_params: QuantParams, params: QuantParams) -> str:
    operands = (a, *_constants(graph, a_params), b, *_constants(graph, b_params))
    return graph("QLinearAdd", *operands, *_constants(graph, params), domain=MICROSOFT)


def _max_pool(graph: Graph, x: str, window: int) -> str:
    """Add the maximum over windows of `window` rows: [n, l, c] -> [n, ceil(l / window), c]."""
    return graph("NhwcMaxPool", x, domain=MICROSOFT, kernel_shape=(window,), strides=(window,), ceil_mode=1)


def fit_weights(network: GaitSet, sequences: Sequence[np.ndarray]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return the int8 weights and the scales of each set layer, which `fit_scales` chooses for the float32 maps."""
    frames = np.concatenate([one[:: -(-len(one) // FIT_FRAMES)] for one in sequences])
    maps = torch.from_numpy(frames).unsqueeze(1).float() / 255
    weights = {}
    with torch.inference_mode():
        for number, block in set_blocks(network).items():
            weight, inputs = weights_of(block), maps
            if number - 1 in RELU_LAYERS:
                weight, inputs = fit_to_relu(weight, maps), maps.relu()
            weights[number] = fit_scales(weight, inputs)
            maps = block(maps)
    return weights


def measure_ranges(network: GaitSet, sequences: Sequence[np.ndarray]) -> dict[int, tuple[float, float]]:
    """Return the lower and the upper end of the range that uint8 represents after the convolution of each set layer.

    The upper end is the largest output for `sequences`. The lower end is 0 in layers that use ReLU. In the other
    layers, `fit_smallest` chooses the lower end for the values that remain after max pooling (layers 2 and 4) or set
    pooling (layer 6).
    """
    blocks = set_blocks(network)
    largest = dict.fromkeys(blocks, 0.0)
    kept: dict[int, list[torch.Tensor]] = {number: [] for number in blocks if number not in RELU_LAYERS}
    with torch.inference_mode():
        for sequence in sequences:
            maps = torch.from_numpy(sequence).unsqueeze(1).float() / 255
            for number, block in blocks.items():
                maps = block.conv(maps)
                largest[number] = max(largest[number], float(maps.max()))
                maps = F.max_pool2d(maps, 2) if block.pooling else maps
                if number in kept:
                    # Layer 6 is set-pooled before its activation. The other maps are larger, so a part is enough.
                    kept[number].append(maps.amax(0).flatten() if number == 6 else maps.flatten()[::RANGE_STRIDE])
                maps = F.leaky_relu(maps, NEGATIVE_SLOPE)
    smallest = {number: fit_smallest(torch.cat(values), largest[number]) for number, values in kept.items()}
    return {number: (smallest.get(number, 0.0), largest[number]) for number in blocks}


def fit_smallest(values: torch.Tensor, largest: float) -> float:
    """Return the lower end of the uint8 range that changes leaky_relu(values) least.

    LeakyReLU divides negative values by 100, so an error of a negative value matters little. Therefore, a range that
    clips the most negative values can be better: its steps are smaller, so all other values are more precise.
    """
    expected, errors = F.leaky_relu(values, NEGATIVE_SLOPE), {}
    for factor in RANGE_FACTORS:
        candidate = factor * min(float(values.min()), 0.0)
        scale, zero_point = quant_params(candidate, largest)
        rounded = ((values / scale).round() + zero_point).clamp(0, 255) - zero_point
        errors[candidate] = float((F.leaky_relu(scale * rounded, NEGATIVE_SLOPE) - expected).square().mean())
    return min(errors, key=errors.get)
