"""The training loop: iterations, log points, checkpoints, evaluations, and a clean stop."""

import logging
import math
import shlex
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from model.checkpoints.retention import RunCheckpoints
from model.common.errors import UserError, counted
from model.common.json_files import write_json
from model.common.messages import RESULT, progress_bar
from model.config import Config
from model.data.batches import Batch, BatchLoader
from model.devices import distributed
from model.devices.device import describe
from model.devices.world import World, launched_by_torchrun, survive_to_report
from model.training.cuda_graph_step import CudaGraphStep
from model.training.log_book import log_for_the_zoo
from model.training.optimizer import set_learning_rate
from model.training.profiling import Profiling
from model.training.progress import NOT_FINITE, Progress
from model.training.state import EvaluationError, NonFiniteError, TrainingState, map_tensors
from model.training.step import TrainingStep
from model.training.stop_signals import StopSignals

log = logging.getLogger(__name__)

# Number of iterations between checks whether any process received a stop signal. On a GPU or NPU, each check
# synchronizes with the device. On the CPU, every iteration checks: iterations are long there, and a scheduler sends
# SIGKILL half a minute after SIGTERM.
STOP_CHECK_INTERVAL = 10


@dataclass
class Trainer:
    """Trains the network of `state`. All processes must call its methods; only the main process writes files.

    Attributes:
        evaluate: returns the score of the network (rank-1 in percent) on the main process and None on the other
            processes.
        evaluable: whether test.py can evaluate the test subjects.
        profiling: profiler of a range of iterations, or None.
        writing: whether to write checkpoints.
        last_good: iteration of the last finite log point and a copy of the state at this iteration, on the main
            process. The copy is on the device. For hidden_dim 256, network and Adam's state take 32 MB.
    """

    config: Config
    state: TrainingState
    step: TrainingStep | CudaGraphStep
    loader: BatchLoader
    checkpoints: RunCheckpoints
    progress: Progress
    device: torch.device
    world: World
    evaluate: Callable[[], float | None] | None = None
    evaluable: bool = True
    profiling: Profiling | None = None
    writing: bool = True
    last_good: tuple[int, dict[str, Any]] | None = None

    def run(self, total_iter: int) -> int:
        """Train up to iteration `total_iter`. Return the number of the signal that stopped the run, or 0.

        Raises:
            NonFiniteError: at the next log point or checkpoint after a loss, weight or optimizer state became NaN or
                infinite. The state of the last finite log point is then saved.
            EvaluationError: if an evaluation failed. The state of the last finite log point is then saved.
        """
        first = self.state.iteration
        bar = progress_bar(total=total_iter, first=first, unit="iterations", what="training")
        stop = StopSignals(ignore_second=launched_by_torchrun())
        with stop, logging_redirect_tqdm(), bar, self.profiling or nullcontext():
            self.progress.start(first, total_iter)
            try:
                return self._run(total_iter, stop, bar)
            except (NonFiniteError, EvaluationError) as error:
                raise self._save_last_finite_state(error) from None

    def _run(self, total_iter: int, stop: StopSignals, bar: tqdm) -> int:
        settings, state = self.config.model, self.state
        if self._evaluation_is_due():  # a run that is stopped saves its checkpoint without the evaluation that is due
            self._evaluate()
            if self.writing and self.world.is_main:
                self.checkpoints.update_metadata(state.iteration, evaluated=state.evaluated)
        for batch in self.loader.batches(state.iteration, total_iter):
            self._step(batch)
            bar.update()
            self.progress.on_iteration_end(state.iteration)
            if state.iteration % settings.log_iter == 0:
                self._log_point()
            stopping = self._is_stopping(stop)
            if self._evaluation_is_due() and not stopping:
                self._evaluate()
            if stopping or state.iteration % settings.save_iter == 0 or state.iteration == total_iter:
                self.save()
            if stopping:
                return stop.received or signal.SIGTERM
        return 0

    def _step(self, batch: Batch) -> None:
        settings = self.config.model
        if settings.schedule == "cosine":
            part = self.state.iteration / settings.total_iter
            set_learning_rate(self.state.optimizer, settings.lr * (1 + math.cos(math.pi * part)) / 2)
        self.step(*batch)
        self.state.meter.iterations += 1
        self.state.iteration += 1
        if self.profiling is not None:
            self.profiling.step()

    def _is_stopping(self, stop: StopSignals) -> bool:
        if self.world.size == 1:
            return stop.received is not None
        if self.device.type != "cpu" and self.state.iteration % STOP_CHECK_INTERVAL:
            return False
        return distributed.any_process(stop.received is not None, self.device)

    def _log_point(self) -> None:
        """Log, then snapshot the state if it is finite."""
        self.progress.log_point(self.state.iteration)
        self._require_finite()
        if self.writing and self.world.is_main:
            parts = self.state.parts(self.state.meter.sums)
            self.last_good = self.state.iteration, map_tensors(parts, Tensor.clone)

    def _require_finite(self) -> None:
        """Raise NonFiniteError in all processes if the state of any process is not finite. Collective call."""
        if distributed.any_process(not self.state.is_finite(), self.device):
            raise NonFiniteError(NOT_FINITE.format(self.state.iteration))

    def _save_last_finite_state(self, error: UserError) -> UserError:
        """Save the last finite state if it is not saved yet. Return the error with resume instructions."""
        saved_at = self.state.saved_at or 0
        if self.world.is_main:
            survive_to_report()
        if self.last_good is not None and self.last_good[0] > saved_at:
            saved_at = self.last_good[0]
            if isinstance(error, NonFiniteError):  # the resumed run must repeat the evaluations after this state
                self.state.evaluated = min(self.state.evaluated, saved_at)
            self._write(*self.last_good)
        saved = f"the state of iteration {saved_at} is saved: resume with --restore_iter -1"
        hint = saved if saved_at else "no earlier state is saved: start again"
        advice = " and use a lower learning rate or --amp off" if isinstance(error, NonFiniteError) else ""
        error = type(error)(f"{error}; {hint}{advice}")
        error.already_reported = not self.world.is_main
        return error

    def _evaluation_is_due(self) -> bool:
        every, iteration = self.config.model.eval_iter, self.state.iteration
        return bool(every and self.evaluate) and iteration % every == 0 and self.state.evaluated < iteration

    def _evaluate(self) -> None:
        start = time.perf_counter()
        iteration = self.state.iteration
        self.state.evaluated = iteration  # even if the evaluation fails, so that a resumed run does not fail again
        score, failure = None, None
        try:
            score = self.evaluate()
        except UserError as error:  # raised on the main process only; the other processes must not wait for it forever
            failure = error
        if distributed.any_process(failure is not None, self.device):
            raise EvaluationError(f"iteration {iteration}: {failure or 'the evaluation failed'}")
        is_best = score is not None and self.checkpoints.update_best(score, iteration)
        if score is not None:
            self.progress.write_to_logbook(iteration, {"rank1": score})
        if distributed.any_process(is_best, self.device):  # only the main process has the score, but all must save
            self.save()
        self.progress.exclude_time(time.perf_counter() - start)

    def save(self) -> None:
        """Write the checkpoint of this iteration, unless it exists. Collective call."""
        state = self.state
        if not self.writing or state.saved_at == state.iteration:
            return
        # Save the sums of the losses of every rank. Restoring their mean on every rank would break bit-exact resume.
        sums = distributed.gather_rows(state.meter.sums[None], self.world.size, self.device)
        self._require_finite()
        if self.world.is_main:
            self._write(state.iteration, state.parts(sums))
        state.saved_at = state.iteration

    def _write(self, iteration: int, parts: dict[str, Any]) -> None:
        details = {
            "world_size": self.world.size, "device": describe(self.device), "evaluated": self.state.evaluated,
            "data": vars(self.config.data), "model": vars(self.config.model),
        }  # fmt: skip
        on_host = map_tensors(parts, Tensor.cpu)  # so that machines without this device can load the checkpoint
        self.checkpoints.save(iteration, on_host, details)

    def report(
        self, stopped_by: int, json: Path | None = None, zoo_log: bool = False, zoo_path: Path | None = None
    ) -> int:
        """Print how the run ended and what to do next. Return the exit status: 0, or 128 + the signal. Collective call.

        Args:
            json: file for a summary of the run.
            zoo_log: whether to print the result lines of the Ascend model zoo's training scripts.
            zoo_path: folder for a file with these result lines.
        """
        iteration = self.state.iteration
        checkpoint = str(self.checkpoints.files.part(iteration, "encoder")) if self.writing else None
        summary = {
            **self.progress.figures(iteration), "processes": self.world.size,
            "device": describe(self.device), "amp": self.config.model.amp, "iteration": iteration,
            "checkpoint": checkpoint,
        }  # fmt: skip
        self.progress.close()
        if self.world.is_main:
            if json is not None:
                write_json(json, summary)
            self._print_summary(summary, stopped_by)
        if self.profiling is not None:
            self.profiling.report()
        if zoo_log and summary["iterations"]:
            losses = self.progress.last_point or self.progress.mean_losses()
            if self.world.is_main:
                log_for_the_zoo(summary, self.config.model, losses, zoo_path, self.writing)
        return 128 + stopped_by if stopped_by else 0

    def _print_summary(self, summary: dict[str, Any], stopped_by: int) -> None:
        speed = "%(iterations_per_second).2f iterations/s, %(sequences_per_second).1f sequences/s"
        lines = [f"{counted(summary['iterations'], 'iteration')} in %(seconds).1f s: {speed}"]
        if not summary["iterations"]:
            lines = ["nothing to do: iteration %(iteration)d is already reached; a larger --iters continues training"]
        elif self.writing:
            lines.append("wrote %(checkpoint)s")
            if stopped_by:
                lines.append("next: the same command with --restore_iter -1 resumes from this checkpoint")
            else:
                embed = "-m model.embed --checkpoint %(quoted)s --output embeddings.nc"
                command = "test.py --checkpoint %(quoted)s --report" if self.evaluable else embed
                lines.append(f"next: python {command}, with the same data options as this run")
        log.log(RESULT, "\n".join(lines), {**summary, "quoted": shlex.quote(str(summary["checkpoint"]))})
