"""Limits of single operators in ATC, as tables with their sources, and the check of one ONNX node against them.

Sources: CANN's ONNX operator specification (8.0 to 9.1) and the source of its ONNX plug-ins. The limits of Transpose
(8 axes), reductions (8) and MatMul (6) are above `lint.MAX_RANK`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

MAX_INPUT_RANK = {"Conv": 4, "MaxPool": 4}
MAX_POOLED_WIDTH = 4096
# Poolings with larger windows or strides run on the AI CPU, which is slow.
MAX_WINDOW_SIDE, MAX_WINDOW_AREA = 255, 255
MAX_STRIDE = 63


# The limits of MaxPool: a function that returns whether attributes violate the limit, and the message, which may
# quote attributes.
MAX_POOL_LIMITS: tuple[tuple[Callable[[Mapping[str, Any]], bool], str], ...] = (
    (
        lambda a: max(a["kernel_shape"]) > MAX_WINDOW_SIDE or math.prod(a["kernel_shape"]) > MAX_WINDOW_AREA,
        f"has a window of {{kernel_shape}}, but only windows of at most {MAX_WINDOW_SIDE} per side and "
        f"{MAX_WINDOW_AREA} in area are fast; pool in several steps",
    ),
    (
        lambda a: max(a["strides"]) > MAX_STRIDE,
        f"has strides {{strides}}, but only strides of at most {MAX_STRIDE} are fast; pool in several steps",
    ),
    (lambda a: set(a["dilations"]) != {1}, "has dilations {dilations}, which ATC does not support; remove them"),
    (lambda a: bool(a["storage_order"]), "has storage_order {storage_order}, but ATC accepts only 0; remove it"),
    (
        lambda a: a["auto_pad"] != b"NOTSET" and any(a["pads"] or ()),
        "has both auto_pad and pads, which exclude each other in ATC; remove auto_pad",
    ),
    (
        lambda a: a["auto_pad"] == b"VALID" and bool(a["ceil_mode"]),
        "has ceil_mode with auto_pad VALID, which ATC does not support; remove auto_pad",
    ),
)
_MAX_POOL_DEFAULTS = dict(strides=[1], dilations=[1], pads=0, storage_order=0, ceil_mode=0, auto_pad=b"NOTSET")


def operator_limits(node, shapes: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Yield one message per limit that `node` exceeds. `shapes` holds the static shapes of all its inputs, by name."""
    attributes = {attribute.name: _value(attribute) for attribute in node.attribute}
    shape = shapes[node.input[0]] if node.input else ()
    most = MAX_INPUT_RANK.get(node.op_type, len(shape))
    if len(shape) > most:
        yield f"has an input of {len(shape)} axes, but at most {most} are known to convert; flatten axes before it"
    if node.op_type == "MaxPool":
        yield from _max_pool(attributes, shape)
    elif node.op_type in ("ReduceMax", "ReduceMean"):
        axes = [axis % len(shape) if -len(shape) <= axis < len(shape) else None for axis in attributes.get("axes", ())]
        if None in axes or len(set(axes)) < len(axes):
            yield f"reduces over axes {list(attributes['axes'])} of {len(shape)}; name each axis once"


def _max_pool(attributes: Mapping[str, Any], shape: Sequence[int]) -> Iterator[str]:
    window = attributes.get("kernel_shape", ())
    if len(shape) != 4 or len(window) != 2:
        yield f"pools {len(window)} axes of {len(shape)}, but must pool height and width of 4; reshape before it"
        return
    if not 1 <= shape[3] <= MAX_POOLED_WIDTH:
        yield f"pools a width of {shape[3]}, but at most {MAX_POOLED_WIDTH} is supported; pool narrower maps"
    attributes = {**_MAX_POOL_DEFAULTS, **{name: value for name, value in attributes.items() if value}}
    yield from (message.format(**attributes) for violated, message in MAX_POOL_LIMITS if violated(attributes))


def _value(attribute) -> Any:
    return list(attribute.ints) or attribute.s or attribute.i
