"""Segmentation faults: nothing at strength 0, the same for a sequence wherever it stands, as often as the table says,
lasting, moving with the body."""

import cv2
import numpy as np
import pytest
import torch

from model.common.counter_random import Draws
from model.synthetic import noise, segmentation
from model.synthetic.segmentation import MARGIN, degrade

TALL, WIDE = 90, 44
SQUARE = np.ones((3, 3), np.uint8)


def draws_of(subjects: torch.Tensor, view: int = 90, take: int = 1) -> tuple[Draws, Draws]:
    one = torch.ones_like(subjects)
    return Draws.of(3, "faults", subjects, take * one, view * one), Draws.of(3, "faults of takes", subjects, take * one)


def walkers(q: int, s: int, more: int = 0, drift: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A head on a block on two legs, on crops with `MARGIN` + `more` pixels around, and its box.

    `drift` columns a frame. A 3x3 square neither closes nor opens anything on it.
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


def only(monkeypatch, kind: str, **changes) -> None:
    """No severity, no fraying, and one kind of fault, changed."""
    lost = kind in noise.REMOVED
    fault = (noise.REMOVED if lost else noise.ADDED)[kind]._replace(**changes)
    nothing = {"nothing": fault._replace(count=1, chance=0.0)}
    monkeypatch.setattr(noise, "REMOVED", {kind: fault} if lost else nothing)
    monkeypatch.setattr(noise, "ADDED", nothing if lost else {kind: fault})
    for name in ("TAKE_SPREAD", "VIEW_SPREAD"):
        monkeypatch.setattr(noise, name, 0.0)
    for name in ("RAGGEDNESS", "GROWTH_CHANGE"):
        monkeypatch.setattr(segmentation, name, 0.0)
    monkeypatch.setattr(segmentation, "GROWTH", (0.0, 0.0))
    monkeypatch.setattr(noise, "_table", noise._table.__wrapped__)


def test_no_strength_gives_the_clean_silhouettes_themselves():
    clean, box = walkers(2, 3)
    assert degrade(clean, box, draws_of(torch.tensor([1, 2]))[0], strength=0.0) is clean


def test_a_negative_strength_is_refused():
    clean, box = walkers(1, 1)
    with pytest.raises(ValueError, match="-1"):
        degrade(clean, box, draws_of(torch.tensor([1]))[0], strength=-1.0)


def test_same_draws_same_faults_and_other_draws_others():
    clean, box = walkers(1, 20)
    one, again, other = (degrade(clean, box, draws_of(torch.tensor([subject]))[0], 2.0) for subject in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, clean)


def test_a_sequence_is_spoiled_alone_as_in_a_batch():
    clean, box = walkers(5, 13)
    subjects = torch.tensor([4, 9, 2, 7, 1])
    batch = degrade(clean, box, draws_of(subjects)[0], 2.0, draws_of(subjects)[1])
    for i in range(5):
        alone = degrade(clean[i : i + 1], box[i : i + 1], *_ordered(subjects[i : i + 1]))
        assert torch.equal(alone[0], batch[i])


def _ordered(subjects: torch.Tensor, strength: float = 2.0, **which) -> tuple:
    draws, take_draws = draws_of(subjects, **which)
    return draws, strength, take_draws


def test_a_larger_canvas_changes_nothing():
    subjects = torch.arange(1, 30)
    (small, small_box), (large, large_box) = walkers(29, 8), walkers(29, 8, more=13)
    near = degrade(small, small_box, *_ordered(subjects))
    far = degrade(large, large_box, *_ordered(subjects))
    assert not torch.equal(near, small)
    assert torch.equal(near, far[..., 13:-13, 13:-13]) and near.sum() == far.sum()


def test_the_first_frames_do_not_depend_on_how_many_follow():
    subjects = torch.arange(1, 7)
    clean, box = walkers(6, 30)
    long, short = degrade(clean, box, *_ordered(subjects)), degrade(clean[:, :12], box[:, :12], *_ordered(subjects))
    assert torch.equal(long[:, :8], short[:, :8])  # the box is smoothed over nine frames


def test_faults_move_with_the_figure():
    subjects = torch.arange(1, 7)
    (still, still_box), (moving, moving_box) = walkers(6, 12), walkers(6, 12, drift=3)
    there = degrade(still, still_box, *_ordered(subjects))
    here = degrade(moving, moving_box, *_ordered(subjects))
    for frame in range(4, 8):  # farther from the ends, where smoothing sees as much before as after
        left = 3 * frame
        window = here[:, frame, :, left : left + there.shape[-1]]
        assert torch.equal(window, there[:, frame])


def test_borders_stay_black_and_frames_without_a_figure_empty():
    clean, box = walkers(40, 10)
    clean[:, 4], box[:, 4] = False, torch.tensor([1, 0, 1, 0])
    degraded = degrade(clean, box, *_ordered(torch.arange(40), 4.0))
    assert not degraded[:, 4].any() and degraded[:, [3, 5]].flatten(2).any(-1).all()
    for border in (degraded[..., :3], degraded[..., -3:], degraded[..., :3, :], degraded[..., -3:, :]):
        assert not border.any()
    specks = degraded & ~clean
    assert specks[..., : MARGIN // 2].any() and specks[..., -MARGIN // 2 :].any()


def test_masks_end_in_an_opening_by_a_square_as_opencv_does_it():
    clean, box = walkers(3, 6)
    for frame in degrade(clean, box, *_ordered(torch.arange(3))).flatten(0, 1).numpy().astype(np.uint8):
        assert (cv2.morphologyEx(frame, cv2.MORPH_OPEN, SQUARE) == frame).all()


@pytest.mark.parametrize("name", ["dilate", "erode"])
def test_squares_are_those_of_opencv(name):
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


def test_a_kind_of_fault_is_as_frequent_as_the_table_says(monkeypatch):
    only(monkeypatch, "band", count=1, chance=0.3, share=(0.4, 0.4), period=3, level=(1.0, 1.0), tall=(0.06, 0.06))
    q, s = 400, 30
    draws, of_take = draws_of(torch.arange(q))
    cells = noise.noise_cells(draws, draws, of_take, 1.0, torch.ones(q, s, dtype=torch.bool))
    torn = (cells > 128).flatten(2).any(-1)
    present = torn.any(1)
    assert present.float().mean() == pytest.approx(0.3, abs=3 * (0.3 * 0.7 / q) ** 0.5)
    # Half of the level is reached so many standard deviations of the course after it began.
    later = 1 / (2 * noise._STEEPNESS)
    expected = float(torch.special.ndtr(torch.special.ndtri(torch.tensor(0.4)) - later))
    assert torn[present].float().mean() == pytest.approx(expected, abs=0.06)


def test_a_sure_fault_takes_its_rows_and_no_others(monkeypatch):
    only(monkeypatch, "band", count=1, chance=9.0, share=(1, 1), level=(1.2, 1.2), row=(0.3, 0.3), tall=(0.08, 0.08))
    clean, box = walkers(1, 5)
    degraded = degrade(clean, box, *_ordered(torch.tensor([5]), 1.0))
    row_of = MARGIN + TALL * 0.3
    rows = torch.arange(clean.shape[2])
    inside, outside = (rows - row_of).abs() < TALL * 0.08 - 4, (rows - row_of).abs() > TALL * 0.08 + 6
    assert not degraded[:, :, inside].any()
    assert torch.equal(degraded[:, :, outside], clean[:, :, outside])


def test_faults_last():
    q, s = 60, 64
    clean, box = walkers(1, s)
    clean, box = clean.expand(q, -1, -1, -1), box.expand(q, -1, -1)
    changed = (degrade(clean, box, *_ordered(torch.arange(q), 1.0)) ^ clean)[..., MARGIN : MARGIN + 60, :].float()
    changed = changed.flatten(2).sum(-1)
    changed = changed - changed.mean(1, keepdim=True)

    def correlation(lag: int) -> float:
        return float((changed[:, lag:] * changed[:, :-lag]).mean() / changed.square().mean())

    assert correlation(1) > 0.6 > 0.3 > correlation(8)


def test_views_of_a_take_are_torn_at_the_same_height(monkeypatch):
    only(monkeypatch, "band", count=1, chance=9.0, share=(0.99, 0.99), level=(1.2, 1.2), tall=(0.05, 0.05))
    subjects = torch.arange(50)
    clean, box = walkers(1, 12)
    clean, box = clean.expand(50, -1, -1, -1), box.expand(50, -1, -1)

    def height(view: int, take: int) -> torch.Tensor:
        lost = clean & ~degrade(clean, box, *_ordered(subjects, 1.0, view=view, take=take))
        rows = lost[..., MARGIN : MARGIN + 55, :].sum((1, 3)).float()
        return (rows * torch.arange(55)).sum(1) / rows.sum(1)

    assert (height(0, 1) - height(90, 1)).abs().median() < 1
    assert (height(0, 1) - height(0, 2)).abs().median() > 4


def test_more_strength_more_faults():
    clean, box = walkers(1, 20)
    clean, box = clean.expand(60, -1, -1, -1), box.expand(60, -1, -1)
    changed = [(degrade(clean, box, *_ordered(torch.arange(60), x)) ^ clean).float().mean() for x in (0.25, 1.0, 3.0)]
    assert 0 < 1.5 * changed[0] < changed[1] < changed[2] / 1.3


def test_severity_differs_between_sequences_and_is_alike_in_the_views_of_a_take():
    subjects = torch.arange(4000)
    one, other = (noise.severities(*draws_of(subjects, view=view), 1.0).log() for view in (0, 90))
    total = noise.TAKE_SPREAD**2 + noise.VIEW_SPREAD**2
    assert one.std() == pytest.approx(total**0.5, rel=0.05)
    expected = noise.TAKE_SPREAD**2 / total
    assert float(torch.corrcoef(torch.stack([one, other]))[0, 1]) == pytest.approx(expected, abs=0.05)
