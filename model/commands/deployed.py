"""The two steps of test.py for a deployed model: write input files for the model, and evaluate its result files."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from model.common.errors import UsageError
from model.common.geometry import STRIPS
from model.common.json_files import write_json
from model.config import Config
from model.export.input_files import FixedLength, write_input_files
from model.export.manifest import manifest_path, read_manifest
from model.initialization import open_dataset
from model.report.publish import Output, publish
from model.report.report_inputs import EmbeddedSequences
from model.runtime.result_files import read_results


def pre_process(options: Namespace, config: Config, folder: Path) -> None:
    """Write the test sequences as input files of fixed length, a list of the files, and a manifest."""
    data = open_dataset(config, options.partition, skip_bad=options.skip_bad)
    info = folder.with_name(folder.name + ".info")
    length = FixedLength(options.bin_frames, options.padding, options.truncate)
    partition = {"TEST_SET": list(data.partition.test)}
    manifest = write_input_files(
        data.test, None, folder, info, length, dataset=config.data.dataset, partition=partition, quiet=options.quiet
    )
    if options.json is not None:
        write_json(options.json, {"bins": len(manifest.entries), "list": str(info), **manifest.settings})
    print(f"wrote {len(manifest.entries)} input files to {folder}, the list {info} and the manifest {manifest.path}")
    print("next: run the model over the list (python -m model.runtime), then test.py --post_process")


def post_process(bins: Path, results: Path, config: Config, output: Output) -> None:
    """Evaluate the result files of a deployed model. The manifest in `bins` names the sequence of each result file."""
    manifest = read_manifest(manifest_path(bins))
    data, dataset = config.data, manifest.settings["dataset"]
    if dataset and dataset != data.dataset:
        raise UsageError(
            f"{manifest.path}: the input files are of {dataset}, but the data set is {data.dataset}; pass --dataset "
            f"{dataset}"
        )
    embeddings, index = read_results(results, manifest, (STRIPS, config.model.hidden_dim), output.quiet)
    embedded = EmbeddedSequences(index, embeddings, manifest.sequence)
    details = {"padding": manifest.settings["padding"], "data": vars(data)}
    publish(embedded, data.protocol, results, details, replace(output, name=output.name or f"{data.dataset}-deployed"))
