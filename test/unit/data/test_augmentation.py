"""Augmentation: all frames of a sequence alike, each kind of change alone, seed, rank and iteration decide."""

import pytest
import torch

from model.data import augmentation
from model.data.augmentation import augment, changes_of


def drawn(count: int, iteration: int = 0) -> torch.Tensor:
    return changes_of(0, 0, iteration, count)


@pytest.fixture
def nothing(monkeypatch):
    """All kinds of change turned off; a test turns its own on."""
    augmentation._block.cache_clear()
    for name in ("FLIPPED", "TURN", "STRETCH", "SHIFT", "ERASED"):
        monkeypatch.setattr(augmentation, name, 0.0)
    yield monkeypatch
    augmentation._block.cache_clear()


def figure(frames: int) -> torch.Tensor:
    """A box with an arm to the right."""
    sils = torch.zeros(frames, 64, 44, dtype=torch.uint8)
    sils[:, 8:56, 16:28] = 255
    sils[:, 20:24, 28:38] = 255
    return sils


def test_nothing_changed_is_the_same_picture(nothing):
    sils = torch.randint(256, (5, 64, 44), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augment(sils, torch.tensor([0, 0, 1, 1, 2]), drawn(3)), sils)


def test_flipping_half_of_the_sequences(nothing):
    nothing.setattr(augmentation, "FLIPPED", 0.5)
    sils = figure(400)
    changed = augment(sils, torch.arange(400), drawn(400))
    flipped = (changed == sils.flip(2)).flatten(1).all(1)
    assert (flipped | (changed == sils).flatten(1).all(1)).all()
    assert 150 < flipped.sum() < 250


def test_turning_keeps_shapes(nothing):
    """A square turned by pixels that are not square would become a rhombus."""
    nothing.setattr(augmentation, "TURN", 20.0)
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
def test_sizes_and_places_differ(nothing, name, value):
    nothing.setattr(augmentation, name, value)
    changed = augment(figure(200), torch.arange(200), drawn(200)).double() / 255
    mass = changed.sum((1, 2))
    centre = (changed.sum(1) * torch.arange(44)).sum(1) / mass
    if name == "SHIFT":
        assert mass.std() < 1 and centre.std() == pytest.approx(value, rel=0.15)
    else:
        assert mass.std() / mass.mean() > 0.05


def test_erasing_blackens_a_rectangle_in_some(nothing):
    nothing.setattr(augmentation, "ERASED", 0.3)
    white = torch.full((500, 64, 44), 255, dtype=torch.uint8)
    changed = augment(white, torch.arange(500), drawn(500))
    erased = changed.flatten(1).amin(1) == 0
    assert 110 < erased.sum() < 190
    for sil in changed[erased]:
        rows, columns = (sil == 0).any(1), (sil == 0).any(0)
        assert (sil == 0).sum() == rows.sum() * columns.sum()
        assert rows.sum() <= 13 and columns.sum() <= 22


def test_frames_of_a_sequence_change_alike_and_others_do_not_matter():
    sils, sequence = figure(6), torch.tensor([0, 1, 1, 1, 2, 2])
    together = augment(sils, sequence, drawn(3))
    assert torch.equal(together[1], together[2]) and torch.equal(together[1], together[3])
    assert not torch.equal(together[0], together[1])
    alone = augment(sils[:1], torch.tensor([0]), drawn(3)[2:])
    assert torch.equal(alone[0], together[4])
    assert torch.allclose(drawn(3), drawn(8)[:3])  # however many are drawn beside it
    assert not torch.equal(augment(sils, sequence, drawn(3, 1)), together)


@pytest.mark.parametrize("iteration", [0, 63, 64, 1000])
def test_each_iteration_rank_and_seed_has_its_own_whichever_comes_first(iteration):
    """Many iterations are drawn at once: the same whether training begins here or came by."""
    augmentation._block.cache_clear()
    begun_here = changes_of(1, 2, iteration, 5)
    augmentation._block.cache_clear()
    came_by = [changes_of(1, 2, i, 5) for i in range(max(iteration - 3, 0), iteration + 1)]
    assert torch.equal(begun_here, came_by[-1])
    others = [changes_of(0, 2, iteration, 5), changes_of(1, 0, iteration, 5), changes_of(1, 2, iteration + 1, 5)]
    assert not any(torch.equal(begun_here, other) for other in [*others, *came_by[:-1]])
