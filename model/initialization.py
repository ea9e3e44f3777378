"""Open the data, the checkpoint and the network that a configuration describes."""

import logging
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from model.checkpoints.bundled import bundled_checkpoint
from model.checkpoints.checkpoint import CheckpointFiles
from model.checkpoints.loading import read_encoder
from model.checkpoints.metadata import names_of_encoders
from model.common.errors import UserError
from model.common.lock import locked
from model.config import Config
from model.data.partition import Data, check_partition_file, make_partition, partition_path, resolve_partition
from model.data.store import SilhouetteStore, open_store, ready_store
from model.devices import distributed
from model.devices.device import to_device, warn_of_rounding
from model.devices.opening import open_device
from model.embeddings.extract import stream
from model.network import GaitSet
from model.network.compute_mode import ComputeMode, make_compute_mode
from model.settings.config_file import load_config, overrides_of
from model.settings.config_options import check_precision_options

log = logging.getLogger(__name__)


def open_dataset(
    config: Config, partition: str | None = None, *, cache: bool | None = None, skip_bad: bool = False
) -> Data:
    """Open the data of a configuration. Rank 0 builds the store and the partition if they are missing.

    The other ranks must not build these files, because they would overwrite the files of rank 0 while it uses them.

    Args:
        partition: file of the partition, or `all`; None selects the partition that the configuration describes.
        cache: True reads all frames into memory; False never keeps all frames on the device, see `Data`.
        skip_bad: leave unreadable images out of the store instead of raising UserError.
    """
    if not config.data.dataset_path:
        raise UserError("the configuration names no data; add --data_path, or set dataset_path in the config")

    def ready() -> Path:
        check_partition_file(partition)  # before the store is built, which can take minutes
        return ready_store(config.data.dataset_path, config.work_path / "store", config.data.pickle, skip_bad)

    store = open_store(distributed.run_on_rank0(ready), bool(cache))
    subjects, split = store.index.subjects, (config.data.dataset, config.data.pid_num, config.data.pid_shuffle)
    default, made = partition_path(config.work_path, *split), make_partition(subjects, *split)
    resolved = distributed.run_on_rank0(lambda: resolve_partition(partition, default, subjects, made))
    return Data(store, resolved, resident=cache is not False)


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with trained weights.

    Attributes:
        checkpoint: the file of the weights.
        metadata: how the checkpoint was made; empty if the checkpoint has no metadata.
    """

    network: GaitSet
    checkpoint: Path
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Embedder(NamedTuple):
    """A network and the sequences that it embeds.

    `batches` yields consecutive positions [b] in the index of `store` and embeddings, float32 [b, 62, d] on the host.
    """

    config: Config
    device: torch.device
    loaded: LoadedNetwork
    store: SilhouetteStore
    batches: Iterator[tuple[np.ndarray, np.ndarray]]


def open_embedder(options: Namespace) -> Embedder:
    """Open the network and the data that the options of a command describe. Without --part, embed all subjects."""
    config = load_config(options.config, overrides_of(options))
    check_precision_options(options, config.model.amp)
    device = open_device(options.device, config.visible_devices, jit_compile=not getattr(options, "rt2", False))
    loaded = load_network(config, options.checkpoint, getattr(options, "iter", None), device)
    part = getattr(options, "part", "all")
    partition = "all" if part == "all" else options.partition
    data = open_dataset(config, partition, cache=options.cache, skip_bad=options.skip_bad)
    store = data.train if part == "train" else data.test
    batches = stream(loaded.network, store, device, options.batch_size)
    on_host = ((positions, embeddings.float().cpu().numpy()) for positions, embeddings in batches)
    return Embedder(config, device, loaded, store, on_host)


@contextmanager
def experiment_lock(config: Config) -> Iterator[None]:
    """Lock the checkpoints and the log of an experiment, and delete the partial checkpoints of killed runs."""
    files = CheckpointFiles(config.checkpoint_folder, config.experiment)
    with locked(files.folder / f".{files.experiment}.lock", files.folder / files.experiment):
        files.remove_partial()
        yield


def load_network(config: Config, checkpoint: Path | None, iteration: int | None, device: torch.device) -> LoadedNetwork:
    """Load a trained network for inference, from `checkpoint` or from the checkpoint of an iteration.

    The weights determine the sizes of the network. The sizes in the configuration are ignored.

    Args:
        iteration: iteration of the experiment in the configuration, used if `checkpoint` is None. None and -1 select
            total_iter of the configuration. If it has no checkpoint, the last checkpoint is loaded. If the experiment
            has no checkpoints, the encoder that is part of the project is loaded, with a warning.
    """
    if checkpoint is None:
        checkpoint = _find_checkpoint(config, iteration)
        log.info("checkpoint: %s", checkpoint)
    encoder = read_encoder(checkpoint)
    hidden_dim, channels, unit_strips = encoder.sizes
    settings = config.model
    mode = ComputeMode()
    if settings.amp == "torch":
        mode = make_compute_mode(settings.amp, settings.amp_dtype, settings.kernels, device, channels)
    else:
        warn_of_rounding(device)
    network = GaitSet(hidden_dim, mode.amp_dtype, mode.fused, channels, unit_strips)
    network.load_state_dict(encoder.weights)
    return LoadedNetwork(to_device(network, device).eval(), checkpoint, encoder.metadata)


def _find_checkpoint(config: Config, iteration: int | None) -> Path:
    files = CheckpointFiles(config.checkpoint_folder, config.experiment)
    if iteration not in (None, -1):
        return files.part(iteration, "encoder")
    iterations = files.iterations()
    if iterations:
        total = config.model.total_iter
        return files.part(total if total in iterations else files.last_complete() or iterations[-1], "encoder")
    bundled = bundled_checkpoint(files.folder, config.model.hidden_dim, config.model.channels)
    if bundled is None:
        raise UserError(
            f"{files.folder}: no checkpoint of {files.experiment}, the experiment of the configuration; train it, or "
            f"give an encoder with --checkpoint. The folder holds {names_of_encoders(files.folder)}"
        )
    log.warning(
        "%s holds no checkpoint: using %s, which is part of the project and was trained on synthetic walkers only; "
        "give your own encoder with --checkpoint",
        files.folder, bundled,
    )  # fmt: skip
    return bundled
