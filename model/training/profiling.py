"""What some iterations of a training run do and how long each operation takes, recorded by the device's profiler."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from types import TracebackType

import torch

from model.common.errors import UsageError
from model.common.messages import RESULT
from model.devices.device import kind_of, synchronize

log = logging.getLogger(__name__)

FIRST, ITERATIONS = 11, 5  # what is recorded when nothing else is said: libraries choose their kernels before


class Profiling:
    """Records iterations `start` to `stop` of a run, both counted from 1 where it begins, into a folder of its own.

    To be entered where iterations begin; a run that ends early, in whatever way, leaves what there is until then.
    Each process records itself. The files are those of torch.profiler and, on an NPU, torch_npu.profiler: Chrome
    traces that TensorBoard (plugin torch-tb-profiler), https://ui.perfetto.dev and MindStudio Insight show.
    """

    def __init__(self, folder: Path, device: torch.device, rank: int = 0, start: int = -1, stop: int = -1):
        """start, stop: -1 (as with the NPU port) for a few iterations after the first ones.

        Raises UsageError for a range without an iteration.
        """
        self.folder, self.device, self.rank = folder, device, rank
        self.start = FIRST if start == -1 else start
        self.stop = self.start + ITERATIONS - 1 if stop == -1 else stop
        if self.start < 1 or self.stop < self.start:
            raise UsageError(
                f"--start_step {self.start} to --stop_step {self.stop}: no iteration lies in that range; they count "
                "from 1, and the last is recorded too"
            )
        self.done = 0  # iterations of this run
        self.recorded = 0
        self.profiler = None

    def __enter__(self) -> Profiling:
        if self.start == 1:
            self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def step(self) -> None:
        """To be called after each iteration."""
        self.done += 1
        if self.profiler is not None:
            self.recorded += 1
            synchronize(self.device)  # what the iteration asked for belongs to it
            self.profiler.step()
        if self.done == self.start - 1:
            self._begin()
        elif self.done == self.stop:
            self._end()

    def _begin(self) -> None:
        module = importlib.import_module(kind_of(self.device).profiler)
        self.folder.mkdir(parents=True, exist_ok=True)
        activity, action = module.ProfilerActivity, module.ProfilerAction
        iterations = self.stop - self.start + 1

        def schedule(step: int) -> object:
            """The profiler's own would warn that there is no iteration for warming up; they were before."""
            if step >= iterations:
                return action.NONE
            return action.RECORD if step < iterations - 1 else action.RECORD_AND_SAVE

        synchronize(self.device)
        self.profiler = module.profile(
            activities=list({activity.CPU, getattr(activity, self.device.type.upper())}),
            schedule=schedule,
            on_trace_ready=module.tensorboard_trace_handler(str(self.folder), f"rank{self.rank}"),
        )
        self.profiler.start()

    def _end(self) -> None:
        """The profiler writes its files after the last iteration of the range; stopped before it, here."""
        if self.profiler is not None:
            self.profiler.stop()
            self.profiler = None

    def report(self) -> None:
        """Tell where the record is, or why there is none."""
        if not self.recorded:
            log.warning(
                "nothing profiled: the run ended after %d iterations, before --start_step %d", self.done, self.start
            )
            return
        last = self.start + self.recorded - 1
        log.log(
            RESULT,
            "profiled iterations %d to %d of this run: %s (tensorboard --logdir, or ui.perfetto.dev)",
            self.start, last, self.folder,
        )  # fmt: skip
