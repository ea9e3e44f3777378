"""The training loop: iterations, checkpoints, evaluation, and stopping without losing a step."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from model.checkpoints.retention import RunCheckpoints
from model.common.errors import UserError
from model.common.files import write_json
from model.common.messages import RESULT, progress_bar
from model.config import Config
from model.data.batches import Batch, BatchLoader
from model.devices import distributed
from model.devices.device import describe
from model.training.finite import BadNumbers, LastGood, all_finite, copied
from model.training.log_book import LossMeter
from model.training.precision import Precision
from model.training.profiling import Profiling
from model.training.progress import NO_NUMBER, Progress
from model.training.step import RecordedStep, TrainingStep
from model.training.stop_signals import StopSignals

log = logging.getLogger(__name__)

# Iterations between two looks at whether any process was told to stop. On a device each look waits for it; on the
# CPU iterations are long, and who sends SIGTERM sends SIGKILL half a minute later.
ASK_OTHERS_EVERY = 10


@dataclass
class Trainer:
    """Trains `network` (the plain GaitSet) with batches of `loader`; `model` is what runs forward: it, or its wrapper.

    recorded: replay a recording of the iteration, which needs packed batches and a device that can record.
    plain: the loss, too, is computed by torch's own kernels.
    evaluate: gives the score (rank-1 in percent) of the network as it is, on the main process.
    profiling: records what some of the iterations do.
    Only the main process writes; all processes must call `run`.
    """

    config: Config
    network: nn.Module
    model: nn.Module
    optimizer: Optimizer
    precision: Precision
    loader: BatchLoader
    checkpoints: RunCheckpoints
    device: torch.device
    world: distributed.World
    evaluate: Callable[[], float | None] | None = None
    profiling: Profiling | None = None
    recorded: bool = False
    plain: bool = False
    quiet: bool = False
    writing: bool = True

    def __post_init__(self) -> None:
        self.iteration = 0  # iterations done
        self.saved_at: int | None = None  # the iteration of the last checkpoint
        self.evaluated = 0  # the iteration of the last evaluation
        self.last_good = LastGood()
        self.meter = LossMeter(self.device)
        self.progress = Progress(self.meter, self.optimizer, self.config.model, self.device, self.world)
        settings = self.config.model
        self.step = TrainingStep(self.model, self.optimizer, self.precision, self.meter, settings, self.plain)
        if self.recorded:
            self.step = RecordedStep(self.step, self.device)

    def run(self, total_iter: int) -> int:
        """Train up to `total_iter` iterations. Returns the number of the signal that ended it early, else 0.

        Raises BadNumbers when loss, weights, Adam's state or embeddings are no finite numbers any more, at the next
        log point or checkpoint; the state of the log point before is then saved.
        """
        quiet = self.quiet or not self.world.is_main
        bar = progress_bar(total=total_iter, first=self.iteration, unit="iterations", what="training", quiet=quiet)
        profiling = self.profiling or nullcontext()
        stop = StopSignals(final=distributed.launched_by_torchrun())
        with stop, logging_redirect_tqdm(), bar, profiling:
            self.progress.start(self.iteration, total_iter)
            try:
                return self._run(total_iter, stop, bar)
            except BadNumbers as error:
                raise self._rescued(error) from None

    def _run(self, total_iter: int, stop: StopSignals, bar: tqdm) -> int:
        settings = self.config.model
        if self._evaluation_is_due():  # told to stop, a run does not begin it
            self._evaluate()
            if self.writing and self.world.is_main:
                self.checkpoints.amend(self.iteration, evaluated=self.evaluated)
        for batch in self.loader.batches(self.iteration, total_iter):
            self._step(batch)
            bar.update()
            self.progress.after(self.iteration)
            if self.iteration % settings.log_iter == 0:
                self._look()
            stopping = self._told_to_stop(stop)
            if self._evaluation_is_due() and not stopping:
                self._evaluate()
            if stopping or self.iteration % settings.save_iter == 0 or self.iteration == total_iter:
                self.save()
            if stopping:
                return stop.received or signal.SIGTERM
        return 0

    def _step(self, batch: Batch) -> None:
        self.step(*batch)
        self.meter.iterations += 1
        self.iteration += 1
        if self.profiling is not None:
            self.profiling.step()

    def _told_to_stop(self, stop: StopSignals) -> bool:
        if self.world.size == 1:
            return stop.received is not None
        if self.device.type != "cpu" and self.iteration % ASK_OTHERS_EVERY:
            return False
        return distributed.any_process(stop.received is not None, self.device)

    def _look(self) -> None:
        """A log point: tell what is to be told, and remember the state when it is good."""
        self.progress.log_point(self.iteration)
        self._require_finite()
        if self.writing and self.world.is_main:
            self.last_good.keep(self.iteration, self._parts(self.meter.sums))

    def _require_finite(self) -> None:
        """All processes must ask."""
        state = self.network.state_dict(), self.optimizer.state_dict()["state"], self.meter.sums
        if distributed.any_process(not all_finite(state), self.device):
            raise BadNumbers(NO_NUMBER.format(self.iteration))

    def _rescued(self, error: BadNumbers) -> BadNumbers:
        """Save the last good state; the error with what to do then."""
        good = self.last_good
        if self.world.is_main and good.iteration is not None and good.iteration > (self.saved_at or 0):
            self._write(good.iteration, good.parts)
        told = good.explained(error, self.saved_at)
        told.already_reported = not self.world.is_main
        return told

    def _evaluation_is_due(self) -> bool:
        every = self.config.model.eval_iter
        return bool(every and self.evaluate) and self.iteration % every == 0 and self.evaluated < self.iteration

    def _evaluate(self) -> None:
        start = time.perf_counter()
        self.evaluated = self.iteration  # also when it fails: going on from here must be possible
        score, fault = None, None
        try:
            score = self.evaluate()
        except UserError as error:  # of the main process, which alone evaluates: the others must not wait for it
            fault = error
        if distributed.any_process(fault is not None, self.device):
            raise BadNumbers(f"iteration {self.iteration}: {fault or 'the evaluation failed'}")
        is_best = score is not None and self.checkpoints.is_better(score)
        if is_best:
            self.checkpoints.best = (score, self.iteration)
        if score is not None and self.progress.logbook is not None:
            self.progress.logbook.write(self.iteration, {"rank1": score})
        if distributed.any_process(is_best, self.device):  # only the main process knows, and all must save
            self.save()
        self.progress.leave_out(time.perf_counter() - start)

    def save(self) -> None:
        """Write the checkpoint of this iteration; all processes must call this, the main one writes."""
        if not self.writing or self.saved_at == self.iteration:
            return
        # Those of each process: with their mean in each, going on would round otherwise.
        sums = distributed.gather_rows(self.meter.sums[None], self.world.size, self.device)
        self._require_finite()
        if self.world.is_main:
            self._write(self.iteration, self._parts(sums))
        self.saved_at = self.iteration

    def _parts(self, sums: Tensor) -> dict[str, Any]:
        state = {
            "random": torch.get_rng_state(),
            "precision": self.precision.state_dict(),
            "meter": {"sums": sums, "iterations": self.meter.iterations},
        }
        return {
            # Others read the weights: they get them in the type and layout that every program expects.
            "encoder": {key: value.float().contiguous() for key, value in self.network.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "state": state,
        }

    def _write(self, iteration: int, parts: dict[str, Any]) -> None:
        facts = {
            "world_size": self.world.size, "device": describe(self.device),
            "evaluated": self.evaluated, "data": vars(self.config.data), "model": vars(self.config.model),
        }  # fmt: skip
        on_host = copied(parts, Tensor.cpu)  # a checkpoint must load where there is no such device
        self.checkpoints.save(iteration, on_host, facts)

    def report(self, stopped_by: int, json: Path | None = None) -> int:
        """Say how the run ended and what to do next. Returns the exit status: 0, or 128 + the signal."""
        summary = {
            **self.progress.figures(self.iteration), "processes": self.world.size,
            "device": describe(self.device), "amp": self.config.model.amp, "iteration": self.iteration,
            "checkpoint": str(self.checkpoints.files.part(self.iteration, "encoder")) if self.writing else None,
        }  # fmt: skip
        if self.progress.logbook is not None:
            self.progress.logbook.close()
        if self.world.is_main:
            if json is not None:
                write_json(json, summary)
            log.log(
                RESULT,
                "%(iterations)d iterations in %(seconds).1f s: %(iterations_per_second).2f iterations/s, "
                "%(sequences_per_second).1f sequences/s", summary,
            )  # fmt: skip
            if not summary["iterations"]:
                log.log(RESULT, "nothing to do: iteration %d has been reached already", self.iteration)
            elif self.writing:
                checkpoint = summary["checkpoint"]
                log.log(RESULT, "wrote %s", checkpoint)
                next_step = "the same command with --restore_iter -1 goes on from it"
                if not stopped_by:
                    next_step = (
                        f"python test.py --checkpoint {checkpoint} --report, with the same --data_path and others"
                    )
                log.log(RESULT, "next: %s", next_step)
        return 128 + stopped_by if stopped_by else 0
