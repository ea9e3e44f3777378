"""One iteration, and its capture as a graph with a stand-in for a device, because the CPU captures no graphs."""

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from model.config import ModelConfig
from model.data.batches import Batch
from model.devices import distributed, triton_support
from model.devices.device import DEVICE_KINDS
from model.network import kernels as fused
from model.network import triplet_losses
from model.training import cuda_graph_step
from model.training.classifier import Classifier
from model.training.cuda_graph_step import CudaGraphStep
from model.training.log_book import LossMeter
from model.training.precision import Precision
from model.training.step import TrainingStep

CPU = torch.device("cpu")
SETTINGS = ModelConfig(batch_size=(2, 2), frame_num=6)


class SmallNetwork(nn.Module):
    """Packed frames -> embeddings [n, 3, 5]: the maximum of a few numbers over the frames of each sequence."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(64, 15, generator=torch.Generator().manual_seed(0)) * 0.02)

    def forward(self, sils, ends):
        features = sils.float().div(255).mean(2) @ self.matrix
        return torch.stack([features[a:b].amax(0) for a, b in pairwise(ends.tolist())]).view(-1, 3, 5)


def new_step(network=None, **settings) -> TrainingStep:
    network = network or SmallNetwork()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    return TrainingStep(network, optimizer, Precision(), LossMeter(CPU), replace(SETTINGS, **settings))


def batch_of(frames: int, seed: int) -> Batch:
    """Return `frames` frames. The last frame belongs to none of the four sequences."""
    generator = torch.Generator().manual_seed(seed)
    sils = torch.randint(256, (frames, 64, 44), dtype=torch.uint8, generator=generator)
    return Batch(sils, torch.tensor([0, 1, 2, 3, frames - 1], dtype=torch.int32), torch.tensor([0, 0, 1, 1]) + seed % 3)


@pytest.mark.parametrize("kind", ["full", "hard"])
def test_step_computes_loss_gradients_adam_and_meter(kind):
    step, network = new_step(hard_or_full_trip=kind), SmallNetwork()
    optimizer, sums = torch.optim.Adam(network.parameters(), lr=0.01), torch.zeros(4)
    for seed in range(3):
        batch = batch_of(7, seed)
        step(*batch)
        losses = triplet_losses(network(*batch[:2]), 2, 2, 0.2)
        optimizer.zero_grad()
        getattr(losses, kind).mean().backward()
        optimizer.step()
        names = ("hard", "full", "full_num", "mean_dist")
        sums += torch.stack([getattr(losses, name).detach().mean() for name in names])
    assert torch.equal(step.model.matrix, network.matrix)
    assert torch.allclose(step.meter.sums, sums)
    assert not torch.equal(network.matrix, SmallNetwork().matrix)


@pytest.mark.parametrize("wrapped", [False, True])
def test_gradients_are_averaged_once(monkeypatch, wrapped):
    """A wrapper averages gradients itself. For a bare network, they are averaged between the backward pass and Adam."""
    taken, step = [], new_step()
    monkeypatch.setattr(distributed, "average_in_place", lambda gradients: taken.append(gradients.clone()))
    if not wrapped:
        step.flat_gradients = distributed.flatten_gradients(step.model.parameters())
    step(*batch_of(7, 0))
    assert len(taken) == (0 if wrapped else 1)
    assert all(torch.equal(flat, step.model.matrix.grad.flatten()) and flat.any() for flat in taken)


class Recorder:
    """Fake device module, and a step whose calls are recorded during a capture and run at each replay."""

    def __init__(self, step):
        self.step, self.into, self.graphs, self.on_capture_stream, self.run = step, None, [], False, 0
        recorder = self

        class Graph:
            """The class with the name in the device table."""

            def __init__(self):
                self.calls, self.replays = [], 0
                recorder.graphs.append(self)

            def replay(self):
                self.replays += 1
                for call in self.calls:
                    recorder.execute(*call)

            def pool(self):
                return f"memory of recording {recorder.graphs.index(self)}"

        self.TestGraph = Graph

    # The step

    def __call__(self, *arguments) -> None:
        self.record("__call__", *arguments)

    def gradients(self, *arguments) -> None:
        self.record("gradients", *arguments)

    def update(self) -> None:
        self.record("update")

    def record(self, *call) -> None:
        if self.into is not None:
            self.into.calls.append(call)
            return
        assert self.on_capture_stream, "tensors saved by autograd must belong to the capture stream"
        self.execute(*call)

    def execute(self, part, *arguments) -> None:
        self.run += part != "update"
        getattr(self.step, part)(*arguments)

    def __getattr__(self, name):
        return getattr(self.step, name)

    @property
    def flat_gradients(self) -> torch.Tensor | None:
        return self.step.flat_gradients

    @flat_gradients.setter
    def flat_gradients(self, value: torch.Tensor) -> None:
        self.step.flat_gradients = value

    # The device module

    def Stream(self, device):  # noqa: N802  the device's own name
        return Stream("recordings")

    def current_stream(self, device):
        return Stream("current")

    @contextmanager
    def stream(self, stream):
        assert stream.name == "recordings"
        self.on_capture_stream = True
        yield
        self.on_capture_stream = False

    @contextmanager
    def graph(self, graph, pool, stream, capture_error_mode):
        assert stream.name == "recordings" and capture_error_mode == "thread_local"
        self.into, graph.memory = graph, pool
        yield
        self.into = None


@dataclass
class Stream:
    name: str

    def wait_stream(self, other) -> None:
        assert {self.name, other.name} == {"recordings", "current"}


@pytest.fixture
def recorder(monkeypatch):
    recorder, module_of = Recorder(new_step()), torch.get_device_module  # torch itself calls this function, too
    monkeypatch.setattr(torch, "get_device_module", lambda device: recorder if device == CPU else module_of(device))
    monkeypatch.setattr(cuda_graph_step, "kind_of", lambda device: replace(DEVICE_KINDS["cpu"], graph="TestGraph"))
    return recorder


def train(recorder, sizes) -> tuple[CudaGraphStep, list[str]]:
    """Run a batch of each size and return for each whether it ran directly, was captured, or was replayed."""
    step, kinds = CudaGraphStep(recorder, CPU), []
    for number, frames in enumerate(sizes):
        graphs, replays = len(recorder.graphs), sum(graph.replays for graph in recorder.graphs)
        batch = batch_of(frames, number)
        step(*batch)
        batch.sils.zero_()  # the loader may reuse the memory of the batch
        batch.ends.zero_()
        batch.labels.zero_()
        assert recorder.run == number + 1
        replayed = sum(graph.replays for graph in recorder.graphs) - replays
        kinds.append("captured" if len(recorder.graphs) > graphs else "replayed" if replayed else "eager")
        assert replayed == (kinds[-1] != "eager")
    return step, kinds


def weights_without_graphs(sizes) -> torch.Tensor:
    step = new_step()
    for number, frames in enumerate(sizes):
        step(*batch_of(frames, number))
    return step.model.matrix


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([7] * 6, ["eager"] * 3 + ["captured", "replayed", "replayed"]),
        # The first three batches of any size run directly, then each size once before its capture.
        ([7, 9, 7, 11, 9, 7, 11, 11, 9], ["eager"] * 4 + ["captured"] * 3 + ["replayed"] * 2),
        ([5, 6, 7, 8, 9], ["eager"] * 5),
    ],
    ids=["one size", "three sizes", "each once"],
)
def test_batch_size_is_captured_at_its_second_use_and_no_iteration_is_lost(recorder, sizes, expected):
    _, kinds = train(recorder, sizes)
    assert kinds == expected
    assert torch.equal(recorder.step.model.matrix, weights_without_graphs(sizes))
    assert all(len(graph.calls) == 1 for graph in recorder.graphs)


def test_further_sizes_run_without_a_graph(recorder, monkeypatch):
    monkeypatch.setattr(cuda_graph_step, "MAX_GRAPHS", 2)
    sizes = [5, 6, 7, 5, 6, 7, 7, 5, 7]
    _, kinds = train(recorder, sizes)
    assert kinds == ["eager"] * 3 + ["captured", "captured", "eager", "eager", "replayed", "eager"]
    assert torch.equal(recorder.step.model.matrix, weights_without_graphs(sizes))


def test_graphs_read_the_same_input_and_share_their_memory(recorder):
    recorded, _ = train(recorder, [5, 6, 7, 5, 6, 7, 24, 24])
    assert len(recorder.graphs) == 4
    for graph, frames in zip(recorder.graphs, (5, 6, 7, 24), strict=True):
        ((_, sils, ends, _),) = graph.calls
        assert sils.data_ptr() == recorded.sils.data_ptr() and len(sils) == frames
        assert ends.data_ptr() == recorded.ends.data_ptr() and len(ends) == 5
    assert recorded.sils.shape == (24, 64, 44)  # four sequences of six frames is the most that comes
    assert [graph.memory for graph in recorder.graphs] == [None] + ["memory of recording 0"] * 3


def with_classifier(weight: float) -> TrainingStep:
    torch.manual_seed(0)
    return replace(new_step(cross_entropy=weight), classifier=Classifier(3, 5, 4))


def test_step_adds_the_weighted_cross_entropy_to_the_gradients():
    gradients = {}
    for weight in (0.0, 0.25, 0.5):
        step = with_classifier(weight)
        step(*batch_of(7, 0))
        gradients[weight] = step.model.matrix.grad
    added = [gradients[weight] - gradients[0.0] for weight in (0.25, 0.5)]
    assert added[0].abs().max() > 1e-4
    torch.testing.assert_close(2 * added[0], added[1])


def test_graphs_read_the_labels_of_each_batch(recorder):
    direct, recorder.step = with_classifier(0.5), with_classifier(0.5)
    train(recorder, [7] * 6)
    for number in range(6):
        direct(*batch_of(7, number))
    assert torch.equal(recorder.step.model.matrix, direct.model.matrix)
    assert torch.equal(recorder.step.classifier.norm.running_mean, direct.classifier.norm.running_mean)


@pytest.mark.parametrize("sizes", [[7] * 6, [7, 9, 7, 11, 9, 7, 11, 11, 9]], ids=["one size", "three sizes"])
def test_exchanges_between_processes_are_not_captured(recorder, monkeypatch, sizes):
    """Processes have different numbers of frames, so they would not capture and replay at the same time."""
    exchanged = []

    def average(gradients):
        assert recorder.into is None
        gradients /= 2  # as if the other process's were 0
        exchanged.append(gradients.data_ptr())

    monkeypatch.setattr(distributed, "average_in_place", average)
    with monkeypatch.context() as patch:
        patch.setattr(Precision, "backward", lambda self, loss, _: (loss / 2).backward())
        expected = weights_without_graphs(sizes)
    monkeypatch.setattr(distributed, "active", lambda: True)
    recorded = CudaGraphStep(recorder, CPU)
    for number, frames in enumerate(sizes):
        recorded(*batch_of(frames, number))
        assert recorder.run == len(exchanged) == number + 1
    assert torch.equal(recorder.step.model.matrix, expected)
    assert len(set(exchanged)) == 1, "the update reads where it was recorded to"
    parts = [[call[0] for call in graph.calls] for graph in recorder.graphs]
    assert parts == [["gradients"], ["update"]] + [["gradients"]] * (len(set(sizes)) - 1)


class TwoLayouts(nn.Module):
    """Return parameters [3, 2, 2, 2], with the memory format channels_last, and [5]."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        kernel = torch.randn(3, 2, 2, 2, generator=generator).to(memory_format=torch.channels_last)
        self.kernel, self.scale = nn.Parameter(kernel), nn.Parameter(torch.randn(5, generator=generator))

    def forward(self, sils, ends):
        maps = nn.functional.conv2d(sils.float().div(255).view(-1, 2, 32, 44), self.kernel)
        features = maps.mean((2, 3)).view(-1, 1, 3) * self.scale.view(5, 1)
        return torch.stack([features[a:b].amax(0) for a, b in pairwise(ends.tolist())])


def test_one_tensor_holds_all_gradients_for_the_exchange_between_graphs():
    steps = [new_step(TwoLayouts()) for _ in range(2)]
    flat = steps[0].flat_gradients = distributed.flatten_gradients(steps[0].model.parameters())
    for seed in range(3):
        for step in steps:
            step(*batch_of(7, seed))
        grads = [[parameter.grad for parameter in step.model.parameters()] for step in steps]
        for kept, fresh, parameter in zip(*grads, steps[0].model.parameters(), strict=True):
            assert kept.untyped_storage().data_ptr() == flat.untyped_storage().data_ptr()
            assert kept.stride() == parameter.stride() and torch.equal(kept, fresh)
        assert flat.abs().sum() == pytest.approx(sum(float(grad.abs().sum()) for grad in grads[1]))
    for ours, theirs in zip(*(step.model.parameters() for step in steps), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("plain", [False, True])
def test_plain_kernels_also_compute_the_loss_with_torch(monkeypatch, plain):
    kernel = Mock(side_effect=NotImplementedError)
    monkeypatch.setattr(triton_support, "works", lambda device: True)
    monkeypatch.setattr(fused, "triplet_losses", kernel)
    step = replace(new_step(), reference_loss=plain)
    with nullcontext() if plain else pytest.raises(NotImplementedError):
        step(*batch_of(7, 0))
    assert kernel.called is not plain
