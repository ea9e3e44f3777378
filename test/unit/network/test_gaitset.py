"""Compare the network with values of the original, and check that packing does not change embeddings."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scripts import ROOT

from model.network import GaitSet

# Embeddings computed with the original code (AbnerHqC/GaitSet, commit 5535943) on a CPU in float32. The file holds
# every third strip, and every eighth of the 256 values of each strip.
REFERENCE = np.load(ROOT / "test/unit/support/reference/network.npz")
LARGEST = 3.127  # largest value of the complete reference embedding; tolerances are relative to this value


def formula_network() -> GaitSet:
    """Set element i, in C order, of parameter number L to sqrt(3 / fan_in)·sin(0.7·i·(L + 1) + L)."""
    network = GaitSet()
    for number, (name, parameter) in enumerate(network.state_dict().items()):
        i = np.arange(parameter.numel(), dtype=np.float64)
        fan_in = 128 if name == "fc_bin.0" else np.prod(parameter.shape[1:])
        values = np.sqrt(3 / fan_in) * np.sin(0.7 * i * (number + 1) + number)
        parameter.copy_(torch.from_numpy(values.astype(np.float32)).view_as(parameter))
    return network.eval()


def formula_silhouettes() -> torch.Tensor:
    i = np.arange(2 * 8 * 64 * 44, dtype=np.float64)
    white = np.sin(0.021 * i) + np.sin(0.0173 * np.sqrt(i)) > 0.3
    return torch.from_numpy(white.astype(np.float32)).view(2, 8, 64, 44)


@pytest.fixture(scope="module")
def network():
    return formula_network()


def test_parameter_names_and_shapes_equal_the_published_ones():
    state = GaitSet().state_dict()
    assert list(state) == REFERENCE["names"].tolist()
    assert [str(tuple(value.shape)) for value in state.values()] == REFERENCE["shapes"].tolist()


@torch.no_grad()
def test_embedding_equals_the_original(network):
    sils = formula_silhouettes()
    whole, packed = network(sils), network(sils[0], lengths=[5, 3])
    assert whole.shape == packed.shape == (2, 62, 256)
    for name, embedding in (("feature", whole), ("packed", packed)):
        assert np.abs(embedding[:, ::3, ::8].numpy() - REFERENCE[name]).max() < 3e-5 * LARGEST, name


@torch.no_grad()
def test_embedding_does_not_depend_on_other_sequences(network):
    frames = formula_silhouettes().flatten(0, 1)
    lengths = [1, 7, 3, 5]
    together = network(frames, lengths)
    alone = torch.cat([network(part.unsqueeze(0)) for part in frames.split(lengths)])
    assert (together - alone).abs().max() < 3e-5 * LARGEST


@torch.no_grad()
def test_order_and_repetition_of_frames_do_not_matter(network):
    sils = formula_silhouettes()[:1]
    expected = network(sils)
    for changed in (sils[:, torch.randperm(8)], torch.cat([sils, sils[:, :5]], 1)):
        assert torch.allclose(network(changed), expected, atol=3e-5 * LARGEST)


@pytest.mark.parametrize("lengths", [[5, 4], [8, 0], []])
def test_network_rejects_lengths_that_do_not_match(network, lengths):
    with pytest.raises(ValueError, match="lengths"):
        network(formula_silhouettes()[0], lengths)


@torch.no_grad()
def test_silhouettes_are_bytes_or_floats_up_to_one(network):
    sils = (formula_silhouettes() * 200).to(torch.uint8)  # grey: 200 of 255
    expected = network(sils.float() / 255)
    assert torch.equal(network(sils), expected)
    assert torch.equal(network(sils[0], lengths=[5, 3]), network(sils[0].float() / 255, lengths=[5, 3]))


@torch.no_grad()
def test_amp_dtype_selects_half_precision(network, monkeypatch):
    exact = network(formula_silhouettes())
    monkeypatch.setattr(network, "amp_dtype", torch.bfloat16)
    half = network(formula_silhouettes())
    assert half.dtype == torch.bfloat16 and exact.dtype == torch.float32
    assert 0 < (half - exact).abs().max() < 0.05 * LARGEST


@pytest.fixture
def fused_network(monkeypatch):
    """A fused network whose kernels are replaced by torch's maximum, and the list of the arguments of each call."""
    network, received = GaitSet(8).eval(), []

    def pooled_maps(network, frames, ends, dtype):
        received.append((frames, ends, dtype))
        maps = network.frame_maps(frames)
        return tuple(torch.stack([stage[a:b].amax(0) for a, b in pairwise(ends)]) for stage in maps)

    def embed(network, *pooled):
        with monkeypatch.context() as patch:
            patch.setattr(network, "fused", False)
            return network.embed(*pooled)

    fused_layers = SimpleNamespace(pooled_maps=pooled_maps, embed=embed)
    monkeypatch.setattr("model.network.gaitset._fused_layers", lambda: fused_layers)
    network.amp_dtype, network.fused = torch.bfloat16, True
    return network, received


@torch.no_grad()
def test_kernels_receive_frames_and_ends(fused_network):
    network, received = fused_network
    sils = formula_silhouettes().mul(255).to(torch.uint8)
    together = network(sils)
    packed = network(sils.flatten(0, 1), lengths=[8, 8])
    given = network(sils.flatten(0, 1), ends=torch.tensor([0, 8, 16], dtype=torch.int32))
    assert torch.equal(together, packed) and torch.equal(together, given)
    for frames, ends, dtype in received:
        assert torch.equal(frames, sils.flatten(0, 1)) and dtype == torch.bfloat16
        assert ends.dtype == torch.int32 and ends.tolist() == [0, 8, 16]
    network.fused = False
    assert (network(sils) - together).abs().max() < 0.05 * together.abs().max()
    assert len(received) == 3


@torch.no_grad()
def test_frames_past_the_last_end_belong_to_no_sequence(fused_network):
    network, _ = fused_network
    frames = formula_silhouettes()[0].mul(255).to(torch.uint8)
    ends = torch.tensor([0, 2, 5], dtype=torch.int32)
    embeddings = network(frames, ends=ends)
    changed = torch.cat([frames[:5], 255 - frames[5:]])
    assert torch.equal(network(changed, ends=ends), embeddings)
    assert not torch.equal(network(255 - changed, ends=ends), embeddings)


@torch.no_grad()
def test_kernels_are_used_for_bytes_only(fused_network):
    network, received = fused_network
    network(formula_silhouettes())
    assert not received


def test_gradients_equal_those_of_activating_before_pooling():
    """The original applies LeakyReLU before max pooling. Values and gradients must not depend on this order."""
    torch.manual_seed(3)
    x32 = torch.randn(3, 1, 8, 6).expand(3, 32, 8, 6)
    layer = GaitSet().set_layer2
    weight = layer.forward_block.conv.weight
    ours = layer(x32)
    theirs = F.max_pool2d(F.leaky_relu(F.conv2d(x32, weight, padding=1), 0.01), 2)
    assert torch.equal(ours, theirs)
    gradients = [torch.autograd.grad(output.square().sum(), weight)[0] for output in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


def test_initialization_is_xavier_uniform():
    torch.manual_seed(0)
    state = GaitSet().state_dict()
    for name, weight in state.items():
        fan_in, fan_out = torch.nn.init._calculate_fan_in_and_fan_out(weight)
        bound = (6 / (fan_in + fan_out)) ** 0.5
        assert 0.98 * bound < weight.abs().max() <= bound, name
