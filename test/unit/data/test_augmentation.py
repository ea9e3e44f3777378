"""Augmentation: equal changes for all frames of a sequence, each kind of change, and reproducible parameters."""

import pytest
import torch

from model.data import augmentation
from model.data.augmentation import augment, draw_changes


def drawn(count: int, iteration: int = 0) -> torch.Tensor:
    return draw_changes(0, 0, iteration, count)


@pytest.fixture
def no_changes(monkeypatch):
    """Disable all changes. Each test enables the change that it checks."""
    for name in ("FLIP", "ROTATION", "STRETCH", "SHIFT", "ERASE"):
        monkeypatch.setattr(augmentation, name, 0.0)
    monkeypatch.setattr(augmentation, "_block", augmentation._block.__wrapped__)
    return monkeypatch


def figure(frames: int) -> torch.Tensor:
    """Return frames of a box with an arm to the right."""
    sils = torch.zeros(frames, 64, 44, dtype=torch.uint8)
    sils[:, 8:56, 16:28] = 255
    sils[:, 20:24, 28:38] = 255
    return sils


def test_disabled_changes_keep_the_silhouettes(no_changes):
    sils = torch.randint(256, (5, 64, 44), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augment(sils, torch.tensor([0, 0, 1, 1, 2]), drawn(3)), sils)


def test_half_of_the_sequences_are_flipped(no_changes):
    no_changes.setattr(augmentation, "FLIP", 0.5)
    sils = figure(400)
    changed = augment(sils, torch.arange(400), drawn(400))
    flipped = (changed == sils.flip(2)).flatten(1).all(1)
    assert (flipped | (changed == sils).flatten(1).all(1)).all()
    assert 150 < flipped.sum() < 250


def test_rotation_keeps_area_and_moment(no_changes):
    """If the rotation used the units of grid_sample, a square would become a rhombus."""
    no_changes.setattr(augmentation, "ROTATION", 20.0)
    sils = torch.zeros(30, 64, 44, dtype=torch.uint8)
    sils[:, 22:42, 12:32] = 255
    changed = augment(sils, torch.arange(30), drawn(30)).double() / 255
    assert not torch.equal(changed, sils.double() / 255)
    rows = torch.arange(64.0).double() - 31.5
    columns = torch.arange(44.0).double() - 21.5
    area = changed.sum((1, 2))
    moment = (changed * (rows[:, None] ** 2 + columns**2)).sum((1, 2))
    assert torch.allclose(area, torch.full_like(area, 400), rtol=0.02)
    assert torch.allclose(moment, torch.full_like(moment, 400 * 2 * 20**2 / 12), rtol=0.03)


@pytest.mark.parametrize(("name", "value"), [("STRETCH", 0.1), ("SHIFT", 1.0)])
def test_stretch_and_shift_have_the_given_spread(no_changes, name, value):
    no_changes.setattr(augmentation, name, value)
    changed = augment(figure(200), torch.arange(200), drawn(200)).double() / 255
    mass = changed.sum((1, 2))
    centre = (changed.sum(1) * torch.arange(44)).sum(1) / mass
    if name == "SHIFT":
        assert mass.std() < 1 and centre.std() == pytest.approx(value, rel=0.15)
    else:
        assert mass.std() / mass.mean() > 0.05


def test_some_sequences_have_an_erased_rectangle(no_changes):
    no_changes.setattr(augmentation, "ERASE", 0.3)
    white = torch.full((500, 64, 44), 255, dtype=torch.uint8)
    changed = augment(white, torch.arange(500), drawn(500))
    erased = changed.flatten(1).amin(1) == 0
    assert 110 < erased.sum() < 190
    for sil in changed[erased]:
        rows, columns = (sil == 0).any(1), (sil == 0).any(0)
        assert (sil == 0).sum() == rows.sum() * columns.sum()
        assert rows.sum() <= 13 and columns.sum() <= 22


def test_frames_of_a_sequence_change_equally():
    sils, sequence = figure(6), torch.tensor([0, 1, 1, 1, 2, 2])
    together = augment(sils, sequence, drawn(3))
    assert torch.equal(together[1], together[2]) and torch.equal(together[1], together[3])
    assert not torch.equal(together[0], together[1])
    alone = augment(sils[:1], torch.tensor([0]), drawn(3)[2:])
    assert torch.equal(alone[0], together[4])
    assert torch.allclose(drawn(3), drawn(8)[:3])  # the parameters do not depend on the number of sequences
    assert not torch.equal(augment(sils, sequence, drawn(3, 1)), together)


@pytest.mark.parametrize("iteration", [0, 63, 64, 1000])
def test_parameters_depend_on_iteration_rank_and_seed(iteration):
    """Parameters are drawn for many iterations together, and must not depend on the iteration at which a run starts."""
    augmentation._block.cache_clear()
    started_here = draw_changes(1, 2, iteration, 5)
    augmentation._block.cache_clear()
    continued = [draw_changes(1, 2, i, 5) for i in range(max(iteration - 3, 0), iteration + 1)]
    assert torch.equal(started_here, continued[-1])
    others = [draw_changes(0, 2, iteration, 5), draw_changes(1, 0, iteration, 5), draw_changes(1, 2, iteration + 1, 5)]
    assert not any(torch.equal(started_here, other) for other in [*others, *continued[:-1]])
