"""Define the base class of all runtimes for models of static shape."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.runtime.performance_files import latency_figures


class StaticRuntime(ABC):
    """Run whole batches: float32 [n, s, h, w] of exactly `input_shape` to float32 [n, 62, d].

    A runtime is a context manager, which releases its resources at the end of the block.

    Attributes:
        device_ms: duration in ms of the model alone, for each call of `run`. If the runtime cannot measure this
            duration, `device_ms` is None, and the duration of `run` is used instead.
    """

    name: str
    path: Path
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    device_ms: list[float] | None = None

    @property
    def batch_size(self) -> int:
        return self.input_shape[0]

    @property
    def frame_num(self) -> int:
        return self.input_shape[1]

    def run(self, image_seq: np.ndarray) -> np.ndarray:
        """Run one batch: float32 of exactly `input_shape` to float32 of `output_shape`."""
        if image_seq.shape != self.input_shape:
            raise ValueError(f"expected input of shape {self.input_shape} for {self.path}, got {image_seq.shape}")
        return self._run(image_seq)

    @abstractmethod
    def _run(self, image_seq: np.ndarray) -> np.ndarray:
        """Run one batch, whose shape `run` has checked."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return the entries of the summary that describe the runtime and the model."""

    def warm_up(self, batches: int) -> np.ndarray:
        """Run the given number of batches of zeros, and return one batch of zeros."""
        zeros = np.zeros(self.input_shape, np.float32)
        for _ in range(batches):
            self.run(zeros)
        return zeros

    def figures(self, milliseconds: Sequence[float]) -> dict[str, Any]:
        """Return the throughput and the latency of the model alone.

        Args:
            milliseconds: durations of the last calls of `run`. If `device_ms` is available, only their number is used.
        """
        if self.device_ms is not None:
            milliseconds = self.device_ms[-len(milliseconds) :]
        # The throughput includes the fillers of the last batch, because the model computes them too.
        throughput = len(milliseconds) * self.batch_size * 1000 / float(np.sum(milliseconds))
        return {"device_throughput": throughput, "latency_ms": latency_figures(milliseconds)}

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:  # noqa: B027, a subclass may have nothing to release
        """Release all resources."""
