"""Log the losses of a training run, count its skipped steps, and measure its speed."""

import logging
import math
import time
from dataclasses import dataclass, field

import torch

from model.config import ModelConfig
from model.devices import distributed
from model.devices.device import synchronize
from model.devices.world import World
from model.training.log_book import COLLAPSE_ADVICE, FIELDS, LogBook, is_collapsed, log_line
from model.training.optimizer import steps_taken
from model.training.state import NonFiniteError, TrainingState

log = logging.getLogger(__name__)

WARM_UP = 10  # first iterations that are excluded from the throughput, if the run is much longer
ALL_SKIPPED = 50  # consecutive skipped steps after which training ends: halved 50 times, a scale of 65536 is almost 0

OVERFLOW = (
    "iteration {}: the last {} steps were all skipped because gradients overflow half precision at every loss scale; "
    "try --amp_dtype bf16, --kernels plain or --amp off"
)
NOT_FINITE = "iteration {}: the loss, a weight or Adam's state is not a finite number"


@dataclass
class Progress:
    """Counts and times the iterations of a run. All processes compute the log points; the main process writes them."""

    state: TrainingState
    settings: ModelConfig
    device: torch.device
    world: World
    logbook: LogBook | None = None
    last_point: dict = field(default_factory=dict)  # empty before the first log point

    def start(self, iteration: int, total_iter: int) -> None:
        """Start measuring the time of a run that continues after `iteration`."""
        self.total_iter = total_iter
        self._since = self._started = self._warm = time.perf_counter(), iteration
        self._stepped = steps_taken(self.state.optimizer)
        self.skipped = 0  # steps of this run that were skipped because gradients overflowed
        self._skipped_in_a_row = 0

    def on_iteration_end(self, iteration: int) -> None:
        """Start measuring the throughput of the run if the warm-up ends with this iteration."""
        if iteration - self._started[1] == WARM_UP and self.total_iter - iteration > 5 * WARM_UP:
            synchronize(self.device)
            self._warm = time.perf_counter(), iteration

    def exclude_time(self, seconds: float) -> None:
        """Exclude a time, for example the time of an evaluation, from the speed of the next log point."""
        since, iteration = self._since
        self._since = since + seconds, iteration

    def log_point(self, iteration: int) -> None:
        """Write the mean losses and the speed since the last log point. Collective call.

        Raises:
            NonFiniteError: if a loss is not finite, or if at least the last ALL_SKIPPED steps were all skipped.
        """
        synchronize(self.device)
        since, before = self._since
        seconds = time.perf_counter() - since
        point = self.mean_losses()
        point |= {
            "lr": float(self.state.optimizer.param_groups[0]["lr"]),
            "hard_or_full": self.settings.hard_or_full_trip,
            "iterations_per_second": (iteration - before) / seconds,
            "skipped": self._count_skipped(iteration - before),
        }
        self.state.meter.reset()
        self.last_point = point
        if self.world.is_main:
            log.info(log_line(iteration, point))
            self.write_to_logbook(iteration, point)
            if is_collapsed(point, self.settings.margin):
                log.warning("%s", COLLAPSE_ADVICE)
        if not all(math.isfinite(point[name]) for name in FIELDS):
            raise NonFiniteError(NOT_FINITE.format(iteration))
        if self._skipped_in_a_row >= ALL_SKIPPED:
            raise NonFiniteError(OVERFLOW.format(iteration, self._skipped_in_a_row))
        self._since = time.perf_counter(), iteration

    def mean_losses(self) -> dict[str, float]:
        """Return the mean losses since the last log point. Collective call."""
        means = self.state.meter.means().float()
        distributed.average_in_place(means)
        return dict(zip(FIELDS, means.tolist(), strict=True))

    def _count_skipped(self, iterations: int) -> int:
        """Return how many of the last `iterations` iterations skipped the optimizer step."""
        stepped = steps_taken(self.state.optimizer)
        skipped = iterations - (stepped - self._stepped)
        self._stepped = stepped
        self.skipped += skipped
        self._skipped_in_a_row = self._skipped_in_a_row + skipped if skipped == iterations else 0
        return skipped

    def write_to_logbook(self, iteration: int, point: dict) -> None:
        """Write to train.jsonl and TensorBoard, if this process keeps a log."""
        if self.logbook is not None:
            self.logbook.write(iteration, point)

    def close(self) -> None:
        if self.logbook is not None:
            self.logbook.close()

    def figures(self, iteration: int) -> dict[str, float]:
        """Return the duration and speed of the run, which ends after `iteration`."""
        synchronize(self.device)
        now = time.perf_counter()
        counted = iteration - self._warm[1]
        speed = counted / (now - self._warm[0])
        return {
            "iterations": iteration - self._started[1],
            "seconds": now - self._started[0],
            "counted_iterations": counted,
            "iterations_per_second": speed,
            "steps_left_out": self.skipped,
            "sequences_per_second": speed * math.prod(self.settings.batch_size) * self.world.size,
        }
