"""Trace a range of iterations of a training run with the profiler of the device."""

import importlib
import logging
from pathlib import Path

import torch

from model.common.errors import UsageError, counted
from model.common.messages import RESULT
from model.devices.device import kind_of, synchronize

log = logging.getLogger(__name__)

# Defaults: first iteration and number of iterations. Libraries choose their kernels in the iterations before FIRST.
FIRST, ITERATIONS = 11, 5


class Profiling:
    """Context manager that traces the iterations `start` to `stop` of a run.

    Iteration 1 is the first iteration of this run, even if the run resumes a checkpoint. If the run ends or fails
    within the range, the trace of the completed part is written. Each process writes its own trace.

    The files are Chrome traces, written by torch.profiler or, on an NPU, by torch_npu.profiler. TensorBoard with the
    plugin torch-tb-profiler, https://ui.perfetto.dev and MindStudio Insight show them.
    """

    def __init__(self, folder: Path, device: torch.device, rank: int = 0, start: int = -1, stop: int = -1):
        """Prepare a trace.

        Args:
            folder: folder of the trace files.
            rank: rank of this process, which becomes part of the file names.
            start: first iteration; -1, the default of the NPU port, means FIRST.
            stop: last iteration; -1 means that ITERATIONS iterations are traced.

        Raises:
            UsageError: if `start` is less than 1 or `stop` is less than `start`.
        """
        self.folder, self.device, self.rank = folder, device, rank
        self.start = FIRST if start == -1 else start
        self.stop = self.start + ITERATIONS - 1 if stop == -1 else stop
        if self.start < 1 or self.stop < self.start:
            raise UsageError(
                f"--start_step {self.start} --stop_step {self.stop}: the range of iterations is invalid; --start_step "
                "must be at least 1, and --stop_step at least --start_step"
            )
        self.done = 0  # completed iterations of this run

    def __enter__(self) -> "Profiling":
        module = importlib.import_module(kind_of(self.device).profiler)
        activity, action = module.ProfilerActivity, module.ProfilerAction

        def schedule(done: int) -> object:
            """Return the action of the profiler after `done` iterations.

            The profiler's own schedule is not used, because it would warn that there is no warm-up, although the
            iterations before `start` serve as a warm-up.
            """
            if not self.start <= done + 1 <= self.stop:
                return action.NONE
            self.folder.mkdir(parents=True, exist_ok=True)  # torch would turn an OSError into a RuntimeError
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
        """Count one iteration. Call this method after each iteration."""
        self.done += 1
        if self.start - 1 <= self.done <= self.stop:
            synchronize(self.device)  # the trace of an iteration includes all kernels that the iteration launched
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
            "profiled iterations %d to %d of this run: %s (show with tensorboard --logdir or ui.perfetto.dev)",
            self.start, last, self.folder,
        )  # fmt: skip
