"""The end of a test: evaluate, print the tables, write them, and, where one is wanted, the page with figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.common.files import write_json
from model.common.provenance import provenance
from model.data.index import SequenceIndex
from model.evaluation.cross_view import evaluate_index
from model.evaluation.distance_record import DistanceRecord
from model.report.charts import check_matplotlib
from model.report.material import Material
from model.report.page import write_report
from model.report.tables import result_text, write_results
from model.report.training_curves import log_of_checkpoint, read_log
from model.runtime.performance_files import read_figures


class Embedded(NamedTuple):
    """Embeddings [N, 62, d], whose they are, and what gives the silhouettes, uint8 [frames, 64, 44], of one of them."""

    index: SequenceIndex
    embeddings: Tensor | np.ndarray
    frames_of: Callable[[int], np.ndarray]


@dataclass(frozen=True)
class ReportOptions:
    """page: where to (None: beside the tables). throughput: files of what the deployed model was measured at.
    train_log: a train.jsonl (None: that of the run which wrote the checkpoint, where it is)."""

    page: Path | None = None
    throughput: Sequence[Path] = ()
    train_log: Path | None = None

    def check(self) -> None:
        """What is missing should be told before the work: raises UserError."""
        check_matplotlib()
        for path in self.throughput:
            read_figures(path)
        if self.train_log is not None:
            read_log(self.train_log)


def publish(
    embedded: Embedded, dataset: str, model: Path, details: dict[str, Any], folder: Path, name: str = "", *,
    json: Path | None = None, report: ReportOptions | None = None, device: torch.device | None = None,
    quiet: bool = True,
) -> None:  # fmt: skip
    """Print the tables and write them as `folder`/`name`.*, and to `json`; `report` asks for the page with figures.

    model: what made the embeddings; it gives the name where there is none. details: what is to be known of the making.
    """
    index, embeddings = embedded.index, torch.as_tensor(embedded.embeddings)
    record = None if report is None else DistanceRecord()
    result = evaluate_index(embeddings, index, dataset, device, quiet, record)
    details = {**details, "model": str(model), **provenance()}
    print(result_text(result))
    name = name or model.name.removesuffix("-encoder.ptm").removesuffix(".onnx").removesuffix(".om")
    written = write_results(result, folder, name, details)
    if json is not None:
        write_json(json, {**result.to_json(), "details": details})
    page, figures = written["html"], ""
    if report is not None:
        page = report.page or page
        training = report.train_log or log_of_checkpoint(model)
        throughput = [read_figures(path) for path in report.throughput]
        material = Material(result, details, record, index, embeddings, embedded.frames_of, training, throughput)
        figures = f"figures: {write_report(material, page, quiet)}/*.png\n"
    others = ", ".join(path.suffix for kind, path in written.items() if kind != "html")
    print(f"{figures}report: {page} (the same figures beside {written['json'].with_suffix('')} as {others})")
