"""Finish a test: evaluate the embeddings, print and write the tables, and write the report if it is requested."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model.checkpoints.metadata import ENCODER_SUFFIX
from model.common.json_files import write_json
from model.common.provenance import provenance
from model.evaluation.cross_view import evaluate_index
from model.evaluation.distance_statistics import DistanceStatistics
from model.evaluation.protocols import Protocol
from model.evaluation.streaming import Streaming
from model.report.charts import check_matplotlib
from model.report.page import write_report
from model.report.report_inputs import EmbeddedSequences, ReportInputs
from model.report.tables import result_text, write_results
from model.report.training_curves import log_of_checkpoint, read_log
from model.runtime.performance_files import read_figures


@dataclass(frozen=True)
class ReportOptions:
    """Options of the report with figures.

    Raises UserError if a package or a file is missing, so that the test fails before it computes the embeddings.

    Attributes:
        page: path of the page (None: next to the tables).
        throughput: files with measurements of the deployed model.
        train_log: a train.jsonl file (default: the log of the run that wrote the checkpoint, if it exists).
    """

    page: Path | None
    throughput: Sequence[Path]
    train_log: Path | None

    def __post_init__(self) -> None:
        check_matplotlib()
        for path in self.throughput:
            read_figures(path)
        if self.train_log is not None:
            read_log(self.train_log)


@dataclass(frozen=True)
class Output:
    """Files that a test writes.

    Attributes:
        folder: folder of the tables.
        name: stem of their file names (default: from the name of the model).
        json: path of an additional JSON file with the result.
        report: options of the report with figures. None: the report has no figures.
        quiet: show no progress bars.
    """

    folder: Path
    name: str = ""
    json: Path | None = None
    report: ReportOptions | None = None
    quiet: bool = True


def publish(
    embedded: EmbeddedSequences, protocol: Protocol, model: Path, details: dict[str, Any], output: Output,
    device: torch.device | None = None,
) -> None:  # fmt: skip
    """Evaluate embeddings, print the result, and write the files of `output`.

    Args:
        protocol: takes of the gallery and of the probes.
        model: checkpoint or deployed model that made the embeddings.
        details: how the embeddings were made; plain JSON values.
        device: device that computes the distances (default: the device of the embeddings).
    """
    report, quiet = output.report, output.quiet
    # Deployed models return numpy arrays.
    embedded = embedded._replace(embeddings=torch.as_tensor(embedded.embeddings))
    distances = None if report is None else DistanceStatistics()
    settings = Streaming(device, quiet=quiet, statistics=distances)
    result = evaluate_index(embedded.embeddings, embedded.index, protocol, settings)
    details = {**details, "model": str(model), **provenance()}
    print(result_text(result))
    name = output.name or model.name.removesuffix(ENCODER_SUFFIX).removesuffix(".onnx").removesuffix(".om")
    written = write_results(result, output.folder, name, details)
    if output.json is not None:
        write_json(output.json, {**result.to_json(), "details": details})
    page = written["html"]
    if report is not None:
        page = report.page or page
        training_log = report.train_log or log_of_checkpoint(model)
        throughput = [read_figures(path) for path in report.throughput]
        inputs = ReportInputs(result, details, distances, embedded, training_log, throughput)
        print(f"figures: {write_report(inputs, page, quiet)}/*.png")
    suffixes = ",".join(suffix for suffix in written if suffix != "html")
    print(f"report: {page}\ntables: {written['json'].with_suffix('')}.{{{suffixes}}}")
