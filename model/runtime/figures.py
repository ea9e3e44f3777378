"""Figures of one run of a deployed model, and helpers to read them from text and JSON."""

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

NUMBER = r"([-+]?[0-9]{1,30}(?:\.[0-9]{0,30})?(?:[eE][-+]?[0-9]{1,3})?)(?![0-9.])"
_MAX_LINE_LENGTH = 10_000


@dataclass(frozen=True)
class Figures:
    """Performance of one run. Values that the tool does not report are None.

    Attributes:
        end_to_end: throughput in sequences/s including reading and writing.
        device: throughput in sequences/s of the model alone on one chip.
        latency_ms: latency per batch on the device, with some of the keys mean, p50, p90 and p99.
        chip: name such as Ascend310P3, if known.
        problem: why the figures are missing.
        chips: number of chips whose throughput is added up in `device`.
    """

    runtime: str
    batch_size: int | None
    end_to_end: float | None
    device: float | None
    latency_ms: dict[str, float] = field(default_factory=dict)
    source: str = ""
    chip: str | None = None
    problem: str | None = None
    chips: int = 1


def latency_figures(milliseconds: Sequence[float]) -> dict[str, float]:
    values = np.asarray(milliseconds, float)
    p50, p90, p99 = np.percentile(values, (50, 90, 99)).tolist()
    return {"mean": float(values.mean()), "p50": p50, "p90": p90, "p99": p99}


def lines_of(text: str) -> list[str]:
    """Return the lines except very long ones, which would make the searches slow."""
    return [line for line in text.splitlines() if len(line) <= _MAX_LINE_LENGTH]


def positive_figure(value: Any, name: str) -> float:
    """Return the value. Raise ValueError with `name` if it is None or not a positive number."""
    if type(value) not in (int, float) or not 0 < value < 1e150:
        raise ValueError(f"{name} is {'missing' if value is None else reprlib.repr(value)}")
    return float(value)
