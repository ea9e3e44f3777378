"""Builds what the commands work with from a configuration; below this, nothing sees a configuration but the trainer."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from model.checkpoints.bundled import stands_in
from model.checkpoints.checkpoint import CheckpointFiles, load_encoder
from model.checkpoints.retention import RunCheckpoints, remove_orphans
from model.common.errors import UserError
from model.common.lock import locked
from model.config import Config, ModelConfig
from model.data.batches import BatchLoader, fits_device
from model.data.index import SequenceIndex
from model.data.partition import Partition, make_partition, partition_path, resolve_partition
from model.data.sampler import PKSampler
from model.data.store import SilhouetteStore, open_store, ready_store
from model.devices import distributed, triton_support
from model.devices.device import describe, kind_of, precision_of, supports_graphs, to_device
from model.embeddings.extract import extract
from model.evaluation.cross_view import evaluate_index
from model.evaluation.protocols import plan_of, protocol_of
from model.evaluation.result import CrossViewResult
from model.network import GaitSet
from model.training.log_book import LogBook
from model.training.optimizer import make_adam
from model.training.precision import make_precision
from model.training.resume import resume
from model.training.trainer import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """The store of all sequences, and the parts of it that train and test."""

    store: SilhouetteStore
    partition: Partition

    @property
    def train(self) -> SilhouetteStore:
        return self._part(self.partition.train, "training")

    @property
    def test(self) -> SilhouetteStore:
        return self._part(self.partition.test, "test")

    def _part(self, subjects: tuple[str, ...], what: str) -> SilhouetteStore:
        index = self.store.index.of_subjects(subjects)
        if not len(index):
            raise UserError(
                f"{self.store.path}: no {what} sequences: the partition gives {len(subjects)} of "
                f"{len(self.store.index.subjects)} subjects to {what}; see pid_num and --partition"
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
    """The data of the configuration; the first process builds the store and the partition when they are missing.

    It alone: others would find a tree that changes meanwhile changed again, and each of them build the same files.
    """
    if not config.data.dataset_path:
        raise UserError("no data: give --data_path, or dataset_path in the config")

    def prepared() -> tuple[Path, Partition]:
        path = ready_store(
            config.data.dataset_path, config.work_path / "store", workers=workers, skip_bad=skip_bad, quiet=quiet
        )
        return path, _partition_of(config, partition, open_store(path).index)

    path, chosen = distributed.run_on_rank0(prepared)
    return Data(open_store(path, cache), chosen)


def _partition_of(config: Config, given: str | None, index: SequenceIndex) -> Partition:
    d = config.data
    standard = partition_path(config.work_path, d.dataset, d.pid_num, d.pid_shuffle)
    return resolve_partition(
        given,
        standard,
        index.subjects,
        lambda: make_partition(index.subjects, d.dataset, d.pid_num, d.pid_shuffle),
    )


def checkpoint_files(config: Config) -> CheckpointFiles:
    return CheckpointFiles(config.checkpoint_folder, config.experiment)


@contextmanager
def lock_of(config: Config) -> Iterator[None]:
    """Held by the training that writes the checkpoints and the log of an experiment; tidies up after a killed one."""
    lock = config.checkpoint_folder / f".{config.experiment}.lock"
    with locked(lock, config.checkpoint_folder / config.experiment):
        remove_orphans(checkpoint_files(config))
        yield


def load_network(
    config: Config, checkpoint: Path | None, iteration: int | None, device: torch.device
) -> tuple[GaitSet, Path]:
    """The network with the weights of `checkpoint`, or of the experiment's `iteration`.

    None or -1 stands for total_iter of the config, or, where training did not get there, for the last; where nobody
    has trained anything yet, for the encoder that comes with the project.
    """
    if checkpoint is None:
        checkpoint = _checkpoint_of(config, iteration)
        log.info("checkpoint: %s", checkpoint)
    network = GaitSet(config.model.hidden_dim)
    load_encoder(network, checkpoint)
    if config.model.amp == "torch":
        network.amp_dtype, _ = precision_of(device, config.model.amp_dtype)
        network.fused = own_kernels(config.model, device)
    return to_device(network, device).eval(), checkpoint


def _checkpoint_of(config: Config, iteration: int | None) -> Path:
    files = checkpoint_files(config)
    if iteration not in (None, -1):
        return files.part(iteration, "encoder")
    there = files.iterations()
    if there:
        total = config.model.total_iter
        return files.part(total if total in there else files.last_complete() or there[-1], "encoder")
    shipped = stands_in(files.folder, config.model.hidden_dim)
    if shipped is None:
        raise UserError(f"{files.folder}: no checkpoint of {files.experiment}; train first or give --checkpoint")
    log.warning(
        "%s holds no checkpoint: taking %s, which comes with the project and has seen synthetic walkers only",
        files.folder, shipped,
    )  # fmt: skip
    return shipped


def own_kernels(settings: ModelConfig, device: torch.device) -> bool:
    """Whether the project's own kernels are to run: unless somebody said otherwise, where all processes can.

    All of them or none, and all must ask: with and without these kernels gradients travel in other messages.
    """
    if settings.kernels == "plain":
        return False
    here = triton_support.works(device)
    everywhere = distributed.every_process(here, device)
    if here and not everywhere:
        log.warning("the project's kernels do not work in every process: all use torch's own")
    return everywhere


def headline(result: CrossViewResult) -> float:
    """One number to compare checkpoints by: rank-1 without identical views, mean over conditions.

    Data with one view have no cell without identical views; then those count.
    """
    figures = [value for value in result.excluding().values() if not math.isnan(value)]
    return statistics.mean(figures or result.including().values())


def build_trainer(
    config: Config, data: Data, device: torch.device, world: distributed.World, *,
    resident: bool = True, quiet: bool = False, writing: bool = True,
) -> Trainer:  # fmt: skip
    """Network, optimizer, precision, sampler and trainer, restored when the configuration says so."""
    settings = config.model
    torch.manual_seed(settings.seed)  # the same start in every process
    network = to_device(GaitSet(settings.hidden_dim), device)
    # apex wants an optimizer that knows nothing of it; the NPU port, too, gave it torch's own.
    plain = settings.kernels == "plain" or settings.amp == "apex"
    optimizer = make_adam(network.parameters(), settings.lr, device, plain)
    precision, model, optimizer = make_precision(
        settings.amp, network, optimizer, device, settings.amp_dtype, settings.loss_scale
    )
    own = own_kernels(settings, device)
    network.fused = own and settings.amp == "torch"  # in float32 they would round what must not be rounded
    recorded = (
        network.fused and supports_graphs(device) and distributed.backend() in (None, kind_of(device).backends[0])
    )
    train = data.train
    sampler = PKSampler(train.index, *settings.batch_size, settings.frame_num, settings.seed, world.rank)
    resident = resident and fits_device(train, device)
    loader = BatchLoader(
        train, sampler, device, settings.num_workers, resident, packed=network.fused, augmented=settings.augment
    )
    if settings.eval_iter:  # data that cannot be evaluated should be told of now, not after an hour
        plan_of(data.test.index.seq_type, data.test.index.view, protocol_of(config.data.dataset))
    checkpoints = RunCheckpoints(checkpoint_files(config), settings.keep)
    trainer = Trainer(
        config=config, network=network, model=model if recorded else distributed.wrap(model, device),
        optimizer=optimizer, precision=precision, loader=loader, checkpoints=checkpoints, device=device, world=world,
        recorded=recorded, plain=not own, quiet=quiet, writing=writing,
    )  # fmt: skip
    if settings.eval_iter:
        test = data.test

        def score() -> float | None:
            embeddings = extract(network, test, device, world=world, quiet=quiet)
            if embeddings is None:
                return None
            return headline(evaluate_index(embeddings, test.index, config.data.dataset, device))

        trainer.evaluate = score
    _restore(trainer, settings.restore_iter)
    if writing and world.is_main:
        folder, scored = config.work_path / "log" / config.experiment, trainer.evaluated >= trainer.iteration
        trainer.progress.logbook = LogBook(folder, trainer.iteration, scored)
    log.info(
        "training %s on %s: %d subjects, %d sequences, %d frames%s", config.experiment, describe(device),
        len(train.index.subjects), len(train.index), train.index.frames.sum(),
        ", resident on the device" if resident else "",
    )  # fmt: skip
    return trainer


def _restore(trainer: Trainer, restore_iter: int) -> None:
    files = trainer.checkpoints.files
    again = distributed.restarts()
    if again:  # by torchrun, because a process was killed: whatever was asked for at first has been done
        launch = distributed.launch_name()
        last = distributed.run_on_rank0(lambda: files.last_complete(launch))
        log.warning(
            "restart %d after a process ended: %s", again,
            "no checkpoint had been written, as at the start" if last is None else f"going on from iteration {last}",
        )  # fmt: skip
        if last is not None:
            resume(trainer, last)
            return
    if restore_iter == 0:
        if trainer.writing:
            trainer.checkpoints.warn_of_others()
        return
    if restore_iter < 0:
        last = distributed.run_on_rank0(files.last_complete)
        if last is None and restore_iter == -2:
            log.info("no checkpoint of %s yet: from the start", files.experiment)
            return
        if last is None:
            raise UserError(f"--restore_iter -1: {files.folder} has no complete checkpoint of {files.experiment}")
        restore_iter = last
    resume(trainer, restore_iter)
    log.info("going on from iteration %d", restore_iter)
