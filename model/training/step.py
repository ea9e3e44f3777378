"""One iteration of training, and the same recorded once and replayed, which spares the host all but one call."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from model.config import ModelConfig
from model.devices import distributed
from model.devices.device import kind_of
from model.network.triplet import triplet_losses
from model.training.log_book import LossMeter
from model.training.precision import Precision

FIRST_EAGER = 3  # iterations before the first recording: libraries choose and compile kernels in them
MOST_RECORDINGS = 16  # further sizes run eagerly


@dataclass
class TrainingStep:
    """Forward, losses, gradients, one step of the optimizer, and the sums of the meter. Reads nothing back.

    model: the network, or its wrapper that takes the mean of gradients over processes. A bare network in one of
    several processes has the mean taken here, between two parts that recordings can hold.
    plain: whether the loss keeps to torch's own kernels.
    flat_gradients: the one tensor that holds all gradients (`distributed.flatten_gradients`), where iterations are to
    write into the same memory every time.
    """

    model: nn.Module
    optimizer: Optimizer
    precision: Precision
    meter: LossMeter
    settings: ModelConfig
    plain: bool = False
    flat_gradients: Tensor | None = None

    def __call__(self, sils: Tensor, ends: Tensor | None) -> None:
        self.gradients(sils, ends)
        self.exchange()
        self.update()

    def gradients(self, sils: Tensor, ends: Tensor | None) -> None:
        embeddings = self.model(sils, ends=ends)
        losses = triplet_losses(embeddings, *self.settings.batch_size, self.settings.margin, self.plain)
        loss = losses.full if self.settings.hard_or_full_trip == "full" else losses.hard
        if self.flat_gradients is not None:
            self.flat_gradients.zero_()
        else:
            self.optimizer.zero_grad()  # no arguments: apex's takes none, and torch_npu's must keep the tensors
        self.precision.backward(loss.mean(), self.optimizer)
        self.meter.add(losses)

    def exchange(self) -> None:
        if self.flat_gradients is not None:
            distributed.average_in_place(self.flat_gradients)
        elif not distributed.is_wrapped(self.model):
            distributed.average_gradients(self.model.parameters())

    def update(self) -> None:
        self.precision.step(self.optimizer)


class RecordedStep:
    """A TrainingStep on packed batches that is recorded, once a number of frames, when that comes for the second time.

    Every call is an iteration of training: those before a recording run as they are, and recording itself only
    records. All recordings share their memory, as only one runs at a time.

    What several processes exchange stays out of the recordings: NCCL wants such a recording made and replayed by all
    at once, though each has its own numbers of frames, and does not let a group go while one is left. So gradients
    are recorded once a number of frames, always into the same tensor, and the update after the exchange once.
    """

    def __init__(self, step: TrainingStep, device: torch.device):
        self.step, self.device = step, device
        self.module = torch.get_device_module(device)
        self.stream = self.module.Stream(device)
        self.seen: Counter[int] = Counter()
        self.graphs: dict[int, object] = {}
        self.update: object | None = None  # recorded apart from the gradients where there is an exchange
        self.exchanges = distributed.active()
        if self.exchanges:
            step.flat_gradients = distributed.flatten_gradients(step.model.parameters())
        # What a recording reads lies where it was when it was made, so all read from here.
        sequences = math.prod(step.settings.batch_size)
        self.sils = torch.empty(sequences * step.settings.frame_num, 64, 44, dtype=torch.uint8, device=device)
        self.ends = torch.empty(sequences + 1, dtype=torch.int32, device=device)

    def __call__(self, sils: Tensor, ends: Tensor) -> None:
        frames = len(sils)
        if frames not in self.graphs:
            eager = self.seen.total() < FIRST_EAGER or not self.seen[frames] or len(self.graphs) >= MOST_RECORDINGS
            self.seen[frames] += 1
            if eager:
                self._run_aside(sils, ends)
                return
            part = self.step.gradients if self.exchanges else self.step
            self.graphs[frames] = self._record(partial(part, self.sils[:frames], self.ends))
            if self.exchanges and self.update is None:
                self.update = self._record(self.step.update)
        self.sils[:frames].copy_(sils)
        self.ends.copy_(ends)
        self.graphs[frames].replay()
        if self.exchanges:
            self.step.exchange()
            self.update.replay()

    def _run_aside(self, sils: Tensor, ends: Tensor) -> None:
        """Run on the stream that recordings use: what autograd keeps from one iteration to the next is bound to it."""
        self.stream.wait_stream(self.module.current_stream(self.device))
        with self.module.stream(self.stream):
            self.step(sils, ends)
        self.module.current_stream(self.device).wait_stream(self.stream)

    def _record(self, work: Callable[[], None]):
        graph = getattr(self.module, kind_of(self.device).graph)()
        pool = next(iter(self.graphs.values())).pool() if self.graphs else None
        # Threads that read ahead may allocate meanwhile; only what this one does is recorded.
        with self.module.graph(graph, pool=pool, stream=self.stream, capture_error_mode="thread_local"):
            work()
        return graph
