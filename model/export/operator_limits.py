"""Limits of single operators in ATC, by the ONNX operator specification of CANN (8.0 to 9.1) and, where that says
nothing, by what the makers' own conversion of this network went up to.

The specification also limits Transpose to 8 axes and MatMul to 6, both above `lint.HIGHEST_RANK`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Reductions at rank 5 are stated for no ATC; with 4 axes or fewer they are ordinary.
HIGHEST_INPUT_RANK = {"ReduceMax": 4, "ReduceMean": 4, "Conv": 4, "MaxPool": 4}
WIDEST_POOLED = 4096
LARGEST_WINDOW = (255, 256)  # of a pooling: a side, the area; above, and ...
LARGEST_STRIDE = 63  # ... above this, it runs on the AI CPU, slowly


def operator_limits(node, shapes: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """What of `node` is beyond the limits, with the remedy. `shapes`: of all tensors, known and static."""
    attributes = {attribute.name: _value(attribute) for attribute in node.attribute}
    shape = shapes[node.input[0]] if node.input else ()
    most = HIGHEST_INPUT_RANK.get(node.op_type, len(shape))
    if len(shape) > most:
        yield f"works on {len(shape)} axes, at most {most} are known to convert; flatten axes before it"
    if node.op_type == "MaxPool":
        yield from _max_pool(attributes, shape)
    elif node.op_type in ("ReduceMax", "ReduceMean"):
        axes = [axis % len(shape) if -len(shape) <= axis < len(shape) else None for axis in attributes.get("axes", ())]
        if None in axes or len(set(axes)) < len(axes):
            yield f"reduces over axes {list(attributes['axes'])} of {len(shape)}; name each axis once"


def _max_pool(attributes: Mapping[str, Any], shape: Sequence[int]) -> Iterator[str]:
    window = attributes.get("kernel_shape", ())
    side, area = LARGEST_WINDOW
    if len(shape) != 4 or len(window) != 2:
        yield f"pools {len(window)} axes of {len(shape)}, must pool height and width of 4; reshape before it"
        return
    if not 1 <= shape[3] <= WIDEST_POOLED:
        yield f"pools a width of {shape[3]}, at most {WIDEST_POOLED} is admitted; pool narrower maps"
    if max(window) > side or math.prod(window) > area:
        yield f"has a window of {list(window)}, fast up to {side} a side and {area} in all; pool in steps"
    if max(attributes.get("strides", (1,))) > LARGEST_STRIDE:
        yield f"has strides {list(attributes['strides'])}, fast up to {LARGEST_STRIDE}; pool in steps"
    if any(dilation != 1 for dilation in attributes.get("dilations", ())):
        yield f"has dilations {list(attributes['dilations'])}, which ATC does not take; leave them out"
    if attributes.get("storage_order", 0):
        yield "has a storage_order, which ATC ignores; leave it out"
    automatic = attributes.get("auto_pad", b"NOTSET")
    if automatic != b"NOTSET" and any(attributes.get("pads", ())):
        yield "has both auto_pad and pads, which exclude each other in ATC; leave auto_pad out"
    if automatic == b"VALID" and attributes.get("ceil_mode", 0):
        yield "has ceil_mode with auto_pad VALID, which ATC does not take; leave auto_pad out"


def _value(attribute) -> Any:
    return list(attribute.ints) or attribute.s or attribute.i
