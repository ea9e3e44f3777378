"""One training iteration: loss, gradients, their exchange and the optimizer step."""

import math
import sys
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from unittest.mock import Mock

import pytest
import torch
from torch import nn
from training_steps import SmallNetwork, batch_of, new_step, with_classifier

from model.devices import distributed, triton_support
from model.network import triplet_losses
from model.training.classifier import SCALE, SMOOTHING, Classifier


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
    assert torch.allclose(step.state.meter.sums, sums)
    assert not torch.equal(network.matrix, SmallNetwork().matrix)


@pytest.mark.parametrize("wrapped", [False, True])
def test_gradients_are_averaged_once(monkeypatch, wrapped):
    """DistributedDataParallel averages the gradients itself. Without it, the step averages them once, before Adam."""
    taken, step = [], new_step()
    monkeypatch.setattr(distributed, "average_in_place", lambda gradients: taken.append(gradients.clone()))
    if not wrapped:
        step.flat_gradients = distributed.flatten_gradients(step.model.parameters())
    step(*batch_of(7, 0))
    assert len(taken) == (0 if wrapped else 1)
    assert all(torch.equal(flat, step.model.matrix.grad.flatten()) and flat.any() for flat in taken)


def test_cross_entropy_equals_that_of_plain_loops():
    labels = torch.tensor([0, 0, 2, 2])
    embeddings = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1))
    ours, losses = Classifier(3, 5, 4).requires_grad_(False), []
    for strip in range(3):
        mean, variance = embeddings[:, strip].mean(0), embeddings[:, strip].var(0, unbiased=False)
        for embedding, label in zip((embeddings[:, strip] - mean) / (variance + 1e-5).sqrt(), labels, strict=True):
            columns = ours.weight[strip].T
            cosines = [float(embedding @ column / embedding.norm() / column.norm()) for column in columns]
            total = math.log(sum(math.exp(SCALE * cosine) for cosine in cosines))
            wanted = [SMOOTHING / 4 + (1 - SMOOTHING) * (number == label) for number in range(4)]
            losses.append(sum(w * (total - SCALE * cosine) for w, cosine in zip(wanted, cosines, strict=True)))
    assert torch.isclose(ours(embeddings, labels), torch.tensor(losses).mean())


def test_step_adds_the_weighted_cross_entropy_to_the_gradients():
    gradients = {}
    for weight in (0.0, 0.25, 0.5):
        step = with_classifier(weight)
        step(*batch_of(7, 0))
        gradients[weight] = step.model.matrix.grad
    added = [gradients[weight] - gradients[0.0] for weight in (0.25, 0.5)]
    assert added[0].abs().max() > 1e-4
    torch.testing.assert_close(2 * added[0], added[1])


class TwoLayouts(nn.Module):
    """A network with two parameters: [3, 2, 2, 2] with the memory format channels_last, and [5]."""

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
    kernels = Mock()
    kernels.Losses.apply.side_effect = NotImplementedError
    monkeypatch.setattr(triton_support, "works", lambda device: True)
    monkeypatch.setitem(sys.modules, "model.network.kernels.triplet_loss", kernels)
    step = replace(new_step(), reference_loss=plain)
    with nullcontext() if plain else pytest.raises(NotImplementedError):
        step(*batch_of(7, 0))
    assert kernels.Losses.apply.called is not plain
