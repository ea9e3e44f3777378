"""Start a training run from the weights of an encoder, or resume a run from a checkpoint.

Resuming from a complete checkpoint is exact: the resumed run equals an uninterrupted run. The original saves only an
encoder file and an optimizer file. Resuming from these two files alone is approximate.
"""

import logging

from model.checkpoints.checkpoint import CheckpointFiles
from model.checkpoints.loading import Encoder, load_encoder, load_optimizer, load_tensors
from model.checkpoints.retention import RunCheckpoints
from model.common.errors import UserError
from model.config import ModelConfig, RestoreFrom
from model.devices import distributed
from model.devices.world import World, launch_name
from model.training.state import TrainingState

log = logging.getLogger(__name__)


def iteration_to_resume(files: CheckpointFiles, restore_iter: int) -> int | None:
    """Return the iteration to resume from, or None to start from the beginning. Collective call.

    Raises:
        UserError: if a checkpoint is required and there is none.
    """
    restarts = distributed.restarts()
    if restarts:  # torchrun restarted all processes because one was killed; `restore_iter` applied to the first start
        launch = launch_name()
        last = distributed.run_on_rank0(lambda: files.last_complete(launch))
        log.warning(
            "restart %d after a process ended: %s", restarts,
            "no checkpoint exists yet, starting again" if last is None else f"resuming from iteration {last}",
        )  # fmt: skip
        if last is not None:
            return last
    if restore_iter == RestoreFrom.START:
        return None
    if restore_iter > 0:
        return restore_iter
    last = distributed.run_on_rank0(files.last_complete)
    if last is None and restore_iter == RestoreFrom.LAST:
        raise UserError(
            f"--restore_iter -1: {files.folder} has no complete checkpoint of {files.experiment}; start a new run with "
            "--restore_iter 0, or give the --work_path and the settings of the run to resume"
        )
    if last is None:
        log.info("no checkpoint of %s yet: starting from the beginning", files.experiment)
    return last


def resume(
    state: TrainingState, checkpoints: RunCheckpoints, iteration: int, settings: ModelConfig, world: World
) -> None:
    """Load the checkpoint of `iteration` into `state`.

    Raises:
        UserError: if a file of the checkpoint is missing or unreadable, or does not fit this run.
    """
    files = checkpoints.files
    load_encoder(state.network, files.part(iteration, "encoder"))
    state.precision.sync_master_weights()
    lr = state.optimizer.param_groups[0]["lr"]
    load_optimizer(state.optimizer, files.part(iteration, "optimizer"))
    for group in state.optimizer.param_groups:  # the learning rate comes from the configuration, as in the original
        group["lr"] = lr
    state.iteration = state.saved_at = state.evaluated = iteration
    metadata = files.complete_metadata(iteration)
    if metadata is None:
        log.warning(
            "%s: the checkpoint is not complete, or its files do not match its metadata; training resumes from the "
            "encoder and optimizer files, but not exactly as an uninterrupted run",
            files.part(iteration, "encoder"),
        )
        return
    checkpoints.adopt_run(iteration, metadata)
    state.evaluated = metadata.get("evaluated", iteration)
    path = files.part(iteration, "state")
    content = load_tensors(path)
    try:
        same_precision = _warn_of_differences(metadata, {"world_size": world.size, **vars(settings)})
        state.restore(content, world.rank, world.size, same_precision)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"{path}: the file does not hold the state of a training run ({error}); resume another checkpoint, or "
            "delete this file to resume without it"
        ) from error


def start_from(state: TrainingState, checkpoints: RunCheckpoints, encoder: Encoder) -> None:
    """Load `encoder` as the initial weights of a new run.

    The metadata of all checkpoints of the run record the path and the checksum of the encoder file.
    The optimizer, the random numbers and the iteration are the same as in a run with random initial weights.
    """
    state.network.load_state_dict(encoder.weights)
    state.precision.sync_master_weights()
    checkpoints.initial_encoder = {"file": str(encoder.path), "sha256": encoder.sha256}
    log.info("starting from the weights of %s, with a new optimizer", encoder.path)


def require_same_start(checkpoints: RunCheckpoints, encoder: Encoder) -> None:
    """Raise UserError if the resumed run did not start from `encoder`. Files are compared by checksum, not by name."""
    recorded = checkpoints.initial_encoder
    if recorded is None or recorded["sha256"] != encoder.sha256:
        start = "random weights" if recorded is None else recorded["file"]
        raise UserError(
            f"--checkpoint {encoder.path}: the run to resume started from {start}; leave out --checkpoint to resume "
            "this run, or start a new run with --restore_iter 0 and another --work_path"
        )


def _warn_of_differences(metadata: dict, now: dict) -> bool:
    """Warn of each changed setting that changes the results of the run. Return whether `--amp` is the same."""
    then = {"world_size": metadata["world_size"], **metadata["model"]}
    for key in ("world_size", "seed", "lr", "amp"):
        if then.get(key) != now[key]:
            log.warning("%s was %s when the checkpoint was written and is %s now", key, then.get(key), now[key])
    return then.get("amp") == now["amp"]
