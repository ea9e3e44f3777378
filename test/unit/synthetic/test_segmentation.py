"""Tests of the segmentation noise: strength, frequency, duration, motion with the body, independence of the batch."""

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from model.common.counter_random import Draws
from model.synthetic import noise, segmentation
from model.synthetic.segmentation import MARGIN, degrade

TALL, WIDE = 90, 44
SQUARE = np.ones((3, 3), np.uint8)


def draws_of(subjects: Tensor, view: int = 90, take: int = 1) -> tuple[Draws, Draws]:
    one = torch.ones_like(subjects)
    return Draws.of(3, "faults", subjects, take * one, view * one), Draws.of(3, "faults of takes", subjects, take * one)


def noisy(clean: Tensor, box: Tensor, subjects: Tensor, strength: float = 2.0, **which) -> Tensor:
    draws, take_draws = draws_of(subjects, **which)
    return degrade(clean, box, draws, strength, take_draws, draws)


def walkers(q: int, s: int, more: int = 0, drift: int = 0) -> tuple[Tensor, Tensor]:
    """Return figures of a head, a block and two legs, and their boxes. The crops have `MARGIN` + `more` free pixels.

    The figures move by `drift` columns per frame. Closing or opening by a 3x3 square does not change the figures.
    """
    free = MARGIN + more
    h, w = TALL + 2 * free, WIDE + 2 * free + drift * (s - 1)
    clean, box = torch.zeros(q, s, h, w, dtype=torch.bool), torch.zeros(q, s, 4, dtype=torch.int64)
    y, x = torch.meshgrid(torch.arange(TALL), torch.arange(WIDE), indexing="ij")
    off = (x - (WIDE - 1) / 2).abs()
    figure = (off < 8) | ((y >= 14) & (y < 55))
    figure &= (y < 55) | ((off > 2) & (off < 14))
    for frame in range(s):
        left = free + drift * frame
        clean[:, frame, free : free + TALL, left : left + WIDE] = figure
        box[:, frame] = torch.tensor([free, free + TALL - 1, left, left + WIDE - 1])
    return clean, box


def use_only(monkeypatch, name: str, **changes) -> None:
    """Use only the patch `name` with changed values, a constant severity, and no ragged outline."""
    removes = name in noise.REMOVED
    patch = (noise.REMOVED if removes else noise.ADDED)[name]._replace(**changes)
    nothing = {"nothing": patch._replace(count=1, chance=0.0)}
    monkeypatch.setattr(noise, "REMOVED", {name: patch} if removes else nothing)
    monkeypatch.setattr(noise, "ADDED", nothing if removes else {name: patch})
    for constant in ("TAKE_SPREAD", "VIEW_SPREAD"):
        monkeypatch.setattr(noise, constant, 0.0)
    for constant in ("RAGGEDNESS", "GROWTH_CHANGE"):
        monkeypatch.setattr(segmentation, constant, 0.0)
    monkeypatch.setattr(segmentation, "GROWTH", (0.0, 0.0))
    monkeypatch.setattr(noise, "_table", noise._table.__wrapped__)


def test_a_sequence_does_not_depend_on_the_batch():
    clean, box = walkers(5, 13)
    subjects = torch.tensor([4, 9, 2, 7, 1])
    batch = noisy(clean, box, subjects)
    for i in range(5):
        alone = noisy(clean[i : i + 1], box[i : i + 1], subjects[i : i + 1])
        assert torch.equal(alone[0], batch[i])


def test_the_size_of_the_crop_has_no_effect():
    subjects = torch.arange(1, 30)
    (small, small_box), (large, large_box) = walkers(29, 8), walkers(29, 8, more=13)
    near = noisy(small, small_box, subjects)
    far = noisy(large, large_box, subjects)
    assert not torch.equal(near, small)
    assert torch.equal(near, far[..., 13:-13, 13:-13]) and near.sum() == far.sum()


def test_the_first_frames_do_not_depend_on_the_number_of_frames():
    subjects = torch.arange(1, 7)
    clean, box = walkers(6, 30)
    long, short = noisy(clean, box, subjects), noisy(clean[:, :12], box[:, :12], subjects)
    # The last four of 12 frames can differ, because the height is averaged over nine frames.
    assert torch.equal(long[:, :8], short[:, :8])


def test_noise_moves_with_the_figure():
    subjects = torch.arange(1, 7)
    (still, still_box), (moving, moving_box) = walkers(6, 12), walkers(6, 12, drift=3)
    there = noisy(still, still_box, subjects)
    here = noisy(moving, moving_box, subjects)
    for frame in range(4, 8):  # frames whose nine neighbours, over which the height is averaged, all exist
        left = 3 * frame
        window = here[:, frame, :, left : left + there.shape[-1]]
        assert torch.equal(window, there[:, frame])


def test_borders_stay_black_and_empty_frames_stay_empty():
    clean, box = walkers(40, 10)
    clean[:, 4], box[:, 4] = False, torch.tensor([1, 0, 1, 0])
    degraded = noisy(clean, box, torch.arange(40), 4.0)
    assert not degraded[:, 4].any() and degraded[:, [3, 5]].flatten(2).any(-1).all()
    for border in (degraded[..., :3], degraded[..., -3:], degraded[..., :3, :], degraded[..., -3:, :]):
        assert not border.any()
    specks = degraded & ~clean
    assert specks[..., : MARGIN // 2].any() and specks[..., -MARGIN // 2 :].any()


def test_masks_are_opened_by_a_square():
    clean, box = walkers(3, 6)
    for frame in noisy(clean, box, torch.arange(3)).flatten(0, 1).numpy().astype(np.uint8):
        assert (cv2.morphologyEx(frame, cv2.MORPH_OPEN, SQUARE) == frame).all()


@pytest.mark.parametrize("name", ["dilate", "erode"])
def test_squares_equal_those_of_opencv(name):
    masks = torch.rand(7, 20, 31, generator=torch.Generator().manual_seed(0)) < 0.6
    masks[:, [0, -1]] = masks[:, :, [0, -1]] = False
    x = masks.to(torch.uint8).flatten()
    combine = {"dilate": torch.bitwise_or, "erode": torch.bitwise_and}[name]
    out = segmentation._square(combine, x, 31, torch.empty_like(x), torch.empty_like(x)).view(masks.shape)
    same = segmentation._square(combine, x.clone(), 31, torch.empty_like(x), x).view(masks.shape)
    expected = np.stack([getattr(cv2, name)(mask, SQUARE) for mask in masks.numpy().astype(np.uint8)])
    inner = slice(1, -1)
    assert (out.numpy()[:, inner, inner] == expected[:, inner, inner]).all()
    assert (same.numpy()[:, inner, inner] == expected[:, inner, inner]).all()


def test_a_patch_is_as_frequent_as_its_chance(monkeypatch):
    use_only(monkeypatch, "band", count=1, chance=0.3, share=(0.4, 0.4), period=3, level=(1.0, 1.0), tall=(0.06, 0.06))
    q, s = 400, 30
    draws, of_take = draws_of(torch.arange(q))
    cells = noise.noise_cells(draws, draws, of_take, 1.0, torch.ones(q, s, dtype=torch.bool))
    torn = (cells > 128).flatten(2).any(-1)
    present = torn.any(1)
    assert present.float().mean() == pytest.approx(0.3, abs=3 * (0.3 * 0.7 / q) ** 0.5)
    # A patch appears when its course passes a threshold. It has half of its strength this far beyond the threshold.
    later = 1 / (2 * noise._STEEPNESS)
    expected = float(torch.special.ndtr(torch.special.ndtri(torch.tensor(0.4)) - later))
    assert torn[present].float().mean() == pytest.approx(expected, abs=0.06)


def test_a_strong_patch_removes_its_rows_and_no_others(monkeypatch):
    fixed = {"share": (1, 1), "level": (1.2, 1.2), "row": (0.3, 0.3), "tall": (0.08, 0.08)}
    use_only(monkeypatch, "band", count=1, chance=9.0, **fixed)
    clean, box = walkers(1, 5)
    degraded = noisy(clean, box, torch.tensor([5]), 1.0)
    row_of = MARGIN + TALL * 0.3
    rows = torch.arange(clean.shape[2])
    inside, outside = (rows - row_of).abs() < TALL * 0.08 - 4, (rows - row_of).abs() > TALL * 0.08 + 6
    assert not degraded[:, :, inside].any()
    assert torch.equal(degraded[:, :, outside], clean[:, :, outside])


def test_noise_persists_over_frames():
    q, s = 60, 64
    clean, box = walkers(q, s)
    changed = (noisy(clean, box, torch.arange(q), 1.0) ^ clean)[..., MARGIN : MARGIN + 60, :].float()
    changed = changed.flatten(2).sum(-1)
    changed = changed - changed.mean(1, keepdim=True)

    def correlation(lag: int) -> float:
        return float((changed[:, lag:] * changed[:, :-lag]).mean() / changed.square().mean())

    assert correlation(1) > 0.6 > 0.3 > correlation(8)


def test_views_of_a_take_lose_the_same_rows(monkeypatch):
    use_only(monkeypatch, "band", count=1, chance=9.0, share=(0.99, 0.99), level=(1.2, 1.2), tall=(0.05, 0.05))
    subjects = torch.arange(50)
    clean, box = walkers(50, 12)

    def height(view: int, take: int) -> Tensor:
        lost = clean & ~noisy(clean, box, subjects, 1.0, view=view, take=take)
        rows = lost[..., MARGIN : MARGIN + 55, :].sum((1, 3)).float()
        return (rows * torch.arange(55)).sum(1) / rows.sum(1)

    assert (height(0, 1) - height(90, 1)).abs().median() < 1
    assert (height(0, 1) - height(0, 2)).abs().median() > 4


def test_noise_grows_with_strength():
    clean, box = walkers(60, 20)
    changed = [(noisy(clean, box, torch.arange(60), x) ^ clean).float().mean() for x in (0.25, 1.0, 3.0)]
    assert 0 < 1.5 * changed[0] < changed[1] < changed[2] / 1.3


def test_severity_is_correlated_between_the_views_of_a_take():
    subjects = torch.arange(4000)
    one, other = (noise.severities(*draws_of(subjects, view=view), 1.0).log() for view in (0, 90))
    total = noise.TAKE_SPREAD**2 + noise.VIEW_SPREAD**2
    assert one.std() == pytest.approx(total**0.5, rel=0.05)
    expected = noise.TAKE_SPREAD**2 / total
    assert float(torch.corrcoef(torch.stack([one, other]))[0, 1]) == pytest.approx(expected, abs=0.05)
