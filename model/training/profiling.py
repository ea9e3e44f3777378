"""Traces of some iterations of a training run, recorded with the profiler of the device."""

import importlib
import logging
from pathlib import Path

import torch

from model.common.errors import UsageError, counted
from model.common.messages import RESULT
from model.devices.device import kind_of, synchronize

log = logging.getLogger(__name__)

FIRST, ITERATIONS = 11, 5  # the default range; libraries choose their kernels in the iterations before it


class Profiling:
    """Context manager that traces iterations `start` to `stop` of a run, counted from 1 at its first iteration.

    If the run ends early, for any reason, the iterations traced until then are written. Each process writes its own
    trace. The files are those of torch.profiler or, on an NPU, torch_npu.profiler: Chrome traces that TensorBoard
    (plugin torch-tb-profiler), https://ui.perfetto.dev and MindStudio Insight show.
    """

    def __init__(self, folder: Path, device: torch.device, rank: int = 0, start: int = -1, stop: int = -1):
        """Prepare a trace.

        Args:
            start: first iteration; -1 (as in the NPU port) for FIRST.
            stop: last iteration; -1 for ITERATIONS iterations in all.

        Raises:
            UsageError: if the range is empty.
        """
        self.folder, self.device, self.rank = folder, device, rank
        self.start = FIRST if start == -1 else start
        self.stop = self.start + ITERATIONS - 1 if stop == -1 else stop
        if self.start < 1 or self.stop < self.start:
            raise UsageError(
                f"--start_step {self.start} to --stop_step {self.stop}: the range is empty; iterations are "
                "numbered from 1, and the last is included"
            )
        self.done = 0  # iterations of this run

    def __enter__(self) -> "Profiling":
        module = importlib.import_module(kind_of(self.device).profiler)
        activity, action = module.ProfilerActivity, module.ProfilerAction

        def schedule(done: int) -> object:
            """Replace the profiler's schedule, which warns if there is no warm-up; the iterations before were one."""
            if not self.start <= done + 1 <= self.stop:
                return action.NONE
            self.folder.mkdir(parents=True, exist_ok=True)  # torch raises RuntimeError if it cannot
            return action.RECORD_AND_SAVE if done + 1 == self.stop else action.RECORD

        self.profiler = module.profile(
            activities=list({activity.CPU, getattr(activity, self.device.type.upper())}),
            schedule=schedule,
            on_trace_ready=module.tensorboard_trace_handler(str(self.folder), f"rank{self.rank}"),
        )
        self.profiler.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.profiler.stop()  # writes the files if the run ended within the range

    def step(self) -> None:
        """Call this after each iteration."""
        self.done += 1
        if self.start - 1 <= self.done <= self.stop:
            synchronize(self.device)  # kernels that the iteration launched belong to it
        self.profiler.step()

    def report(self) -> None:
        """Log the folder of the trace, or why there is none."""
        last = min(self.done, self.stop)
        if last < self.start:
            ended = counted(self.done, "iteration")
            log.warning("nothing profiled: the run ended after %s, before --start_step %d", ended, self.start)
            return
        log.log(
            RESULT,
            "profiled iterations %d to %d of this run: %s (tensorboard --logdir, or ui.perfetto.dev)",
            self.start, last, self.folder,
        )  # fmt: skip
