"""The set layers in 8 bit whole numbers, for ONNX Runtime on a processor: a quarter of the file, faster arithmetic.

Frames pass the six set layers, 99 % of the arithmetic, as uint8 with int8 weights, one scale per output channel; ranges
of maps are found by ONNX Runtime's calibrator. Without VNNI, x86 processors multiply by VPMADDUBSW, which adds two
products in int16 and saturates. No two weights of one output channel are large enough for that, so every processor
computes the same integers. What runs once a sequence, the global branch, the pyramid and the 62 matrices, computes in
float32: only its weights are kept as int8.

The operators are those that ONNX Runtime itself would make of a quantised graph, but placed by hand: channels last from
the pixels to set pooling without a turn between, four pixels of a row as four channels of the first layer, and set
pooling by its maximum over bytes, twelve times as fast as its reduction.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from model.common.errors import UserError
from model.export.names import SILS_NAME
from model.export.whole_onnx import (
    MAP_SHAPES,
    FloatSetLayers,
    Graph,
    set_blocks,
    weights_of,
    whole_model,
)
from model.network.basic_blocks import NEGATIVE_SLOPE
from model.network.gaitset import GaitSet

MICROSOFT = "com.microsoft"  # the domain of ONNX Runtime's own operators
PIXELS = 4  # of a row that the first layer takes as channels: it has one, and nothing runs along one channel
SEQUENCES = 16  # that ranges and scales are taken from
HELD_OUT = 4  # further sequences, by which the exported file is compared with torch
FIT_FRAMES = 4  # of each calibration sequence, by which the scales of the weights are chosen
SCALE_FACTORS = np.linspace(1.25, 1, 16)  # candidates, relative to the finest scale; the coarsest first
MAX_PAIR = 128  # two weights of one sign: 255 * 128 = 32,640 fits int16
FRAMES_AT_ONCE = 8  # of set pooling's looks


def spread_positions(frames: np.ndarray, count: int) -> list[int]:
    """At most `count` positions spread evenly over sequences in the order of subjects; all of them have frames."""
    usable = np.flatnonzero(frames)
    return usable[np.unique(np.linspace(0, len(usable) - 1, min(count, len(usable))).astype(int))].tolist()


class Step(NamedTuple):
    """Of an asymmetric uint8: real value = scale * (whole number - zero)."""

    scale: float
    zero: int


class Int8SetLayers:
    """Set layers in whole numbers, calibrated with `sequences`, uint8 [f, 64, 44] each."""

    def __init__(self, network: GaitSet, sequences: Sequence[np.ndarray]):
        self.blocks = set_blocks(network)
        self.ranges = ranges_of(network, sequences)
        self.weights = fit_weights(network, sequences)

    def frames(self, graph: Graph, sils: str) -> str:
        self.step = Step(1 / 255, 0)
        return graph("Reshape", sils, graph.sizes(-1, 64, 44 // PIXELS, PIXELS))

    def layer(self, graph: Graph, x: str, number: int) -> str:
        block = self.blocks[number]
        edge = block.conv.padding[0]
        weight, scale = self.weights[number]
        pads = (edge,) * 4
        if number == 1:
            weight, pads = beside_each_other(weight, PIXELS), (edge, 1, edge, 1)
            scale = np.tile(scale, PIXELS)
        before, self.step = self.step, step_of(*self.ranges[number])
        x = graph(
            "QLinearConv", x, *_parameters(graph, before), graph.constant(weight), graph.constant(scale),
            graph.constant(np.zeros(len(scale), np.int8)), *_parameters(graph, self.step),
            domain=MICROSOFT, channels_last=1, kernel_shape=weight.shape[2:], pads=pads,
        )  # fmt: skip
        if number == 1:
            x = graph("Reshape", x, graph.sizes(-1, 64, 44, block.conv.out_channels))
        if block.pooling:
            x = _max_pool(graph, x, 2, 2)
        # Set pooling comes first in the last layer: the activation then runs once a sequence, and in float32.
        return x if number == 6 else self._activation(graph, x, self.ranges[number])

    def _activation(self, graph: Graph, x: str, reached: tuple[float, float]) -> str:
        before, self.step = self.step, step_of(NEGATIVE_SLOPE * reached[0], reached[1])
        parameters = (*_parameters(graph, before), *_parameters(graph, self.step))
        return graph("QLinearLeakyRelu", x, *parameters, domain=MICROSOFT, alpha=NEGATIVE_SLOPE)

    def pooled(self, graph: Graph, rows: str, number: int) -> str:
        channels, height, width = MAP_SHAPES[number]
        # Frames as rows of a picture one pixel wide: its maximum runs over bytes side by side.
        x = graph("Unsqueeze", rows, graph.sizes(2))
        for _ in range(2):
            x = _max_pool(graph, x, FRAMES_AT_ONCE, 1)
        x = graph("ReduceMax", x, axes=(1,), keepdims=0)
        x = graph("DequantizeLinear", x, *_parameters(graph, self.step))
        x = graph("Transpose", graph("Reshape", x, graph.sizes(-1, height, width, channels)), perm=(0, 3, 1, 2))
        return graph("LeakyRelu", x, alpha=NEGATIVE_SLOPE) if number == 6 else x

    def weight(self, graph: Graph, value: np.ndarray) -> str:
        """As int8 with a scale for each of the first axis. Cast and Mul: these ONNX Runtime computes once, when it
        opens the file, and DequantizeLinear at every run."""
        weight, scale = quantised_weights(value)
        unfolded = graph("Cast", graph.constant(weight), to=graph.onnx.TensorProto.FLOAT)
        return graph("Mul", unfolded, graph.constant(scale.reshape(-1, *[1] * (value.ndim - 1))))


def _parameters(graph: Graph, step: Step) -> tuple[str, str]:
    return graph.constant(np.float32(step.scale)), graph.constant(np.uint8(step.zero))


def _max_pool(graph: Graph, x: str, height: int, width: int) -> str:
    kernel = (height, width)
    return graph("NhwcMaxPool", x, domain=MICROSOFT, kernel_shape=kernel, strides=kernel, ceil_mode=1)


def step_of(smallest: float, largest: float) -> Step:
    """The steps of uint8 over a range that holds 0, which is a whole number of them."""
    scale = (max(largest, 0) - min(smallest, 0)) / 255 or 1.0
    return Step(scale, round(-min(smallest, 0) / scale))


def quantised_weights(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 -> int8 of the same shape and the scale of each of the first axis; 0 stays 0."""
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8), scale


def saturates(weight: np.ndarray) -> np.ndarray:
    """Whether any two products of uint8 maps and int8 weights can leave int16 when added. [o, ...] -> bool [o].

    All pairs within an output channel count, because the order of the products depends on the processor.
    """
    rows = np.sort(weight.reshape(len(weight), -1).astype(np.int32), axis=1)
    positive, negative = np.maximum(rows[:, -2:], 0).sum(1), np.minimum(rows[:, :2], 0).sum(1)
    return (positive > MAX_PAIR) | (negative < -MAX_PAIR)


def fit_weights(network: GaitSet, sequences: Sequence[np.ndarray]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """int8 weights that cannot saturate, and their scales, of each set layer: see `fit_scales`."""
    frames = np.concatenate([one[:: -(-len(one) // FIT_FRAMES)] for one in sequences])
    maps = torch.from_numpy(frames).unsqueeze(1).float() / 255
    weights = {}
    with torch.inference_mode():
        for number, block in set_blocks(network).items():
            weights[number] = fit_scales(weights_of(block), maps)
            maps = block(maps)
    return weights


def fit_scales(weight: np.ndarray, maps: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """float32 [o, i, k, k] -> int8 weights that cannot saturate and the scale of each output channel [o].

    Of a few scales per channel the one is taken whose rounding changes the convolution of `maps` [f, i, h, w] least.
    """
    # The finest scale keeps each weight within int8 and the sum of two weights of one sign within MAX_PAIR.
    rows = np.sort(weight.reshape(len(weight), -1), axis=1)
    pairs = np.maximum(np.maximum(rows[:, -2:], 0).sum(1), -np.minimum(rows[:, :2], 0).sum(1))
    finest = np.maximum(pairs / MAX_PAIR, np.abs(rows).max(1) / 127)
    finest = np.where(finest > 0, finest, 1)
    best_weight = best_scale = best_error = None
    for factor in SCALE_FACTORS:
        scale = (factor * finest).astype(np.float32)
        steps = scale.reshape(-1, 1, 1, 1)
        whole = np.rint(weight / steps)
        rounding = torch.from_numpy(weight - whole * steps)
        error = F.conv2d(maps, rounding, padding=weight.shape[-1] // 2).square().mean((0, 2, 3)).numpy()
        if best_weight is None:
            # The coarsest scale never saturates: rounding adds at most 1 to a sum of 128 / 1.25.
            best_weight, best_scale, best_error = whole, scale, error
            continue
        better = (error < best_error) & ~saturates(whole)
        best_weight[better], best_scale[better], best_error[better] = whole[better], scale[better], error[better]
    return best_weight.astype(np.int8), best_scale


def beside_each_other(weight: np.ndarray, pixels: int) -> np.ndarray:
    """Weights [o, 1, k, k] for one channel -> [pixels * o, pixels, k, 3], for `pixels` of a row as channels.

    Output channel r * o + j at one place is channel j at pixel r of that place; k is at most 2 * pixels + 1.
    """
    outputs, _, height, width = weight.shape
    wide = np.zeros((pixels, outputs, pixels, height, 3), weight.dtype)
    for r in range(pixels):
        for column in range(width):
            place, channel = divmod(r + column - width // 2 + pixels, pixels)
            wide[r, :, channel, :, place] = weight[:, 0, :, column]
    return wide.reshape(pixels * outputs, pixels, height, 3)


class _Batches:
    """Calibration sequences in the form that ONNX Runtime's calibrator asks for."""

    def __init__(self, sequences: Sequence[np.ndarray]):
        self.batches: Iterator[dict[str, np.ndarray]] = ({SILS_NAME: one[None]} for one in sequences)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def ranges_of(network: GaitSet, sequences: Sequence[np.ndarray]) -> dict[int, tuple[float, float]]:
    """Smallest and largest output of each set layer's convolution over `sequences`, uint8 [f, 64, 44] each."""
    try:
        import onnxruntime
        from onnxruntime.quantization import CalibrationMethod, create_calibrator
    except ImportError as error:
        raise UserError(f"ONNX Runtime's quantiser cannot be imported ({error}); pip install onnxruntime") from error
    with tempfile.TemporaryDirectory() as folder:
        plain, augmented = Path(folder) / "float.onnx", Path(folder) / "augmented.onnx"
        plain.write_bytes(whole_model(network, FloatSetLayers(network)).SerializeToString())
        onnxruntime.set_default_logger_severity(3)  # its session would warn of what may be left out
        try:
            calibrator = create_calibrator(
                plain, ["Conv"], augmented_model_path=str(augmented), calibrate_method=CalibrationMethod.MinMax
            )
            calibrator.collect_data(_Batches(sequences))
            found = calibrator.compute_data()
        finally:
            onnxruntime.set_default_logger_severity(2)
    return {
        number: tuple(float(np.squeeze(edge)) for edge in found[f"set{number}"].range_value) for number in range(1, 7)
    }
