"""Training on the CPU in chunks of frames, compared with torch's gradients of all frames at once."""

import pytest
import torch

from model.devices.device import to_device
from model.network import GaitSet, cpu_training, triplet_losses

CPU = torch.device("cpu")
LENGTHS = [3, 25, 1, 7]  # the second sequence is longer than a chunk
ENDS = torch.tensor([0, 3, 28, 29, 36], dtype=torch.int32)


def gradients_of(network, sils, **arguments):
    network.zero_grad()
    embeddings = network(sils, **arguments)
    triplet_losses(embeddings, 2, 2, 0.2).full.mean().backward()
    return embeddings.detach(), [parameter.grad.clone() for parameter in network.parameters()]


@pytest.fixture(params=["AVX2", "AVX512"], autouse=True)
def capability(request, monkeypatch):
    """Test processors without and with AVX-512, because `sparse_layers` is used only without AVX-512."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)


@pytest.fixture
def frames():
    return (torch.rand(sum(LENGTHS), 64, 44, generator=torch.Generator().manual_seed(0)) > 0.6).byte() * 255


@pytest.fixture
def network():
    torch.manual_seed(0)
    return to_device(GaitSet(8), CPU)


def test_gradients_equal_those_of_all_frames_at_once(network, frames):
    """Frames after the last boundary must have no effect.

    The test uses float64, because in float32 rounding can decide which of two nearly equal frames or pixels gets a
    gradient.
    """
    network.double()
    embeddings, expected = gradients_of(network, frames, lengths=LENGTHS)
    ours, gradients = gradients_of(network, torch.cat([frames, frames[:5]]), ends=ENDS)
    assert (ours - embeddings).abs().max() < 1e-5 * embeddings.abs().max()
    for gradient, other in zip(gradients, expected, strict=True):
        assert (gradient - other).abs().max() < 1e-4 * other.abs().max()


def test_result_does_not_depend_on_the_number_of_threads(network, frames):
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            embeddings, gradients = gradients_of(network, frames, ends=ENDS)
            results.append([embeddings, *gradients[:6]])  # the first six gradients are those of the set layers
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(results[0], other, strict=True))


def test_threads_compute_in_the_precision_of_the_network(network, frames):
    network.amp_dtype = torch.bfloat16
    with network.autocast():
        expected = network.frame_maps(frames[:8])
    for pooled, maps in zip(network.pooled_maps(frames, ends=torch.arange(0, 9, 2)), expected, strict=True):
        assert pooled.dtype == maps.dtype == torch.bfloat16
        assert torch.equal(pooled.detach(), maps.detach().unflatten(0, (4, 2)).amax(1))


def test_chunks_hold_complete_sequences(frames):
    chunks = list(cpu_training._chunks(frames, [9, 10, 2, 15]))
    assert [lengths for _, lengths in chunks] == [[9, 10], [2, 15]]
    assert torch.equal(torch.cat([part for part, _ in chunks]), frames)
    assert [lengths for _, lengths in cpu_training._chunks(frames, LENGTHS)] == [[3], [25], [1, 7]]
