"""What a page is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from model.data.index import SequenceIndex
from model.evaluation.distance_record import DistanceRecord
from model.evaluation.result import CrossViewResult
from model.report.charts import Chart
from model.runtime.performance_files import Figures


@dataclass
class Material:
    """Only `result` and `details` are needed: the rest adds sections. `charts` collects what the page shows.

    details: how the result was made, plain JSON values. embeddings [N, ...] and index: of the sequences whose distances
    `record` holds; frames_of(row): all silhouettes of one of them, uint8 [frames, 64, 44].
    training: a train.jsonl. throughput: what the deployed model was measured at.
    """

    result: CrossViewResult
    details: Mapping[str, Any]
    record: DistanceRecord | None = None
    index: SequenceIndex | None = None
    embeddings: Tensor | None = None
    frames_of: Callable[[int], np.ndarray] | None = None
    training: Path | None = None
    throughput: Sequence[Figures] = ()
    drawn: bool = False  # whether matplotlib draws
    charts: list[Chart] = field(default_factory=list)

    def show(self, chart: Chart) -> str:
        """The chart as HTML; it is kept for its PNG too."""
        self.charts.append(chart)
        return chart.figure()

    @property
    def kind(self) -> str:
        """Which rank-1 counts: without identical views where there are others."""
        several = any(not np.isnan(value) for value in self.result.excluding().values())
        return "excluding" if several else "including"

    def rank1(self, kind: str | None = None) -> dict[str, float]:
        return getattr(self.result, kind or self.kind)()
