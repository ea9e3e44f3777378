"""Build the trainer of a run from a configuration, with its state, step, batches, checkpoints, log and evaluation."""

import logging
import math
import statistics
from collections.abc import Callable

import torch
from torch import nn

from model.checkpoints.checkpoint import CheckpointFiles
from model.checkpoints.loading import Encoder
from model.checkpoints.retention import RunCheckpoints
from model.common.errors import UsageError, UserError, counted
from model.common.geometry import STRIPS
from model.config import Config, ModelConfig
from model.data.batches import BatchLoader, fits_device
from model.data.partition import Data
from model.data.sampler import PKSampler
from model.devices import distributed
from model.devices.device import describe, kind_of, to_device
from model.devices.world import World
from model.embeddings.extract import extract
from model.evaluation.cross_view import evaluate_index, notes_on_subjects
from model.evaluation.protocols import plan_of
from model.evaluation.result import CrossViewResult
from model.evaluation.streaming import Streaming
from model.network import GaitSet
from model.network.compute_mode import ComputeMode, make_compute_mode
from model.training.classifier import Classifier
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


def build_trainer(
    config: Config, data: Data, device: torch.device, world: World, *, initial: Encoder | None = None,
    writing: bool = True, profiling: Profiling | None = None,
) -> Trainer:  # fmt: skip
    """Return the trainer of a run, after loading the checkpoint to resume from, if any.

    Args:
        initial: initial weights of a new run; None for random weights. A resumed run must have started from the same
            weights.
        writing: whether to write checkpoints and the log.
        profiling: profiler of a range of iterations, or None.
    """
    settings = config.model
    mode = make_compute_mode(settings.amp, settings.amp_dtype, settings.kernels, device, settings.channels)
    if settings.cross_entropy and (world.size > 1 or mode.amp == "apex"):
        raise UsageError(
            f"--cross_entropy: {counted(world.size, 'process', 'processes')} with --amp {mode.amp} cannot train the "
            "classifier; use one process and --amp torch or off"
        )
    train = data.train
    state, model = build_state(settings, mode, device, len(train.index.subjects))
    step = build_step(settings, state, model, mode, device)
    by_view = settings.sampler == "views"
    sampler = PKSampler(train.index, *settings.batch_size, settings.frame_num, settings.seed, world.rank, by_view)
    resident = data.resident and fits_device(train, device)
    packed = mode.fused or (device.type == "cpu" and settings.kernels != "plain")
    loader = BatchLoader(train, sampler, device, settings.num_workers, resident, packed, settings.augment)
    evaluate = _build_evaluation(config, data, state.network, device, world) if settings.eval_iter else None

    checkpoints = RunCheckpoints(CheckpointFiles(config.checkpoint_folder, config.experiment), settings.keep)
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
        "training %s on %s: %s, %s, %s%s", config.experiment, describe(device),
        counted(len(train.index.subjects), "subject"), counted(len(train.index), "sequence"),
        counted(train.index.frames.sum(), "frame"),
        ", resident on the device" if resident else "",
    )  # fmt: skip
    return Trainer(
        config=config, state=state, step=step, loader=loader, checkpoints=checkpoints, device=device, world=world,
        progress=Progress(state, settings, device, world, logbook),
        evaluate=evaluate, evaluable=evaluable, profiling=profiling, writing=writing,
    )  # fmt: skip


def build_state(
    settings: ModelConfig, mode: ComputeMode, device: torch.device, subjects: int
) -> tuple[TrainingState, nn.Module]:
    """Return the initial state and the module to call, which is the network or its replacement by apex."""
    torch.manual_seed(settings.seed)  # the same initial weights in every process
    sizes = settings.hidden_dim, mode.amp_dtype, mode.fused, settings.channels
    network = to_device(GaitSet(*sizes, settings.unit_strips), device)
    # apex patches the optimizer, so it gets torch's Adam instead of the Adam of the device, as in the NPU port.
    reference_adam = settings.kernels == "plain" or mode.amp == "apex"
    trained, classifier = nn.ModuleList([network]), None
    if settings.cross_entropy:
        classifier = to_device(Classifier(STRIPS, settings.hidden_dim, subjects), device)
        trained.append(classifier)
    fixed = settings.schedule == "constant"
    optimizer = make_adam(trained.parameters(), settings.lr, device, reference_adam, fixed)
    precision, model, optimizer = make_precision(mode, network, optimizer, device, settings.loss_scale)
    return TrainingState(network, optimizer, precision, LossMeter(device), classifier=classifier), model


def build_step(
    settings: ModelConfig, state: TrainingState, model: nn.Module, mode: ComputeMode, device: torch.device
) -> TrainingStep | CudaGraphStep:
    """Return the callable that runs one training iteration.

    The iteration runs as CUDA graphs if the network is fused, the device can capture graphs, and the process group, if
    any, uses the default backend of the device.
    """
    kind = kind_of(device)
    as_graph = mode.fused and kind.graph is not None and distributed.backend() in (None, kind.backends[0])
    if not as_graph:
        model = distributed.wrap(model, device)
    step = TrainingStep(model, state, settings, reference_loss=not mode.triton)
    return CudaGraphStep(step, device) if as_graph else step


def _build_evaluation(
    config: Config, data: Data, network: GaitSet, device: torch.device, world: World
) -> Callable[[], float | None]:
    """Return a function that returns the score of the network on the main process and None on the other processes.

    Raises:
        UserError: if the test data cannot be evaluated. Without this check, the error would occur at the first
            evaluation, perhaps after an hour of training.
    """
    test, protocol = data.test, config.data.protocol
    for note in notes_on_subjects(test.index.subject, plan_of(test.index.seq_type, test.index.view, protocol)):
        log.warning("--eval_iter: %s", note)

    def score() -> float | None:
        embeddings = extract(network, test, device, world=world)
        if embeddings is None:
            return None
        return selection_score(evaluate_index(embeddings, test.index, protocol, Streaming(device)))

    return score


def selection_score(result: CrossViewResult) -> float:
    """Return the score by which checkpoints are compared: rank-1 excluding identical views, mean over conditions.

    For data with a single view, it is rank-1 including identical views.
    """
    figures = [value for value in result.excluding().values() if not math.isnan(value)]
    return statistics.mean(figures or result.including().values())


def _is_evaluable(config: Config, data: Data) -> bool:
    """Return whether test.py can evaluate the test subjects, and log a warning if their takes do not fit the protocol.

    Raises:
        UserError: if the takes do not fit the protocol and the user has chosen the gallery or probe takes.
    """
    test = data.store.index.of_subjects(data.partition.test)
    try:
        if len(test):
            plan_of(test.seq_type, test.view, config.data.protocol)
    except UserError as error:
        if config.data.gallery or config.data.probe:
            raise
        if not isinstance(error, UsageError):  # train.py has already warned of a data set without a protocol
            log.warning("test.py will not be able to evaluate this training: %s", error)
        return False
    return len(test) > 0
