"""Counter-based random numbers: their distributions, and that they depend only on key, name and position."""

import math

import pytest
import torch

from model.common.counter_random import Draws, _mixed


def draws_of(count: int, seed: int = 3, take: int = 1) -> Draws:
    subjects = torch.arange(1, count + 1)
    return Draws.of(seed, "test", subjects, torch.full_like(subjects, take))


def splitmix_finalizer(x: int) -> int:
    """Compute the published finalizer with Python's integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
    return x ^ (x >> 31)


def test_hash_equals_the_published_hash():
    for number in (0, 1, 2**63, 0x123456789ABCDEF0, 2**64 - 1):
        signed = number - 2**64 if number >= 2**63 else number
        assert int(_mixed(torch.tensor([signed]))[0]) % 2**64 == splitmix_finalizer(number)


def test_number_depends_on_key_name_and_position_only():
    many, one = draws_of(50), Draws.of(3, "test", torch.tensor([17]), torch.tensor([1]))
    assert torch.equal(many.normal("height", shape=(4,))[16], one.normal("height", shape=(4,))[0])
    assert torch.equal(many.uniform("a", shape=(5,))[:, :3], many.uniform("a", shape=(3,)))
    for other in (draws_of(50, seed=4), draws_of(50, take=2), Draws.of(3, "other", *[torch.arange(1, 51)] * 2)):
        assert not torch.isin(other.uniform("a"), many.uniform("a")).any()
    assert not torch.isin(many.uniform("b"), many.uniform("a")).any()


@pytest.mark.parametrize(
    ("draw", "mean", "sd"),
    [
        (lambda d: d.uniform("x", 2.0, 5.0), 3.5, 3 / math.sqrt(12)),
        (lambda d: d.normal("x", -1.0, 0.5), -1.0, 0.5),
        (lambda d: d.gamma2("x", 3.0), 3.0, 3 / math.sqrt(2)),
        (lambda d: d.chance("x", 0.2).float(), 0.2, 0.4),
        (lambda d: d.choice("x", 3).float(), 1.0, math.sqrt(2 / 3)),
    ],
)
def test_draws_have_the_mean_and_deviation_of_their_distribution(draw, mean, sd):
    count = 40_000
    values = draw(draws_of(count))
    assert values.shape == (count,) and values.isfinite().all()
    assert values.mean().item() == pytest.approx(mean, abs=4 * sd / math.sqrt(count))
    assert values.std().item() == pytest.approx(sd, rel=0.03)


def test_neighbours_and_names_are_uncorrelated():
    draws = draws_of(20_000)
    columns = [draws.normal("a"), draws.normal("b"), draws.normal("a", shape=(2,))[:, 1], draws.normal("a").roll(1)]
    correlation = torch.corrcoef(torch.stack(columns)) - torch.eye(4)
    assert correlation.abs().max() < 0.03


def test_bounds_may_be_tensors():
    low = torch.linspace(0, 9, 10)
    values = draws_of(10).uniform("x", low, low + 0.5)
    assert (values > low).all() and (values < low + 0.5).all()
