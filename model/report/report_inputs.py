"""Hold the inputs of a report: the result, and optional data that add sections to the page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from model.data.index import SequenceIndex
from model.evaluation.distance_statistics import DistanceStatistics
from model.evaluation.mistakes import Confusion, LookUps, confusions, look_ups
from model.evaluation.result import CrossViewResult
from model.runtime.performance_files import Figures


class EmbeddedSequences(NamedTuple):
    """Embeddings [N, ...] with their labels; `frames_of(row)` returns the silhouettes, uint8 [frames, 64, 44]."""

    index: SequenceIndex
    embeddings: Tensor
    frames_of: Callable[[int], np.ndarray]


@dataclass(frozen=True)
class ReportInputs:
    """Inputs of a report. Only `result` and `details` are required. The other fields add sections or figures.

    Attributes:
        result: the evaluation.
        details: how the result was made; plain JSON values.
        distances: nearest sequences and histograms of distances, collected by the evaluation.
        embedded: the evaluated sequences; given if and only if `distances` is given.
        training_log: a train.jsonl file.
        throughput: measurements of the deployed model.
        with_figures: draw figures, which needs matplotlib, and compute confidence intervals.
    """

    result: CrossViewResult
    details: Mapping[str, Any]
    distances: DistanceStatistics | None = None
    embedded: EmbeddedSequences | None = None
    training_log: Path | None = None
    throughput: Sequence[Figures] = ()
    with_figures: bool = False

    @property
    def kind(self) -> str:
        """The kind of rank-1 to show first: "excluding" identical views, or "including" them for a single view."""
        single_view = all(np.isnan(value) for value in self.result.excluding().values())
        return "including" if single_view else "excluding"

    def rank1(self, kind: str | None = None) -> dict[str, float]:
        """Return the rank-1 per condition in percent; `kind` is "including", "excluding" or None for `self.kind`."""
        return getattr(self.result, kind or self.kind)()

    @cached_property
    def look_ups(self) -> LookUps:
        """Every look-up of a probe in the gallery of one view. Requires `distances`."""
        return look_ups(self.distances)

    @cached_property
    def confusions(self) -> list[Confusion]:
        """Pairs of subjects that were confused, the most frequent pair first. Requires `distances` and `embedded`."""
        return confusions(self.distances, self.look_ups, self.embedded.index.subject)
