"""Tests of bodies and clothes: agreement with the published values, and independence of the batch."""

import math

import numpy as np
import pytest
import torch
from walker_parameters import people, tensors

from model.common.counter_random import Draws
from model.synthetic.anthropometry import draw_measures
from model.synthetic.body import TRUNK_LEVELS, draw_body
from model.synthetic.clothing import add_coats, draw_outfit, spread_arms, vary_outfit
from model.synthetic.gait import draw_gait, vary_gait
from model.synthetic.luggage import BAG_TYPES, NO_BAG, draw_bags
from model.synthetic.scaled_draws import ScaledDraws

# Correlations within each sex among the 507 people of Heinz et al. (2003), computed from their data, not from our
# table.
CORRELATIONS = {
    ("stature", "mass"): 0.48, ("waist_girth", "mass"): 0.83, ("hip_girth", "mass"): 0.89, ("calf_girth", "mass"): 0.74,
    ("biacromial", "mass"): 0.46, ("biacromial", "stature"): 0.47, ("waist_girth", "stature"): 0.17,
    ("thigh_girth", "waist_girth"): 0.65, ("thigh_girth", "hip_girth"): 0.85, ("biceps_girth", "forearm_girth"): 0.87,
    ("biceps_girth", "shoulder_girth"): 0.75, ("wrist_girth", "forearm_girth"): 0.76,
    ("calf_girth", "ankle_girth"): 0.72, ("calf_girth", "knee_girth"): 0.76, ("chest_breadth", "biacromial"): 0.50,
    ("chest_depth", "waist_girth"): 0.67, ("bitrochanteric", "hip_girth"): 0.74, ("navel_girth", "waist_girth"): 0.86,
}  # fmt: skip


# --- bodies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("female", "stature", "sd", "bmi", "spread"), [(False, 1.715, 0.066, 22.3, 0.13), (True, 1.6, 0.062, 20.9, 0.135)]
)
def test_stature_and_mass_have_the_means_and_spread_of_the_population(crowd, female, stature, sd, bmi, spread):
    body = crowd[1]
    of_sex = body.female == female
    assert of_sex.float().mean().item() == pytest.approx(0.4 if female else 0.6, abs=0.02)
    assert body.stature[of_sex].mean().item() == pytest.approx(stature, abs=0.003)
    assert body.stature[of_sex].std().item() == pytest.approx(sd, abs=0.002)
    log_bmi = (body.mass / body.stature**2)[of_sex].log()
    assert log_bmi.mean().exp().item() == pytest.approx(bmi, abs=0.15)
    assert log_bmi.std().item() == pytest.approx(spread, abs=0.006)
    assert 17 < body.age.min().item() < 22
    assert body.age.max().item() <= 75


def test_measures_are_correlated_as_in_the_data(crowd):
    draws, body, _ = crowd
    measures = draw_measures(ScaledDraws(draws, "body"), body.female, body.stature, body.mass)
    measures |= {"stature": body.stature, "mass": body.mass}
    for (first, second), published in CORRELATIONS.items():
        found = []
        for of_sex in (body.female, ~body.female):
            pair = np.stack([measures[name][of_sex].numpy() for name in (first, second)])
            found.append(np.corrcoef(pair)[0, 1])
        assert np.mean(found) == pytest.approx(published, abs=0.08), (first, second)


def test_girths_have_the_published_means():
    """The means of Heinz et al. for 247 men (1.776 m, 77.4 kg) and 260 women (1.647 m, 59.9 kg) are in centimetres."""
    published = {"waist_girth": (84.5, 69.8), "hip_girth": (97.8, 95.7), "calf_girth": (37.2, 35.0)}
    published["biacromial"] = (41.2, 36.5)
    draws = people(3000)
    for sex, (stature, mass) in enumerate(((1.776, 77.4), (1.647, 59.9))):
        like = torch.ones(len(draws))
        measures = draw_measures(ScaledDraws(draws, "body"), like > (0 if sex else 1), like * stature, like * mass)
        for name, means in published.items():
            assert measures[name].mean().item() * 100 == pytest.approx(means[sex], rel=0.01), name


def test_a_body_standing_straight_is_as_tall_as_its_stature(crowd):
    body = crowd[1]
    leg = body.lengths["thigh"] + body.lengths["shank"] + body.lengths["ankle_height"]
    stacked = leg + TRUNK_LEVELS[-1] * body.lengths["trunk"] + 1.1 * body.neck + 1.78 * body.head[:, 2]
    difference = stacked - body.stature
    assert (difference > -1e-5).all()  # every neck has at least 1 cm, which makes a few bodies taller
    assert (difference.abs() < 1e-5).float().mean() > 0.95
    assert difference.max() < 0.05


def test_the_waist_has_the_drawn_girth(crowd):
    """Measure around the waist in small steps. A real waist has 1.04 times the girth of an ellipse."""
    draws, body, _ = crowd
    measures = draw_measures(ScaledDraws(draws, "body"), body.female, body.stature, body.mass)
    waist = TRUNK_LEVELS.index(0.40)
    turn = torch.linspace(0, 2 * math.pi, 721)
    x, y = body.trunk_width[:200, waist, None] * turn.cos(), body.trunk_depth[:200, waist, None] * turn.sin()
    around = torch.hypot(x.diff(dim=1), y.diff(dim=1)).sum(1) * 1.04
    torch.testing.assert_close(around, measures["waist_girth"][:200], rtol=0.03, atol=0.0)


def test_women_and_men_have_different_proportions(crowd):
    body = crowd[1]
    shoulders = body.shoulder_half / body.trunk_width[:, TRUNK_LEVELS.index(0.05)]
    assert shoulders[body.female].mean() < 0.90 * shoulders[~body.female].mean()
    assert (body.breasts[~body.female] == 0).all()
    assert (body.breasts[body.female] > 0.01).all()
    assert (body.hair.tail[body.female] > 0).float().mean() > 5 * (body.hair.tail[~body.female] > 0).float().mean()
    assert not ((body.hair.tail > 0) & (body.hair.bun > 0) | (body.hair.bob > 0) & (body.hair.bun > 0)).any()


# --- clothes -------------------------------------------------------------------------------------------------


def test_coats_and_bags_change_only_the_selected_takes(crowd):
    draws, body, gait = crowd
    few = slice(0, 300)
    draws, take = Draws(draws.keys[few]), people(300, "take")
    body = draw_body(draws)
    gait = vary_gait(take, draw_gait(draws, body))
    plain = vary_outfit(take, draw_outfit(draws, body))
    number = torch.arange(300)
    coated, bagged = number % 3 == 0, number % 3 == 1
    outfit = add_coats(take, plain, coated)
    bag, changed = draw_bags(take, gait, bagged)
    for before, after, touched in ((plain, outfit, coated), (gait, changed, bagged)):
        for (name, old), new in zip(tensors(before).items(), tensors(after).values(), strict=True):
            assert torch.equal(old[~touched], new[~touched]), name
    assert torch.equal(outfit.coat, coated)
    assert (outfit.trunk[coated] > plain.trunk.clamp(max=0.022)[coated]).all()
    assert (outfit.hem[coated] > 0.1).all()
    assert torch.equal(bag.bag_type != NO_BAG, bagged)
    assert set(bag.bag_type[bagged].tolist()) == set(range(len(BAG_TYPES)))
    hand = bag.bag_type == BAG_TYPES.index("hand")
    holding = torch.stack([bag.left, ~bag.left], 1)[hand]
    assert (changed.arm_swing[hand][holding] < 0.7 * gait.arm_swing[hand][holding]).all()
    assert torch.equal(changed.arm_swing[hand][~holding], gait.arm_swing[hand][~holding])


def test_some_women_have_skirts_and_bare_legs(crowd):
    draws, body, _ = crowd
    outfit = draw_outfit(draws, body)
    assert not outfit.skirt[~body.female].any()
    assert 0.1 < outfit.skirt[body.female].float().mean() < 0.25
    assert (outfit.cuff[outfit.skirt] < 0.002).all()
    assert (outfit.hem[outfit.skirt] > 0.5).all()
    wide = outfit.cuff[~outfit.skirt]  # thickness of trousers at the ankle, from tight to wide
    assert wide.min() > 0.003
    assert wide.max() > 0.05


def test_thick_clothes_push_the_arms_outward(crowd):
    draws, body, gait = crowd
    outfit = draw_outfit(draws, body)
    wider = (spread_arms(gait, outfit).arm_abduction - gait.arm_abduction)[:, 0]
    thickness = outfit.trunk + outfit.sleeve
    assert (wider > 0).all()
    assert np.corrcoef(wider.numpy(), thickness.numpy())[0, 1] > 0.95
    assert wider.max() < 8


# --- independence of the batch --------------------------------------------------------------------------------------


def drawn(subjects: torch.Tensor, variety: float = 1.0) -> dict[str, torch.Tensor]:
    """Return all tensors of one take per subject. A third of the takes have coats, and a third have bags."""
    subject, take = Draws.of(5, "subject", subjects), Draws.of(5, "take", subjects)
    body = draw_body(subject, variety)
    gait = vary_gait(take, draw_gait(subject, body, variety))
    outfit = add_coats(take, vary_outfit(take, draw_outfit(subject, body)), subjects % 3 == 0)
    bag, gait = draw_bags(take, spread_arms(gait, outfit), subjects % 3 == 1)
    return tensors({"body": body, "gait": gait, "outfit": outfit, "bag": bag})


def test_a_subject_does_not_depend_on_the_batch():
    subjects = torch.arange(1, 38)  # 37 subjects do not fill the vector registers of a processor
    together = drawn(subjects)
    for one in (0, 7, 36):
        for name, value in drawn(subjects[one : one + 1]).items():
            assert torch.equal(value[0], together[name][one]), name


def test_all_fields_are_finite_tensors_with_one_row_per_take():
    for name, value in drawn(torch.arange(1, 6)).items():
        assert len(value) == 5, name
        assert value.dtype in (torch.float32, torch.bool, torch.int64), (name, value.dtype)
        assert torch.isfinite(value.float()).all(), name


def test_without_variety_everybody_is_the_average_man():
    draws = people(60)
    body = draw_body(draws, variety=0.0)
    for name, value in tensors({"body": body, "gait": draw_gait(draws, body, variety=0.0)}).items():
        torch.testing.assert_close(value, value[:1].expand_as(value), rtol=1e-6, atol=1e-6, msg=name)
    assert not body.female.any()
    assert body.stature[0].item() == pytest.approx(1.715)
    assert (body.hair.tail == 0).all()


def test_half_the_variety_is_half_the_spread():
    draws = people(2000)
    whole, half = draw_body(draws), draw_body(draws, variety=0.5)
    men = ~whole.female & ~half.female
    assert (half.stature[men].std() / whole.stature[men].std()).item() == pytest.approx(0.5, abs=0.01)
    same = draw_body(draws, variety=0.0)
    gaits = [draw_gait(draws, same, variety) for variety in (1.0, 0.5)]
    assert (gaits[1].lean.std() / gaits[0].lean.std()).item() == pytest.approx(0.5, abs=0.02)
