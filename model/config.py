"""The keys of a configuration: their types, defaults and meanings, and the rules that their values must meet."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from model.common.files import is_plain_name
from model.common.rules import AT_LEAST_0, POSITIVE, Rule, between, integers, is_line, one_of, text
from model.evaluation.protocols import Protocol, protocol_of


class RestoreFrom(IntEnum):
    """Values of `restore_iter` that are not the iteration of a checkpoint."""

    START = 0
    LAST = -1
    LAST_OR_START = -2  # `--restore_iter auto`


def _is_loss_scale(value: str) -> bool:
    try:
        return value == "dynamic" or 0 < float(value) < math.inf
    except ValueError:
        return False


# Rules of keys. A key without its own rule holds one line of text, a number above 0, or a bool, like its default.
LINE = Rule(object, (is_line, "one line of text"))
FILE_NAME = text((is_plain_name, "a file name without / that does not start with a dot"))
TAKES = Rule(tuple, (lambda takes: all(is_line(t) and t for t in takes), "a list of take names"))
BATCH_SIZE = Rule(tuple, (integers(2, 2, 1 << 16), "(P, K), integers with P at least 2 and K at least 1"))
CHANNELS = Rule(tuple, (integers(3, 1, 1 << 12), "three integers from 1 to 4,096, such as [64, 128, 256]"))
COUNT, SIZE, THREADS = between(0), between(1, 1 << 16), between(0, 1 << 10)
LOSS_SCALE = text((_is_loss_scale, "'dynamic' or a number above 0"))
DEVICE_KEYS = ("CUDA_VISIBLE_DEVICES", "ASCEND_VISIBLE_DEVICES")
PROFILING_KINDS = "CANN, GE, True, False or None"
PROFILING = {"cann": True, "ge": True, "true": True, "": False, "none": False, "false": False}
IS_PROFILING = (lambda v: isinstance(v, str | bool | None) and str(v).lower() in PROFILING, PROFILING_KINDS)


def key(default: Any, meaning: str, rule: Rule | None = None) -> Any:
    """Return the dataclass field of a key. `meaning` describes the key, also in the help of its option."""
    rule = rule or {int: between(1), float: POSITIVE, bool: Rule(bool), str: text()}[type(default)]
    return field(default=default, metadata={"meaning": meaning, "rule": rule})


# fmt: off
@dataclass(frozen=True)
class DataConfig:
    """The key `data` of a configuration."""

    dataset_path: str = key("", "aligned tree, OpenGait pickle tree or store", LINE)
    pickle: str = key("", "pickle to read if the folder of a view contains several pickles: its name without the view, "
                      "such as aligned-sils, or a pattern; empty: <view>.pkl, else the only pickle with aligned and "
                      "sil in its name, else the only pickle that contains silhouettes")
    resolution: str = key("64", "height of the silhouettes; no other value is supported", one_of("64"))
    dataset: str = key("CASIA-B", "data set, which selects the protocol and is a part of checkpoint names: CASIA-B, "
                       "OUMVLP, CASIA-A, Synthetic, or another name", FILE_NAME)
    gallery: tuple[str, ...] = key((), "enrolled takes, as names or patterns such as walk1 or 'nm-0[1-4]'; empty: the "
                                   "gallery takes of the data set's protocol", TAKES)
    probe: tuple[str, ...] = key((), "takes to identify: TAKE such as walk2, or CONDITION=TAKES such as "
                                 "NM=nm-05,nm-06; the condition of a bare TAKE is its name up to the first hyphen, in "
                                 "capitals; empty: the probe takes of the data set's protocol", TAKES)
    pid_num: int = key(73, "number of training subjects if no partition file is given", COUNT)
    pid_shuffle: bool = key(False, "shuffle the subjects with a fixed seed before the split")

    @property
    def protocol(self) -> Protocol:
        """The evaluation protocol. Raises UsageError if there is none for the data set and the takes are not given."""
        return protocol_of(self.dataset, self.gallery, self.probe)


@dataclass(frozen=True)
class ModelConfig:
    """The key `model` of a configuration: network, training and precision."""

    hidden_dim: int = key(256, "length of the embedding vector of each strip", SIZE)
    channels: tuple[int, int, int] = key((32, 64, 128), "channels of set layers 1 and 2, of set layers 3 and 4, and of "
                                         "set layers 5 and 6", CHANNELS)
    lr: float = key(1e-4, "learning rate of Adam")
    schedule: str = key("constant", "learning rate over the run: constant, or cosine (decreasing to 0 along half a "
                        "cosine)", one_of("constant", "cosine"))
    cross_entropy: float = key(0.0, "weight of the cross-entropy loss of a classifier of the training subjects; the "
                               "classifier is not part of the encoder", AT_LEAST_0)
    unit_strips: bool = key(False, "scale the embedding vector of each strip to length 1, so that distances depend "
                            "only on cosines; not part of the published recipe")
    hard_or_full_trip: str = key("full", "batch-all (full) or batch-hard (hard) triplet loss", one_of("full", "hard"))
    batch_size: tuple[int, int] = key((8, 16), "P subjects and K sequences per subject, per process", BATCH_SIZE)
    restore_iter: int = key(0, "iteration of the checkpoint to resume from; 0: start a new run; -1: the last "
                            "checkpoint; -2 or auto: the last checkpoint, or a new run if there is none",
                            between(min(RestoreFrom)))
    total_iter: int = key(80000, "total number of iterations")
    margin: float = key(0.2, "margin of the triplet loss")
    num_workers: int = key(3, "threads that prefetch batches", THREADS)
    frame_num: int = key(30, "frames drawn from each sequence", SIZE)
    sampler: str = key("random", "choice of the sequences of a batch: random, or views (the same few views for all "
                       "subjects)", one_of("random", "views"))
    augment: bool = key(False, "randomly flip, rotate and stretch training sequences, and erase a part of them; not "
                        "part of the published recipe")
    model_name: str = key("GaitSet", "name of the network in checkpoint names", FILE_NAME)
    save_iter: int = key(1000, "iterations between checkpoints")
    log_iter: int = key(100, "iterations between log lines")
    eval_iter: int = key(0, "iterations between evaluations; 0: no evaluation", COUNT)
    keep: int = key(0, "number of checkpoints to keep in addition to the last and the best checkpoint", COUNT)
    amp: str = key("off", "package for mixed precision; off: float32", one_of("off", "torch", "apex"))
    amp_dtype: str = key("", "data type of --amp torch; empty: bf16 on cpu, otherwise fp16", one_of("", "fp16", "bf16"))
    loss_scale: str = key("dynamic", "loss scale of mixed precision: dynamic or a number (NPU port: 32)", LOSS_SCALE)
    kernels: str = key("auto", "auto: Triton kernels on a GPU that supports them, and computation in chunks of frames "
                       "on a CPU; plain: only torch's kernels", one_of("auto", "plain"))
    seed: int = key(0, "random seed of the initial weights and batches", COUNT)
# fmt: on


@dataclass(frozen=True)
class Config:
    """A checked configuration. `visible_devices` maps keys such as CUDA_VISIBLE_DEVICES to lists of device numbers."""

    work_path: Path = Path("work")
    visible_devices: Mapping[str, str] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    device_num: int = 0  # number of processes that train.py starts; 0 means one process
    profiling: bool = False  # trace the iterations from start_step to stop_step, where -1 means the default of train.py
    start_step: int = -1
    stop_step: int = -1

    @property
    def experiment(self) -> str:
        """The name of the experiment, with which the names of its checkpoints start, as in the original code."""
        d, m = self.data, self.model
        p, k = m.batch_size
        parts = (m.model_name, d.dataset, d.pid_num, d.pid_shuffle, m.hidden_dim, m.margin, p * k)
        return "_".join(map(str, (*parts, m.hard_or_full_trip, m.frame_num)))

    @property
    def checkpoint_folder(self) -> Path:
        """Folder of the checkpoints of this network."""
        return self.work_path / "checkpoint" / self.model.model_name
