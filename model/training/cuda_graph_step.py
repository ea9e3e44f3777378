"""A training iteration as a CUDA graph, which is captured once and then replayed with a single call of the host."""

import math
from collections import Counter
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from model.devices import distributed
from model.devices.device import kind_of
from model.training.step import TrainingStep

FIRST_EAGER = 3  # minimum number of iterations before the first capture; in these, libraries choose and compile kernels
MAX_GRAPHS = 16  # maximum number of frame counts with a graph; batches with other frame counts run eagerly


class CudaGraphStep:
    """Run a TrainingStep on packed batches. Capture one CUDA graph per frame count, on its second occurrence.

    Every call is one training iteration. A capture only records the kernels, so the new graph is also replayed in the
    same call. All graphs share their memory, because only one of them runs at a time.

    The exchange of gradients between processes is not captured, for two reasons. NCCL requires that all processes
    capture and replay the exchange at the same time, but the processes have batches with different frame counts. NCCL
    also does not release a process group while a graph with an exchange exists. So there is one graph per frame count
    for the gradients, which are always written to the same tensor, and one graph for the update after the exchange.
    """

    def __init__(self, step: TrainingStep, device: torch.device):
        self.step, self.device = step, device
        self.module = torch.get_device_module(device)
        self.stream = self.module.Stream(device)
        self.seen: Counter[int] = Counter()
        self.graphs: dict[int, object] = {}
        self.update: object | None = None  # graph of the update after the exchange, if there is an exchange
        self.exchanges = distributed.active()
        if self.exchanges:
            step.flat_gradients = distributed.flatten_gradients(step.model.parameters())
        # A graph reads from the memory addresses that its capture used, so each batch is copied to these tensors.
        sequences = math.prod(step.settings.batch_size)
        self.sils = torch.empty(sequences * step.settings.frame_num, 64, 44, dtype=torch.uint8, device=device)
        self.ends = torch.empty(sequences + 1, dtype=torch.int32, device=device)
        self.labels = torch.empty(sequences, dtype=torch.int64, device=device)

    def __call__(self, sils: Tensor, ends: Tensor, labels: Tensor | None = None) -> None:
        frames = len(sils)
        if frames not in self.graphs:
            eager = self.seen.total() < FIRST_EAGER or not self.seen[frames] or len(self.graphs) >= MAX_GRAPHS
            self.seen[frames] += 1
            if eager:
                self._run_on_capture_stream(sils, ends, labels)
                return
            part = self.step.gradients if self.exchanges else self.step
            self.graphs[frames] = self._capture(partial(part, self.sils[:frames], self.ends, self.labels))
            if self.exchanges and self.update is None:
                self.update = self._capture(self.step.update)
        self.sils[:frames].copy_(sils)
        self.ends.copy_(ends)
        if labels is not None:
            self.labels.copy_(labels)
        self.graphs[frames].replay()
        if self.exchanges:
            self.step.exchange()
            self.update.replay()

    def _run_on_capture_stream(self, *batch: Tensor | None) -> None:
        """Run eagerly on the capture stream, to which autograd binds the tensors that it keeps between iterations."""
        self.stream.wait_stream(self.module.current_stream(self.device))
        with self.module.stream(self.stream):
            self.step(*batch)
        self.module.current_stream(self.device).wait_stream(self.stream)

    def _capture(self, work: Callable[[], None]):
        graph = getattr(self.module, kind_of(self.device).graph)()
        pool = next(iter(self.graphs.values())).pool() if self.graphs else None
        # With `thread_local`, the threads that prefetch batches may allocate memory during the capture.
        with self.module.graph(graph, pool=pool, stream=self.stream, capture_error_mode="thread_local"):
            work()
        return graph
