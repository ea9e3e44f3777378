"""Going on from a checkpoint: exactly where it is a whole one of ours, else from its two published files."""

from __future__ import annotations

import logging

import torch

from model.checkpoints.checkpoint import load_encoder, load_optimizer, load_tensors
from model.common.errors import UserError
from model.training.log_book import FIELDS
from model.training.trainer import Trainer

log = logging.getLogger(__name__)


def resume(trainer: Trainer, iteration: int) -> None:
    """Take the state of `iteration` up into `trainer`. Raises UserError where its files are not those of a training."""
    files, config = trainer.checkpoints.files, trainer.config.model
    load_encoder(trainer.network, files.part(iteration, "encoder"))
    trainer.precision.weights_loaded()
    load_optimizer(trainer.optimizer, files.part(iteration, "optimizer"))
    for group in trainer.optimizer.param_groups:  # the config decides, as with the original
        group["lr"] = config.lr
    trainer.iteration = trainer.saved_at = trainer.evaluated = iteration
    if not files.is_complete(iteration):
        log.warning(
            "%s has only the two published files, or they disagree with their record: going on from them, "
            "but not exactly as if training had never stopped",
            files.part(iteration, "encoder"),
        )
        return
    record = trainer.checkpoints.take_up(iteration)
    trainer.evaluated = record.get("evaluated", iteration)
    path = files.part(iteration, "state")
    state = load_tensors(path)
    world, meter = trainer.world, trainer.meter
    try:
        torch.set_rng_state(state["random"])
        if _say_what_differs(record, {"world_size": world.size, **vars(config)}):
            trainer.precision.load_state_dict(state["precision"])
        sums = state["meter"]["sums"].reshape(-1, len(FIELDS))
        meter.sums.copy_(sums[world.rank] if len(sums) == world.size else sums.mean(0))
        meter.iterations = int(state["meter"]["iterations"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(f"{path}: is no state of a training run ({error})") from error


def _say_what_differs(record: dict, now: dict) -> bool:
    """Warn of what makes the rest another training than it was. Returns whether the precision is the same."""
    then = {"world_size": record["world_size"], **record["model"]}
    for key in ("world_size", "seed", "lr", "amp"):
        if then.get(key) != now[key]:
            log.warning("%s was %s when the checkpoint was written and is %s now", key, then.get(key), now[key])
    return then.get("amp") == now["amp"]
