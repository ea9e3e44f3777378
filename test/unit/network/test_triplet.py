"""Compare the losses with values of the original and with loops. Check the cases in which the original became NaN."""

import itertools

import numpy as np
import pytest
import torch
from scripts import ROOT

from model.network import triplet_losses

# Computed with the original code (AbnerHqC/GaitSet, commit 5535943): values of every strip, and for every sixth strip
# the gradients of the first 8 of its 256 columns.
REFERENCE = np.load(ROOT / "test/unit/support/reference/triplet.npz")


def reference_features() -> np.ndarray:
    rng = np.random.default_rng(7)
    subject = np.repeat(np.arange(4), 4)
    noise = 0.02 * rng.standard_normal((62, 16, 256))
    return (noise + 0.021 * rng.standard_normal((62, 4, 256))[:, subject]).astype(np.float32)


def as_batch(features: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(features).transpose(0, 1).clone().requires_grad_()


def test_losses_equal_the_original():
    losses = triplet_losses(as_batch(reference_features()), 4, 4, 0.2)
    # The mean distance includes the distance of each embedding to itself. This distance is the rounding error of a
    # difference of squares, which depends on how the processor computes matrix products.
    for name, tolerance in (("full", 1e-5), ("hard", 1e-5), ("mean_dist", 1e-4)):
        ours = getattr(losses, name).detach().numpy()
        np.testing.assert_allclose(ours, REFERENCE[name], rtol=tolerance, err_msg=name)
    assert np.array_equal(losses.full_num.numpy(), REFERENCE["full_num"])


@pytest.mark.parametrize("name", ["full", "hard"])
def test_gradients_equal_the_original(name):
    embeddings = as_batch(reference_features())
    getattr(triplet_losses(embeddings, 4, 4, 0.2), name).mean().backward()
    ours = embeddings.grad.transpose(0, 1)[::6, :, :8].numpy()
    theirs = REFERENCE[f"grad_{name}"]
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


def by_loops(x: np.ndarray, p: int, k: int, margin: float) -> tuple[float, float, int, float]:
    """Return full loss, hard loss, number of active triplets and mean distance of one strip, computed by loops."""
    n, subject = p * k, [i // k for i in range(p * k)]
    dist = [[float(np.linalg.norm(x[i] - x[j])) for j in range(n)] for i in range(n)]
    terms, hard = [], []
    for a in range(n):
        positives = [i for i in range(n) if subject[i] == subject[a]]  # the anchor is one of its own positives
        negatives = [i for i in range(n) if subject[i] != subject[a]]
        terms += [max(0.0, margin + dist[a][i] - dist[a][j]) for i, j in itertools.product(positives, negatives)]
        hard.append(max(0.0, margin + max(dist[a][i] for i in positives) - min(dist[a][j] for j in negatives)))
    active = [term for term in terms if term > 0]
    return sum(active) / max(len(active), 1), sum(hard) / n, len(active), float(np.mean(dist))


@pytest.mark.parametrize(("p", "k"), [(2, 1), (3, 2), (4, 3)])
def test_losses_equal_loops(p, k):
    x = np.random.default_rng(p * 10 + k).standard_normal((5, p * k, 7)) * 0.1
    losses = triplet_losses(as_batch(x.astype(np.float32)), p, k, 0.2)
    for strip in range(5):
        full, hard, number, mean_dist = by_loops(x[strip], p, k, 0.2)
        # As in the original, the distance of an embedding to itself is the float32 rounding error of a difference of
        # squares, about 1e-5 and not 0.
        assert losses.full[strip].item() == pytest.approx(full, abs=2e-4)
        assert losses.hard[strip].item() == pytest.approx(hard, abs=2e-4)
        assert losses.full_num[strip].item() == number
        assert losses.mean_dist[strip].item() == pytest.approx(mean_dist, rel=1e-3)


def test_gradient_equals_finite_differences():
    x = np.random.default_rng(1).standard_normal((1, 6, 4)).astype(np.float32) * 0.1
    batch = as_batch(x)
    triplet_losses(batch, 3, 2, 0.2).full.sum().backward()
    step = 1e-4
    for row, column in [(0, 0), (3, 2), (5, 1)]:
        moved = np.zeros((6, 4))
        moved[row, column] = step
        up, down = (by_loops(x[0] + sign * moved, 3, 2, 0.2)[0] for sign in (1, -1))
        assert batch.grad[row, 0, column].item() == pytest.approx((up - down) / (2 * step), abs=2e-3)


@pytest.mark.parametrize("name", ["full", "hard"])
def test_gradient_is_finite_if_embeddings_coincide(name):
    batch = torch.ones(8, 3, 5, requires_grad=True)
    loss = getattr(triplet_losses(batch, 4, 2, 0.2), name)
    assert torch.allclose(loss, torch.tensor(0.2))  # all distances are 0, so the loss of every triplet is the margin
    loss.mean().backward()
    assert batch.grad.isfinite().all()


@pytest.mark.parametrize("name", ["full", "hard"])
def test_loss_without_active_triplets_is_zero(name):
    far = torch.arange(4.0).repeat_interleave(2)[:, None, None].repeat(1, 3, 5) * 100
    batch = far.requires_grad_()
    losses = triplet_losses(batch, 4, 2, 0.2)
    assert losses.full_num.eq(0).all()
    getattr(losses, name).mean().backward()
    assert getattr(losses, name).eq(0).all() and batch.grad.eq(0).all()


def test_half_precision_embeddings_are_compared_in_float32():
    x = as_batch(reference_features()).detach().half()
    with torch.autocast("cpu", torch.bfloat16):
        losses = triplet_losses(x, 4, 4, 0.2)
    assert losses.full.dtype == torch.float32
    assert torch.equal(losses.full, triplet_losses(x.float(), 4, 4, 0.2).full)


@pytest.mark.parametrize(("rows", "p", "k"), [(7, 4, 2), (4, 1, 4)])
def test_losses_reject_batches_that_are_not_p_times_k(rows, p, k):
    with pytest.raises(ValueError, match="P×K"):
        triplet_losses(torch.zeros(rows, 2, 3), p, k, 0.2)


def test_nan_embeddings_give_nan_losses():
    """If NaN became a distance of 0, the loss would be finite and training would continue."""
    batch = as_batch(reference_features()).detach()
    batch[3, :, 5] = torch.nan
    losses = triplet_losses(batch, 4, 4, 0.2)
    assert losses.full.isnan().all() and losses.hard.isnan().all() and losses.mean_dist.isnan().all()
