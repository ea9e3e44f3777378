"""The network with set layers in 8 bit whole numbers, for processors: a quarter of the file, twice as fast.

Frames pass the six set layers, 99 % of the arithmetic, as uint8 with int8 weights, a scale a channel (ONNX Runtime's
static quantisation); set pooling takes the maximum of the uint8 values, which is exact. What runs once a sequence, the
global branch, the pyramid and the 62 matrices, computes in float32: only its weights are kept as int8.

LeakyReLU stays, as a table of 256 values, behind the pooling. Its negative side has few of the 255 steps, yet without
it embeddings move by 10.3 % of their length instead of 4.1 % (ten real sequences, the encoder that comes along).
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.errors import UserError
from model.export.bins import FRAME_NUM, fixed_length
from model.export.lint import INPUT_NAME, OUTPUT_NAME
from model.export.onnx_export import StaticGaitSet, describe, strip_notes, trace
from model.export.onnx_file import import_onnx, load_onnx
from model.files import whole_file
from model.network.basic_blocks import NEGATIVE_SLOPE, BasicConv2d
from model.network.gaitset import GaitSet

OPSET = 13  # the first in which a weight has a scale a channel
# Set layers that keep LeakyReLU: ReLU in layer 6 moves embeddings by 0.2 % and costs nothing, in layer 1 by 7.3 %.
LEAKY = (1, 2, 3, 4, 5)
SEQUENCES = 16  # that ranges are taken from


class _SetLayer(torch.nn.Module):
    """A set layer as whole numbers want it, with LeakyReLU or, a little faster, ReLU."""

    def __init__(self, block: BasicConv2d, leaky: bool):
        super().__init__()
        self.conv, self.pooling, self.leaky = block.conv, block.pooling, leaky

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = F.max_pool2d(x, 2) if self.pooling else x  # neither activation changes which is largest
        return F.leaky_relu(x, NEGATIVE_SLOPE) if self.leaky else F.relu(x)


class _Sequences:
    """Calibration sequences one batch at a time, in the form that ONNX Runtime's quantiser asks for."""

    def __init__(self, sequences: Sequence[np.ndarray], batch_size: int, frame_num: int):
        fixed = [fixed_length(one, frame_num).astype(np.float32) / 255 for one in sequences]
        fixed += fixed[:1] * (-len(fixed) % batch_size)
        self.batches = iter([np.stack(fixed[i : i + batch_size]) for i in range(0, len(fixed), batch_size)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {INPUT_NAME: batch}


def spread_positions(frames: np.ndarray, count: int) -> list[int]:
    """At most `count` positions spread evenly over sequences in the order of subjects; all of them have frames."""
    usable = np.flatnonzero(frames)
    return usable[np.unique(np.linspace(0, len(usable) - 1, min(count, len(usable))).astype(int))].tolist()


def export_int8(
    network: GaitSet,
    path: Path | str,
    sequences: Sequence[np.ndarray],
    batch_size: int = 1,
    frame_num: int = FRAME_NUM,
) -> dict[str, Any]:
    """Write `network` for ONNX Runtime: float32 `image_seq` [batch_size, frame_num, 64, 44] -> `feature` [.., 62, d].

    sequences: silhouettes of training subjects, uint8 [f, 64, 44] each, that the ranges of all maps are taken from.
    The file appears whole, after it has run. Returns facts, among them `relative_error`: the mean distance from
    torch's embeddings of `sequences`, as a part of their mean length.
    """
    if not sequences:
        raise UserError(f"{path}: no training sequence to calibrate with; give --data_path")
    onnx = import_onnx()
    start = time.perf_counter()
    network = copy.deepcopy(network).to("cpu", torch.float32, memory_format=torch.contiguous_format)
    network.eval().requires_grad_(False)
    prepared = copy.deepcopy(network)
    for number in range(1, 7):
        layer = getattr(prepared, f"set_layer{number}")
        layer.forward_block = _SetLayer(layer.forward_block, number in LEAKY)
    with tempfile.TemporaryDirectory() as folder, whole_file(path) as part:
        plain, quantised = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        trace(StaticGaitSet(prepared, batch_size, frame_num), plain, OPSET)
        _quantise(plain, quantised, _Sequences(sequences, batch_size, frame_num))
        model = load_onnx(quantised)
        _maxima_of_whole_numbers(onnx, model)
        _small_weights(onnx, model)
        part.write_bytes(strip_notes(model).SerializeToString(deterministic=True))
        facts = {**describe(part, model), "relative_error": _relative_error(network, part, sequences[:4])}
    return {
        "file": str(path),
        "batch_size": batch_size,
        "frame_num": frame_num,
        **facts,
        "calibration_sequences": len(sequences),
        "seconds": round(time.perf_counter() - start, 3),
    }


def _quantise(source: Path, target: Path, sequences: _Sequences) -> None:
    try:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise UserError(f"ONNX Runtime's quantiser cannot be imported ({error}); pip install onnxruntime") from error
    onnx = import_onnx()
    # What its own preparation would do to this graph, whose shapes are known; the mark keeps it from asking for that.
    model = onnx.shape_inference.infer_shapes(load_onnx(source))
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    set_layers = [node.name for node in model.graph.node if "/set_layer" in node.name]
    quantize_static(
        model,
        str(target),
        sequences,
        quant_format=QuantFormat.QDQ,
        nodes_to_quantize=set_layers,
        op_types_to_quantize=["Conv", "Relu", "LeakyRelu", "MaxPool"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,  # uint8 times int8 without an offset is what the processor multiplies fastest
    )


def _maxima_of_whole_numbers(onnx, model) -> None:
    """Take set pooling's reshaping and maximum before the return to float32, not after it: on a quarter of the bytes.

    A positive scale moves no maximum, so the values are the same.
    """
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output}
    # The first maximum behind each reshaping of quantised maps is set pooling's.
    for maximum in [node for node in graph.node if node.op_type == "ReduceMax"]:
        reshape = made_by.get(maximum.input[0])
        back = made_by.get(reshape.input[0]) if reshape is not None and reshape.op_type == "Reshape" else None
        if back is None or back.op_type != "DequantizeLinear":
            continue
        result, whole = maximum.output[0], maximum.output[0] + "_whole"
        # Copied, not changed: the maps' return to float32 may have other readers.
        maps, flat = back.input[0], reshape.output[0] + "_whole"
        first = onnx.helper.make_node("Reshape", [maps, reshape.input[1]], [flat], name=reshape.name + "_whole")
        after = onnx.helper.make_node("DequantizeLinear", [whole, *back.input[1:]], [result], name=result + "_float")
        position = list(graph.node).index(maximum)
        maximum.input[0], maximum.output[0] = flat, whole
        graph.node.insert(position, first)
        graph.node.insert(position + 2, after)
    _drop_unread(graph)


def _drop_unread(graph) -> None:
    while True:
        read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
        unread = [node for node in graph.node if not read.intersection(node.output)]
        if not unread:
            return
        for node in unread:
            graph.node.remove(node)


def _small_weights(onnx, model) -> None:
    """Keep the weights that are still float32 as int8 and a scale for each first axis; ONNX Runtime unfolds them."""
    graph = model.graph
    for tensor in [one for one in graph.initializer if one.data_type == 1 and len(one.dims) > 2]:
        weight = onnx.numpy_helper.to_array(tensor)
        largest = np.abs(weight).reshape(len(weight), -1).max(1)
        scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        whole = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
        name = tensor.name
        graph.initializer.remove(tensor)
        parts = {"": whole, "_scale": scale, "_zero": np.zeros(len(scale), np.int8)}
        graph.initializer.extend(
            onnx.numpy_helper.from_array(value, name + "_int8" + key) for key, value in parts.items()
        )
        names = [name + "_int8" + key for key in parts]
        graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", names, [name], name=name + "_float", axis=0))


def _relative_error(network: GaitSet, path: Path, sequences: Sequence[np.ndarray]) -> float:
    from model.runtime.ort_runtime import OrtRuntime

    runtime = OrtRuntime(path)
    fixed = [fixed_length(one, runtime.frame_num) for one in sequences]
    distances, lengths = [], []
    for one in fixed:
        batch = np.repeat(one[None].astype(np.float32) / 255, runtime.batch_size, 0)
        with torch.inference_mode():
            expected = network(torch.from_numpy(batch[:1])).numpy()[0]
        distances.append(np.linalg.norm(runtime.run(batch)[0] - expected))
        lengths.append(np.linalg.norm(expected))
    error = float(np.mean(distances) / np.mean(lengths))
    if not error < 1:
        raise UserError(
            f"{path}: not written, {OUTPUT_NAME} differs by {error:.2g} of its length; are the weights finite?"
        )
    return error
