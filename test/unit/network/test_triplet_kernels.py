"""Compare the Triton kernels of the triplet losses with the implementation in torch, the reference."""

import pytest
import torch
from random_silhouettes import difference

from model.devices import triton_support
from model.network import triplet_losses


def some_embeddings(p: int, k: int) -> torch.Tensor:
    """Return embeddings [p·k, 3, 8]. Their distances are short, medium or long compared with a margin of 0.2."""
    x = torch.randn(p * k, 3, 8, generator=torch.Generator().manual_seed(p * 10 + k))
    return x * torch.tensor([0.03, 0.1, 0.3])[None, :, None]


def both(kernels, monkeypatch, batch, p, k):
    """Yield a leaf tensor and its losses, first from the kernels and then from torch."""
    for works in (True, False):
        monkeypatch.setattr(triton_support, "works", lambda device, works=works: works)
        leaf = batch.clone().requires_grad_()
        yield leaf, [each.cpu() for each in triplet_losses(leaf.to(kernels.device), p, k, 0.2)]


@pytest.mark.parametrize("name", ["full", "hard"])
@pytest.mark.parametrize(("p", "k"), [(2, 1), (3, 5), (4, 4)])
def test_losses_and_gradients_equal_the_reference(kernels, monkeypatch, p, k, name):
    (ours_leaf, ours), (theirs_leaf, theirs) = both(kernels, monkeypatch, some_embeddings(p, k), p, k)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    # Some triplets are active and some are not.
    assert torch.equal(ours[2], theirs[2]) and 0 < ours[2].sum() < 3 * p * k * k * (p - 1) * k
    weights, index = torch.tensor([1.0, -2.0, 3.0]), ["full", "hard"].index(name)
    (ours[index] * weights).sum().backward()
    (theirs[index] * weights).sum().backward()
    assert difference(ours_leaf.grad, theirs_leaf.grad) < 1e-4


def test_statistics_have_no_gradient(kernels, monkeypatch):
    (_, ours), (_, theirs) = both(kernels, monkeypatch, some_embeddings(3, 5), 3, 5)
    for losses in (ours, theirs):
        assert [each.requires_grad for each in losses] == [True, True, False, False]


@pytest.mark.parametrize("name", ["full", "hard"])
def test_nan_embeddings_give_nan_losses_and_gradients(kernels, monkeypatch, name):
    """A loss of 0 instead of NaN would hide the error. K is not a power of two, so the kernels have padded rows."""
    batch = some_embeddings(3, 5)
    batch[4, 1, 2] = torch.nan
    for leaf, losses in both(kernels, monkeypatch, batch, 3, 5):
        for each in (losses[0], losses[1], losses[3]):
            assert each.isnan().tolist() == [False, True, False]
        losses[["full", "hard"].index(name)].sum().backward()
        assert leaf.grad.isnan().any((0, 2)).tolist() == [False, True, False]


def test_gradient_is_finite_if_embeddings_coincide(kernels, monkeypatch):
    for leaf, losses in both(kernels, monkeypatch, torch.ones(8, 3, 4), 4, 2):
        assert torch.allclose(losses[0], torch.tensor(0.2)) and torch.allclose(losses[1], torch.tensor(0.2))
        (losses[0] + losses[1]).sum().backward()
        assert leaf.grad.isfinite().all()
