"""Training iterations as CUDA graphs. The CPU cannot capture graphs, so a stand-in replaces the device module."""

from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
import torch
from training_steps import CPU, batch_of, new_step, with_classifier

from model.devices import distributed
from model.devices.device import DEVICE_KINDS
from model.training import cuda_graph_step
from model.training.cuda_graph_step import CudaGraphStep
from model.training.precision import Precision


class Recorder:
    """Fake device module and fake step. A capture records the calls of the step, and each replay executes them."""

    def __init__(self, step):
        self.step, self.into, self.graphs, self.on_capture_stream, self.run = step, None, [], False, 0
        recorder = self

        class Graph:
            """The class of graphs, whose name the device table contains."""

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

    # The fake step

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

    # The fake device module

    def Stream(self, device):  # noqa: N802  the device modules of torch use this name
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
    # torch itself also calls get_device_module. For devices other than the CPU, such calls still reach the original.
    recorder, module_of = Recorder(new_step()), torch.get_device_module
    monkeypatch.setattr(torch, "get_device_module", lambda device: recorder if device == CPU else module_of(device))
    monkeypatch.setattr(cuda_graph_step, "kind_of", lambda device: replace(DEVICE_KINDS["cpu"], graph="TestGraph"))
    return recorder


def train(recorder, sizes) -> tuple[CudaGraphStep, list[str]]:
    """Run a batch of each size. Return the step and, for each batch, whether it was eager, captured or replayed."""
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
        # The first three batches run eagerly, whatever their sizes. Each size runs eagerly once before its capture.
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
    assert recorded.sils.shape == (24, 64, 44)  # the largest batch has four sequences of six frames
    assert [graph.memory for graph in recorder.graphs] == [None] + ["memory of recording 0"] * 3


def test_graphs_read_the_labels_of_each_batch(recorder):
    direct, recorder.step = with_classifier(0.5), with_classifier(0.5)
    train(recorder, [7] * 6)
    for number in range(6):
        direct(*batch_of(7, number))
    assert torch.equal(recorder.step.model.matrix, direct.model.matrix)
    assert torch.equal(recorder.step.state.classifier.norm.running_mean, direct.state.classifier.norm.running_mean)


@pytest.mark.parametrize("sizes", [[7] * 6, [7, 9, 7, 11, 9, 7, 11, 11, 9]], ids=["one size", "three sizes"])
def test_exchanges_between_processes_are_not_captured(recorder, monkeypatch, sizes):
    """Processes have different numbers of frames, so they would not capture and replay at the same time."""
    exchanged = []

    def average(gradients):
        assert recorder.into is None
        gradients /= 2  # as if the gradients of a second process were 0
        exchanged.append(gradients.data_ptr())

    monkeypatch.setattr(distributed, "average_in_place", average)
    with monkeypatch.context() as patch:
        patch.setattr(Precision, "backward", lambda self, loss, _: (loss / 2).backward())
        expected = weights_without_graphs(sizes)
    monkeypatch.setattr(distributed, "active", lambda: True)
    recorded = CudaGraphStep(recorder, CPU)
    recorder.step.flat_gradients = recorder.flat_gradients
    for number, frames in enumerate(sizes):
        recorded(*batch_of(frames, number))
        assert recorder.run == len(exchanged) == number + 1
    assert torch.equal(recorder.step.model.matrix, expected)
    assert len(set(exchanged)) == 1, "all graphs must use the same tensor of gradients"
    parts = [[call[0] for call in graph.calls] for graph in recorder.graphs]
    assert parts == [["gradients"], ["update"]] + [["gradients"]] * (len(set(sizes)) - 1)
