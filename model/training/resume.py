"""Resume training: exactly from a complete checkpoint, or approximately from the two published files."""

from __future__ import annotations

import logging

from model.checkpoints.checkpoint import CheckpointFiles
from model.checkpoints.loading import load_encoder, load_optimizer, load_tensors
from model.checkpoints.retention import RunCheckpoints
from model.common.errors import UserError
from model.config import ModelConfig, RestoreFrom
from model.devices import distributed
from model.training.state import TrainingState

log = logging.getLogger(__name__)


def iteration_to_resume(files: CheckpointFiles, restore_iter: int) -> int | None:
    """Return the iteration to resume from, or None to start from the beginning. Collective call.

    Raises:
        UserError: if a checkpoint is required and there is none.
    """
    restarts = distributed.restarts()
    if restarts:  # torchrun restarted the processes because one was killed: `restore_iter` was obeyed the first time
        launch = distributed.launch_name()
        last = distributed.run_on_rank0(lambda: files.last_complete(launch))
        log.warning(
            "restart %d after a process ended: %s", restarts,
            "there is no checkpoint yet, starting as at first" if last is None else f"resuming from iteration {last}",
        )  # fmt: skip
        if last is not None:
            return last
    if restore_iter == RestoreFrom.START:
        return None
    if restore_iter > 0:
        return restore_iter
    last = distributed.run_on_rank0(files.last_complete)
    if last is None and restore_iter == RestoreFrom.LAST:
        raise UserError(f"--restore_iter -1: {files.folder} has no complete checkpoint of {files.experiment}")
    if last is None:
        log.info("no checkpoint of %s yet: starting from the beginning", files.experiment)
    return last


def resume(
    state: TrainingState, checkpoints: RunCheckpoints, iteration: int, settings: ModelConfig, world: distributed.World
) -> None:
    """Load the checkpoint of `iteration` into `state`. Raise UserError if its files are not those of a training run."""
    files = checkpoints.files
    load_encoder(state.network, files.part(iteration, "encoder"))
    state.precision.sync_master_weights()
    load_optimizer(state.optimizer, files.part(iteration, "optimizer"))
    for group in state.optimizer.param_groups:  # the learning rate comes from the configuration, as in the original
        group["lr"] = settings.lr
    state.iteration = state.saved_at = state.evaluated = iteration
    metadata = files.complete_metadata(iteration)
    if metadata is None:
        log.warning(
            "%s has only the two published files, or they do not match their metadata: training resumes from them, "
            "but not exactly as if it had never stopped",
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
        raise UserError(f"{path}: is not the state of a training run ({error})") from error


def _warn_of_differences(metadata: dict, now: dict) -> bool:
    """Warn if a changed setting makes the resumed run a different one. Return whether the precision is the same."""
    then = {"world_size": metadata["world_size"], **metadata["model"]}
    for key in ("world_size", "seed", "lr", "amp"):
        if then.get(key) != now[key]:
            log.warning("%s was %s when the checkpoint was written and is %s now", key, then.get(key), now[key])
    return then.get("amp") == now["amp"]
