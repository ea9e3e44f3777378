"""Build what the commands work with from a configuration: data, network, trainer."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.checkpoints.bundled import bundled_checkpoint
from model.checkpoints.checkpoint import CheckpointFiles
from model.checkpoints.loading import Encoder, read_encoder
from model.checkpoints.retention import RunCheckpoints
from model.common.errors import UsageError, UserError
from model.common.lock import locked
from model.config import Config, ModelConfig
from model.data.batches import BatchLoader, fits_device
from model.data.index import SequenceIndex
from model.data.partition import (
    Partition,
    check_partition_file,
    make_partition,
    partition_path,
    resolve_partition,
)
from model.data.sampler import PKSampler
from model.data.store import SilhouetteStore, open_store, ready_store
from model.devices import distributed
from model.devices.device import describe, kind_of, supports_graphs, to_device, warn_of_rounding
from model.devices.world import World
from model.embeddings.extract import extract
from model.evaluation.cross_view import evaluate_index, notes_on_subjects
from model.evaluation.protocols import plan_of
from model.evaluation.result import CrossViewResult
from model.network import GaitSet
from model.network.compute_mode import ComputeMode, make_compute_mode
from model.training.cuda_graph_step import CudaGraphStep
from model.training.log_book import LogBook, LossMeter
from model.training.optimizer import make_adam
from model.training.precision import make_precision
from model.training.profiling import Profiling
from model.training.progress import Progress
from model.training.resume import iteration_to_resume, require_same_start, resume, start_from
from model.training.state import TrainingState
from model.training.step import TrainingStep
from model.training.trainer import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """The store of all sequences, and its parts for training and testing."""

    store: SilhouetteStore
    partition: Partition

    @property
    def train(self) -> SilhouetteStore:
        return self._part(self.partition.train, "training")

    @property
    def test(self) -> SilhouetteStore:
        return self._part(self.partition.test, "test")

    def _part(self, subjects: tuple[str, ...], name: str) -> SilhouetteStore:
        index = self.store.index.of_subjects(subjects)
        if not len(index):
            raise UserError(
                f"{self.store.path}: no {name} sequences: the partition assigns {len(subjects)} of "
                f"{len(self.store.index.subjects)} subjects to {name}; see pid_num and --partition"
            )
        return SilhouetteStore(self.store.path, index, self.store.frames)


def open_dataset(
    config: Config,
    partition: str | None = None,
    *,
    cache: bool = False,
    workers: int | None = None,
    skip_bad: bool = False,
    quiet: bool = False,
) -> Data:
    """Open the data of a configuration. Rank 0 builds the store and the partition if they are missing.

    Only rank 0, because each process would build the same files, and would find them changed by the others.

    Args:
        partition: file of the partition, or `all`; None for the one of the configuration.
        cache: read all frames into memory.
        workers: processes that build the store.
        skip_bad: leave unreadable images out of the store instead of raising UserError.
    """
    if not config.data.dataset_path:
        raise UserError("no data: give --data_path, or dataset_path in the config")

    def prepare() -> tuple[Path, Partition]:
        check_partition_file(partition)  # before the store is built, which can take minutes
        path = ready_store(
            config.data.dataset_path, config.work_path / "store", workers=workers, skip_bad=skip_bad, quiet=quiet,
            pickle=config.data.pickle,
        )  # fmt: skip
        return path, _partition_of(config, partition, open_store(path).index)

    path, chosen = distributed.run_on_rank0(prepare)
    return Data(open_store(path, cache), chosen)


def _partition_of(config: Config, given: str | None, index: SequenceIndex) -> Partition:
    d = config.data
    default = partition_path(config.work_path, d.dataset, d.pid_num, d.pid_shuffle)
    return resolve_partition(
        given, default, index.subjects, lambda: make_partition(index.subjects, d.dataset, d.pid_num, d.pid_shuffle)
    )


def checkpoint_files(config: Config) -> CheckpointFiles:
    return CheckpointFiles(config.checkpoint_folder, config.experiment)


@contextmanager
def experiment_lock(config: Config) -> Iterator[None]:
    """Lock the checkpoints and the log of an experiment, and delete the partial checkpoints of killed runs."""
    lock = config.checkpoint_folder / f".{config.experiment}.lock"
    with locked(lock, config.checkpoint_folder / config.experiment):
        checkpoint_files(config).remove_partial()
        yield


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with trained weights.

    Attributes:
        checkpoint: the file of the weights.
        metadata: how the checkpoint was made; empty if it does not say so.
    """

    network: GaitSet
    checkpoint: Path
    metadata: Mapping[str, Any] = field(default_factory=dict)


def load_network(config: Config, checkpoint: Path | None, iteration: int | None, device: torch.device) -> LoadedNetwork:
    """Load the network with the weights of `checkpoint`, or of an iteration of the experiment, for inference.

    The weights determine the sizes of the network. The sizes in the configuration are ignored.

    Args:
        iteration: used if `checkpoint` is None. None or -1 for total_iter of the configuration; if there is no such
            checkpoint, for the last one; if nothing has been trained, for the encoder that is part of the project.
    """
    if checkpoint is None:
        checkpoint = _find_checkpoint(config, iteration)
        log.info("checkpoint: %s", checkpoint)
    encoder = read_encoder(checkpoint)
    hidden_dim, channels = encoder.sizes
    settings = config.model
    mode = ComputeMode()
    if settings.amp == "torch":
        mode = make_compute_mode(settings.amp, settings.amp_dtype, settings.kernels, device, channels)
    else:
        warn_of_rounding(device)
    network = GaitSet(hidden_dim, mode.amp_dtype, mode.fused, channels)
    network.load_state_dict(encoder.weights)
    return LoadedNetwork(to_device(network, device).eval(), checkpoint, encoder.metadata)


def _find_checkpoint(config: Config, iteration: int | None) -> Path:
    files = checkpoint_files(config)
    if iteration not in (None, -1):
        return files.part(iteration, "encoder")
    iterations = files.iterations()
    if iterations:
        total = config.model.total_iter
        return files.part(total if total in iterations else files.last_complete() or iterations[-1], "encoder")
    bundled = bundled_checkpoint(files.folder, config.model.hidden_dim, config.model.channels)
    if bundled is None:
        raise UserError(f"{files.folder}: no checkpoint of {files.experiment}; train first or give --checkpoint")
    log.warning(
        "%s holds no checkpoint: using %s, which is part of the project and was trained on synthetic walkers only",
        files.folder, bundled,
    )  # fmt: skip
    return bundled


def selection_score(result: CrossViewResult) -> float:
    """Return one number to compare checkpoints by: rank-1 excluding identical views, mean over conditions.

    Data with a single view have only identical views; then these count.
    """
    figures = [value for value in result.excluding().values() if not math.isnan(value)]
    return statistics.mean(figures or result.including().values())


def build_trainer(
    config: Config, data: Data, device: torch.device, world: World, *, initial: Encoder | None = None,
    resident: bool = True, quiet: bool = False, writing: bool = True, profiling: Profiling | None = None,
) -> Trainer:  # fmt: skip
    """Build the trainer: first the state and the step, then resume the state, then attach what depends on it.

    Args:
        initial: initial weights of a new run; None for random ones. A resumed run must have started from the same.
        resident: keep the frames on the device if they fit.
        writing: write checkpoints and the log.
        profiling: traces some of the iterations.
    """
    settings = config.model
    mode = make_compute_mode(settings.amp, settings.amp_dtype, settings.kernels, device, settings.channels)
    state, model = _build_state(settings, mode, device)
    step = _build_step(settings, state, model, mode, device)
    train = data.train
    sampler = PKSampler(train.index, *settings.batch_size, settings.frame_num, settings.seed, world.rank)
    resident = resident and fits_device(train, device)
    loader = BatchLoader(
        train, sampler, device, settings.num_workers, resident, packed=mode.fused, augmented=settings.augment
    )
    evaluate = _build_evaluation(config, data, state.network, device, world, quiet) if settings.eval_iter else None

    checkpoints = RunCheckpoints(checkpoint_files(config), settings.keep)
    iteration = iteration_to_resume(checkpoints.files, settings.restore_iter)
    if iteration is not None:
        resume(state, checkpoints, iteration, settings, world)
        if initial is not None:
            require_same_start(checkpoints, initial)
        log.info("resuming from iteration %d", iteration)
    else:
        if initial is not None:
            start_from(state, checkpoints, initial)
        if writing:
            checkpoints.warn_of_others()
    evaluable = not writing or _is_evaluable(config, data)

    logbook = None
    if writing and world.is_main:
        folder = config.work_path / "log" / config.experiment
        logbook = LogBook(folder, state.iteration, scored=state.evaluated >= state.iteration)
    log.info(
        "training %s on %s: %d subjects, %d sequences, %d frames%s", config.experiment, describe(device),
        len(train.index.subjects), len(train.index), train.index.frames.sum(),
        ", resident on the device" if resident else "",
    )  # fmt: skip
    return Trainer(
        config=config, state=state, step=step, loader=loader, checkpoints=checkpoints, device=device, world=world,
        progress=Progress(state.meter, state.optimizer, settings, device, world, logbook),
        evaluate=evaluate, evaluable=evaluable, profiling=profiling, quiet=quiet, writing=writing,
    )  # fmt: skip


def _build_state(settings: ModelConfig, mode: ComputeMode, device: torch.device) -> tuple[TrainingState, nn.Module]:
    """Return the initial state, and the network that runs forward (apex may replace it)."""
    torch.manual_seed(settings.seed)  # the same initial weights in every process
    network = to_device(GaitSet(settings.hidden_dim, mode.amp_dtype, mode.fused, settings.channels), device)
    # apex needs an optimizer without support for it; the NPU port, too, gave it torch's Adam.
    reference_adam = settings.kernels == "plain" or mode.amp == "apex"
    optimizer = make_adam(network.parameters(), settings.lr, device, reference_adam)
    precision, model, optimizer = make_precision(mode, network, optimizer, device, settings.loss_scale)
    return TrainingState(network, optimizer, precision, LossMeter(device)), model


def _build_step(
    settings: ModelConfig, state: TrainingState, model: nn.Module, mode: ComputeMode, device: torch.device
) -> TrainingStep | CudaGraphStep:
    """Return the training iteration, as CUDA graphs if batches are packed and the device can capture them."""
    own_backend = distributed.backend() in (None, kind_of(device).backends[0])
    as_graph = mode.fused and supports_graphs(device) and own_backend
    if not as_graph:
        model = distributed.wrap(model, device)
    step = TrainingStep(
        model, state.optimizer, state.precision, state.meter, settings, reference_loss=not mode.triton
    )  # fmt: skip
    return CudaGraphStep(step, device) if as_graph else step


def _build_evaluation(
    config: Config, data: Data, network: GaitSet, device: torch.device, world: World, quiet: bool
) -> Callable[[], float | None]:
    """Return a function that computes the score of the network on the main process, and None on the others.

    Raises:
        UserError: if the test data cannot be evaluated: now rather than after an hour of training.
    """
    test, protocol = data.test, config.data.protocol
    for note in notes_on_subjects(test.index.subject, plan_of(test.index.seq_type, test.index.view, protocol)):
        log.warning("--eval_iter: %s", note)

    def score() -> float | None:
        embeddings = extract(network, test, device, world=world, quiet=quiet)
        if embeddings is None:
            return None
        return selection_score(evaluate_index(embeddings, test.index, protocol, device))

    return score


def _is_evaluable(config: Config, data: Data) -> bool:
    """Return whether test.py can evaluate the test subjects, and log a warning if their takes do not fit the protocol.

    Raises:
        UserError: the takes do not fit the protocol, and the user named them.
    """
    test = data.store.index.of_subjects(data.partition.test)
    try:
        if len(test):
            plan_of(test.seq_type, test.view, config.data.protocol)
    except UserError as error:
        if config.data.gallery or config.data.probe:
            raise
        if not isinstance(error, UsageError):  # train.py has warned of a data set without a protocol
            log.warning("test.py will not be able to evaluate this training: %s", error)
        return False
    return len(test) > 0
