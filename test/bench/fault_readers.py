"""List all functions of the chain that read files, and their shares of the fuzz inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fault_readers_data as data
import fault_readers_deployed as deployed
import fault_readers_training as training
import fault_readers_words as words
from fault_mutations import Target

from model.common.errors import UserError


@dataclass(frozen=True)
class Reader:
    """A function that reads files.

    share: relative number of inputs.
    make: prepares valid files in a folder and returns the fuzz target.
    allowed: errors with which the reader may reject an input.
    """

    name: str
    share: int
    make: Callable[[Path], Target]
    allowed: tuple[type[Exception], ...] = (UserError,)


READERS = [
    Reader("images (PNG, BMP, JPEG, decoded and aligned)", 260, data.images),
    Reader("image files (pipes, links, holes, truncated)", 40, data.image_files),
    Reader("trees (depth, loops, names, kinds)", 20, data.trees),
    Reader("pickles of arrays", 130, data.pickles, (ValueError,)),
    Reader("OpenGait sequences", 30, data.sequences),
    Reader("partitions, JSON", 60, data.partitions),
    Reader("partitions, .npy of the original tool", 50, data.original_partitions),
    Reader("configs, as dicts", 60, training.configs),
    Reader("configs, as files", 20, training.config_files),
    Reader(".info lists", 50, deployed.lists),
    Reader("manifests", 35, deployed.manifests),
    Reader("result files", 20, deployed.results),
    Reader("result metadata", 20, deployed.records),
    Reader("performance texts", 60, words.performance_texts),
    Reader("summary.json", 40, words.summaries),
    Reader("rank-1 of test.py --json", 15, words.accuracies),
    Reader("results to compare", 10, words.compared_results),
    Reader("training logs, for the report", 15, words.reported_logs),
    Reader("ONNX files, linted", 10, deployed.onnx_files),
    Reader("ONNX files, deployed", 4, deployed.deployed_onnx_files),
    Reader("checkpoints: encoder", 25, training.checkpoints),
    Reader("checkpoints of OpenGait", 5, training.opengait_checkpoints),
    Reader("checkpoints: optimizer", 10, training.optimizers),
    Reader("checkpoints: metadata", 15, training.checkpoint_records),
    Reader("stores: index and source", 20, data.stores),
    Reader("pretreatment metadata", 20, data.pretreatment_records),
    Reader("training logs", 10, training.training_logs),
    Reader("lock files", 10, training.lock_files),
    Reader("output of npu-smi and atc", 15, words.tools_words),
]
