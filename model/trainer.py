"""The training loop: iterations, log points, checkpoints, evaluation, and stopping without losing a step."""

from __future__ import annotations

import logging
import math
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

import torch
from torch import nn
from torch.optim import Optimizer
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from model import distributed
from model.checkpoint import CheckpointFiles, load_encoder, load_optimizer, load_tensors
from model.config import Config
from model.data.batches import BatchLoader
from model.device import describe, synchronize
from model.errors import UserError
from model.files import read_json, write_json
from model.meters import COLLAPSE_ADVICE, FIELDS, LogBook, LossMeter, is_collapsed, log_line
from model.network.triplet import triplet_losses
from model.precision import Precision

log = logging.getLogger(__name__)

ASK_OTHERS_EVERY = 10  # iterations between two looks at whether any process was told to stop


class StopSignals:
    """Turns the first SIGTERM or Ctrl-C into a flag, so that the iteration in work ends; the second interrupts."""

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> StopSignals:
        self.before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number


@dataclass
class Trainer:
    """Trains `network` (the plain GaitSet) with batches of `loader`; `model` is what runs forward: it, or its wrapper.

    evaluate: gives the score (rank-1 in percent) of the network as it is, on the main process.
    Only the main process writes; all processes must call `run`.
    """

    config: Config
    network: nn.Module
    model: nn.Module
    optimizer: Optimizer
    precision: Precision
    loader: BatchLoader
    files: CheckpointFiles
    device: torch.device
    world: distributed.World
    logbook: LogBook | None = None
    evaluate: Callable[[], float | None] | None = None
    quiet: bool = False
    writing: bool = True

    def __post_init__(self) -> None:
        self.iteration = 0  # iterations done
        self.run_id = uuid.uuid4().hex  # tells the checkpoints of this run, resumed or not, from others
        self.best: tuple[float, int] | None = None  # score, iteration
        self.meter = LossMeter(self.device)
        self.saved: list[int] = []

    def run(self, total_iter: int) -> int:
        """Train up to `total_iter` iterations. Returns the number of the signal that ended it early, else 0."""
        bar = tqdm(
            total=total_iter, initial=self.iteration, unit="it", desc="training",
            disable=True if self.quiet or not self.world.is_main else None,
        )  # fmt: skip
        with StopSignals() as stop, logging_redirect_tqdm(), bar:
            self._since = self._started = time.perf_counter(), self.iteration
            for sils in self.loader.batches(self.iteration, total_iter):
                self._step(sils)
                bar.update()
                settings = self.config.model
                if self.iteration % settings.log_iter == 0:
                    self._log_point()
                stopping = self._told_to_stop(stop)
                if settings.eval_iter and self.iteration % settings.eval_iter == 0 and self.evaluate and not stopping:
                    self._evaluate()
                if stopping or self.iteration % settings.save_iter == 0 or self.iteration == total_iter:
                    self.save()
                if stopping:
                    return stop.received or signal.SIGTERM
        return 0

    def _step(self, sils: torch.Tensor) -> None:
        settings = self.config.model
        with self.precision.autocast():
            embeddings = self.model(sils)
        losses = triplet_losses(embeddings, *settings.batch_size, settings.margin)
        loss = losses.full if settings.hard_or_full_trip == "full" else losses.hard
        self.optimizer.zero_grad(set_to_none=True)
        self.precision.step(loss.mean(), self.optimizer)
        self.meter.add(losses)
        self.iteration += 1

    def _told_to_stop(self, stop: StopSignals) -> bool:
        if self.world.size == 1:
            return stop.received is not None
        if self.iteration % ASK_OTHERS_EVERY:
            return False
        return distributed.any_process(stop.received is not None, self.device)

    def _log_point(self) -> None:
        synchronize(self.device)
        since, before = self._since
        seconds = time.perf_counter() - since
        means = distributed.mean_over_processes(self.meter.means().float())
        point = dict(zip(FIELDS, means.tolist(), strict=True))
        point |= {
            "lr": self.optimizer.param_groups[0]["lr"],
            "hard_or_full": self.config.model.hard_or_full_trip,
            "iterations_per_second": (self.iteration - before) / seconds,
        }
        self.meter.reset()
        if self.world.is_main:
            log.info(log_line(self.iteration, point))
            if self.logbook is not None:
                self.logbook.write(self.iteration, point)
            if is_collapsed(point, self.config.model.margin):
                log.warning("warning: %s", COLLAPSE_ADVICE)
        if not all(math.isfinite(point[name]) for name in FIELDS):
            raise UserError(
                f"iteration {self.iteration}: the loss is no finite number; continue from the last checkpoint "
                "(--restore_iter -1) with a lower learning rate or with --amp off"
            )
        self._since = time.perf_counter(), self.iteration

    def _evaluate(self) -> None:
        score = self.evaluate()
        if score is not None:
            if self.best is None or score > self.best[0]:
                self.best = (score, self.iteration)
                self.save()
            if self.logbook is not None:
                self.logbook.write(self.iteration, {"rank1": score})
        self._since = time.perf_counter(), self.iteration

    def save(self) -> None:
        """Write the checkpoint of this iteration, then delete those of this run that are not to be kept."""
        if not self.writing or not self.world.is_main or self.saved[-1:] == [self.iteration]:
            return
        state = {
            "random": torch.get_rng_state(),
            "precision": self.precision.state_dict(),
            "meter": {"sums": self.meter.sums.cpu(), "iterations": self.meter.iterations},
        }
        parts = {
            "encoder": {key: value.contiguous() for key, value in self.network.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "state": state,
        }
        data, model = vars(self.config.data), vars(self.config.model)
        facts = {
            "run": self.run_id, "best": self.best, "seed": model["seed"], "world_size": self.world.size,
            "device": describe(self.device), "data": data, "model": model,
        }  # fmt: skip
        self.files.save(self.iteration, parts, facts)
        self.saved = [i for i in self.saved if i != self.iteration] + [self.iteration]
        others = [i for i in self.saved[:-1] if self.best is None or i != self.best[1]]
        keep = {self.iteration, *others[len(others) - self.config.model.keep :]}
        self.files.prune(self.run_id, keep | ({self.best[1]} if self.best else set()))

    def restore(self, iteration: int) -> None:
        """Go on from the checkpoint of `iteration`: exactly where it is ours, else from its two published files."""
        files, settings = self.files, self.config.model
        load_encoder(self.network, files.part(iteration, "encoder"))
        load_optimizer(self.optimizer, files.part(iteration, "optimizer"))
        for group in self.optimizer.param_groups:  # the config decides, as with the original
            group["lr"] = settings.lr
        self.iteration = iteration
        if not files.is_complete(iteration):
            log.warning(
                "%s has only the two published files, or they disagree with their record: going on from them, "
                "but not exactly as if training had never stopped",
                files.part(iteration, "encoder"),
            )
            return
        record = read_json(files.record(iteration))
        self._say_what_differs(record)
        self.run_id, self.best = record["run"], tuple(record["best"]) if record["best"] else None
        state = load_tensors(files.part(iteration, "state"))
        torch.set_rng_state(state["random"])
        self.precision.load_state_dict(state["precision"])
        self.meter.sums.copy_(state["meter"]["sums"])
        self.meter.iterations = state["meter"]["iterations"]
        self.saved = sorted({iteration, *(i for i in files.iterations() if i <= iteration and self._is_own(i))})

    def _is_own(self, iteration: int) -> bool:
        record = self.files.record(iteration)
        return record.exists() and read_json(record).get("run") == self.run_id

    def _say_what_differs(self, record: dict) -> None:
        now = {"seed": self.config.model.seed, "world_size": self.world.size, "lr": self.config.model.lr}
        then = {"seed": record["seed"], "world_size": record["world_size"], "lr": record["model"]["lr"]}
        for key, value in now.items():
            if then[key] != value:
                log.warning("%s was %s when the checkpoint was written and is %s now", key, then[key], value)

    def report(self, stopped_by: int, json: Path | None = None) -> int:
        """Say how the run ended and what to do next. Returns the exit status: 0, or 128 + the signal."""
        started, first = self._started
        synchronize(self.device)
        iterations, seconds = self.iteration - first, time.perf_counter() - started
        sequences = iterations * math.prod(self.config.model.batch_size) * self.world.size
        summary = {
            "iterations": iterations, "seconds": seconds, "iterations_per_second": iterations / seconds,
            "sequences_per_second": sequences / seconds, "processes": self.world.size,
            "device": describe(self.device), "amp": self.config.model.amp, "iteration": self.iteration,
            "checkpoint": str(self.files.part(self.iteration, "encoder")) if self.writing else None,
        }  # fmt: skip
        if self.logbook is not None:
            self.logbook.close()
        if self.world.is_main:
            if json is not None:
                write_json(json, summary)
            log.warning(
                "%d iterations in %.1f s: %.2f iterations/s, %.1f sequences/s", iterations, seconds,
                summary["iterations_per_second"], summary["sequences_per_second"],
            )  # fmt: skip
            if self.writing:
                next_step = "stopped; --restore_iter -1 goes on from it" if stopped_by else "test it with test.py"
                log.warning("wrote %s: %s", summary["checkpoint"], next_step)
        return 128 + stopped_by if stopped_by else 0
