"""Base class of the runtimes for models of static shape."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.runtime.performance_files import latency_figures


class StaticRuntime(ABC):
    """Run whole batches: float32 [n, s, h, w] of exactly `input_shape` to float32 [n, 62, d].

    A runtime is a context manager that releases its resources at the end.

    Attributes:
        device_ms: milliseconds of the model alone in each `run`, or None if the runtime cannot measure it; then
            the duration of `run` is used.
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
        """Run one batch of the right shape."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return the part of the summary that describes the runtime."""

    def warm_up(self, batches: int) -> np.ndarray:
        """Run batches of zeros, and return such a batch."""
        zeros = np.zeros(self.input_shape, np.float32)
        for _ in range(batches):
            self.run(zeros)
        return zeros

    def figures(self, milliseconds: Sequence[float]) -> dict[str, Any]:
        """Return throughput and latency of the model alone, from the duration of each of the last calls of `run`."""
        if self.device_ms is not None:
            milliseconds = self.device_ms[-len(milliseconds) :]
        # The model runs the fillers of the last batch, too.
        throughput = len(milliseconds) * self.batch_size * 1000 / float(np.sum(milliseconds))
        return {"device_throughput": throughput, "latency_ms": latency_figures(milliseconds)}

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:  # noqa: B027, a subclass may have nothing to release
        """Release all resources."""
