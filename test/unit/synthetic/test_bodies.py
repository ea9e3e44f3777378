"""Tests of bodies, gaits and clothes: agreement with the published values, and independence of the batch."""

from __future__ import annotations

import math
from dataclasses import is_dataclass

import numpy as np
import pytest
import torch

from model.common.counter_random import Draws
from model.synthetic.anthropometry import draw_measures
from model.synthetic.body import TRUNK_LEVELS, draw_body
from model.synthetic.clothing import BAG_TYPES, add_bags, add_coats, draw_outfit, spread_arms, vary_outfit
from model.synthetic.curves import ADULT_SPREAD, NORMATIVE, angle
from model.synthetic.gait import draw_gait, vary_gait, walking_speed
from model.synthetic.scaled_draws import ScaledDraws
from model.synthetic.skeleton import pose

PEOPLE = 12000
# Correlations within each sex in the data of Heinz et al. (2003), computed from the 507 people, not from our table.
CORRELATIONS = {
    ("stature", "mass"): 0.48,
    ("waist_girth", "mass"): 0.83,
    ("hip_girth", "mass"): 0.89,
    ("calf_girth", "mass"): 0.74,
    ("biacromial", "mass"): 0.46,
    ("biacromial", "stature"): 0.47,
    ("waist_girth", "stature"): 0.17,
    ("thigh_girth", "waist_girth"): 0.65,
    ("thigh_girth", "hip_girth"): 0.85,
    ("biceps_girth", "forearm_girth"): 0.87,
    ("biceps_girth", "shoulder_girth"): 0.75,
    ("wrist_girth", "forearm_girth"): 0.76,
    ("calf_girth", "ankle_girth"): 0.72,
    ("calf_girth", "knee_girth"): 0.76,
    ("chest_breadth", "biacromial"): 0.50,
    ("chest_depth", "waist_girth"): 0.67,
    ("bitrochanteric", "hip_girth"): 0.74,
    ("navel_girth", "waist_girth"): 0.86,
}
# Standard deviation over 39 children at 2.5, 7.5, ... 97.5 % of the stride (Olshen et al. 1989), in degrees; for the
# hip, after subtraction of the mean of each child.
KNEE_SD = (4.8, 5.6, 6.3, 6.2, 6.2, 5.3, 4.7, 4.7, 4.6, 4.7, 5.7, 7.6, 7.5, 5.5, 4.4, 4.7, 7.3, 9.6, 8.4, 4.9)
HIP_SD = (4.0, 3.5, 3.7, 3.4, 3.5, 3.0, 3.1, 3.2, 3.5, 3.7, 4.0, 4.5, 5.0, 4.4, 4.3, 3.8, 3.6, 3.8, 4.5, 3.7)


def people(count: int, purpose: str = "subject") -> Draws:
    return Draws.of(5, purpose, torch.arange(1, count + 1))


@pytest.fixture(scope="module")
def crowd():
    draws = people(PEOPLE)
    body = draw_body(draws)
    return draws, body, draw_gait(draws, body)


def tensors(of, prefix: str = "") -> dict[str, torch.Tensor]:
    """Return all tensors of nested dataclasses, dictionaries and pairs by name."""
    if isinstance(of, torch.Tensor):
        return {prefix: of}
    if is_dataclass(of):
        of = vars(of)
    items = of.items() if isinstance(of, dict) else enumerate(of)
    return {name: value for key, part in items for name, value in tensors(part, f"{prefix}.{key}").items()}


def evaluated(curve, phases: np.ndarray) -> np.ndarray:
    """Return degrees [b, phases], computed with complex numbers."""
    coefficients = curve[0].double().numpy() + 1j * curve[1].double().numpy()
    turns = np.exp(2j * np.pi * np.arange(coefficients.shape[1])[:, None] * phases)
    return (coefficients @ turns).real


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
    """Heinz et al.: means of 247 men (1.776 m, 77.4 kg) and 260 women (1.647 m, 59.9 kg) in centimetres."""
    published = {
        "waist_girth": (84.5, 69.8),
        "hip_girth": (97.8, 95.7),
        "calf_girth": (37.2, 35.0),
        "biacromial": (41.2, 36.5),
    }
    draws = people(3000)
    for sex, (stature, mass) in enumerate(((1.776, 77.4), (1.647, 59.9))):
        like = torch.ones(len(draws))
        measures = draw_measures(ScaledDraws(draws, "body"), like > (0 if sex else 1), like * stature, like * mass)
        for name, means in published.items():
            assert measures[name].mean().item() * 100 == pytest.approx(means[sex], rel=0.01), name


def test_a_body_standing_straight_is_as_tall_as_its_stature(crowd):
    body = crowd[1]
    stacked = body.leg + TRUNK_LEVELS[-1] * body.lengths["trunk"] + 1.1 * body.neck + 1.78 * body.head[:, 2]
    difference = stacked - body.stature
    assert (difference > -1e-5).all()  # necks have at least 1 cm, which makes a few bodies taller
    assert (difference.abs() < 1e-5).float().mean() > 0.95
    assert difference.max() < 0.05


def test_the_waist_has_the_drawn_girth(crowd):
    """Measure around the waist in small steps; the girth of a real waist is 1.04 times that of an ellipse."""
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


# --- gaits ---------------------------------------------------------------------------------------------------


def test_without_variety_knees_bend_as_published_and_thighs_swing_in_proportion(crowd):
    draws, _, _ = crowd
    few = Draws(draws.keys[:50])
    gait = draw_gait(few, draw_body(few, variety=0.0), variety=0.0)
    phases = np.arange(20) / 20
    for name, most in (("knee", 1.0), ("thigh", 1.0)):  # degrees: six harmonics approximate the curve
        published = np.asarray(NORMATIVE[name], float)
        curve = evaluated(gait.curves[name], phases)
        assert np.abs(curve - curve[0]).max() < 1e-4
        swing = np.ptp(curve[0]) / np.ptp(published)
        assert 0.99 < swing < (1.01 if name == "knee" else 1.2)  # the published speed needs a wider swing of the thighs
        expected = published.mean() + (published - published.mean()) * swing
        np.testing.assert_allclose(curve[0], expected, atol=most)


def test_curves_have_the_published_spread_between_people(crowd):
    gait = crowd[2]
    phases = 0.025 + np.arange(20) / 20
    knee, thigh = (evaluated(gait.curves[name], phases) for name in ("knee", "thigh"))
    np.testing.assert_allclose(knee.std(0), np.asarray(KNEE_SD) * ADULT_SPREAD, rtol=0.16, atol=0.3)
    without_mean = (thigh - thigh.mean(1, keepdims=True)).std(0)
    # the speed determines how wide the thighs swing, so the swing differs less than in the children
    np.testing.assert_allclose(without_mean, np.asarray(HIP_SD) * ADULT_SPREAD, rtol=0.25, atol=0.6)


def test_angle_is_the_series_in_radians(crowd):
    curve = crowd[2].curves["ankle"]
    phases = np.linspace(-1, 2, 31)
    asked = torch.tensor(phases, dtype=torch.float32).expand(PEOPLE, -1)
    found = torch.rad2deg(angle(curve, asked)).numpy()
    np.testing.assert_allclose(found, evaluated(curve, phases), atol=2e-3)


@pytest.mark.parametrize(("female", "speed", "cadence"), [(False, 1.34, 112), (True, 1.27, 115)])
def test_speed_and_cadence_have_the_published_means(crowd, female, speed, cadence):
    """The men of Kadaba et al. were 1.77 m tall, the women 1.64 m; speeds are compared in statures per second."""
    _, body, gait = crowd
    of_sex = (body.female == female) & (body.age < 45)
    taller = (1.64 if female else 1.77) / body.stature[of_sex].mean()
    walked = walking_speed(body, gait)[of_sex]
    assert (walked.mean() * taller).item() == pytest.approx(speed, abs=0.05)
    assert 0.10 < walked.std().item() < 0.20
    assert gait.cadence[of_sex].mean().item() == pytest.approx(cadence, abs=2)
    assert 6 < gait.cadence[of_sex].std().item() < 10


def test_cadence_grows_with_the_published_power_of_speed(crowd):
    _, body, gait = crowd
    pair = torch.stack([(walking_speed(body, gait) / body.stature).log(), gait.cadence.log()])[:, ~body.female]
    covariance = pair.cov()
    assert (covariance[0, 1] / covariance[0, 0]).item() == pytest.approx(0.57, abs=0.03)


def test_the_standing_foot_does_not_slide(crowd):
    """From foot flat to heel rise the ball of the foot moves by less than 15 % of what the body moves."""
    slid = []
    for number in range(20):
        one = Draws(crowd[0].keys[number : number + 1])
        body = draw_body(one)
        gait = draw_gait(one, body)
        times = torch.tensor([0.12, 0.42]) * 120.0 / gait.cadence
        ball = pose(body, gait, times, path=100.0).joints["left_ball"][0, :, 0]
        slid.append((ball[1] - ball[0]) / (walking_speed(body, gait)[0] * (times[1] - times[0])))
    assert torch.stack(slid).abs().mean() < 0.15


def test_the_pelvis_is_highest_over_the_standing_leg_by_the_drawn_angle(crowd):
    draws = Draws(crowd[0].keys[:1])
    body = draw_body(draws)
    gait = draw_gait(draws, body)
    phases = torch.arange(0, 1, 0.01)
    joints = pose(body, gait, phases * 120.0 / gait.cadence, path=100.0).joints
    higher = (joints["left_hip"] - joints["right_hip"])[0, :, 2] / (2 * body.hip_half[0])
    tilted = torch.rad2deg(torch.asin(higher))
    assert 0.12 < phases[tilted.argmax()] < 0.24
    assert tilted.max().item() == pytest.approx(gait.pelvis_roll[0].item(), rel=0.05)


def test_old_people_walk_slower_and_heavy_people_wider(crowd):
    _, body, gait = crowd
    relative = walking_speed(body, gait) / body.stature
    assert relative[body.age > 60].mean() < 0.97 * relative[body.age < 40].mean()
    heavy, light = body.bmi > 26, body.bmi < 20
    for name in ("step_width", "sway", "arm_abduction"):
        field = getattr(gait, name)
        assert field[heavy].mean() > 1.05 * field[light].mean(), name


def test_takes_differ_less_than_people_in_every_parameter(crowd):
    _, _, gait = crowd
    again = vary_gait(people(PEOPLE, "take"), gait)
    free = ~again.hand_in_pocket.any(1)
    # parameters of the take alone
    of_the_take = ("phase", "heading", "offset", "start", "head_turn", "hand_in_pocket")
    for (name, value), other in zip(tensors(gait).items(), tensors(again).values(), strict=True):
        if name.strip(".") in of_the_take or name.startswith(".curves"):
            continue
        within, between = (other - value)[free].std(0).mean(), value.std(0).mean()
        assert 0 < within < 0.55 * between, (name, within, between)
    phases = np.arange(20) / 20
    for name, curve in gait.curves.items():
        first, second = evaluated(curve, phases), evaluated(again.curves[name], phases)
        assert 0.3 < (second - first).std() < 0.4 * first.std(0).mean(), name


def test_hands_are_in_pockets_in_some_takes(crowd):
    again = vary_gait(people(PEOPLE, "take"), crowd[2])
    pocket = again.hand_in_pocket
    assert 0.03 < pocket.float().mean() < 0.09
    assert again.arm_swing[pocket].mean() < 0.4 * again.arm_swing[~pocket].mean()
    assert again.elbow[pocket].mean() > 40
    assert (again.elbow_swing[pocket] == 0).all()


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
    outfit, changed = add_bags(take, outfit, gait, bagged)
    for before, after, touched in ((plain, outfit, coated | bagged), (gait, changed, bagged)):
        for (name, old), new in zip(tensors(before).items(), tensors(after).values(), strict=True):
            assert torch.equal(old[~touched], new[~touched]), name
    assert torch.equal(outfit.coat, coated)
    assert (outfit.trunk[coated] > plain.trunk.clamp(max=0.022)[coated]).all()
    assert (outfit.hem[coated] > 0.1).all()
    assert torch.equal(outfit.bag.bag_type >= 0, bagged)
    assert set(outfit.bag.bag_type[bagged].tolist()) == set(range(len(BAG_TYPES)))
    hand = bagged & (outfit.bag.bag_type == BAG_TYPES.index("hand"))
    holding = torch.stack([outfit.bag.left, ~outfit.bag.left], 1)[hand]
    assert (changed.arm_swing[hand][holding] < 0.7 * gait.arm_swing[hand][holding]).all()
    assert torch.equal(changed.arm_swing[hand][~holding], gait.arm_swing[hand][~holding])


def test_some_women_have_skirts_and_bare_legs(crowd):
    draws, body, _ = crowd
    outfit = draw_outfit(draws, body)
    assert not outfit.skirt[~body.female].any()
    assert 0.1 < outfit.skirt[body.female].float().mean() < 0.25
    assert (outfit.cuff[outfit.skirt] < 0.002).all()
    assert (outfit.hem[outfit.skirt] > 0.5).all()
    wide = outfit.cuff[~outfit.skirt]  # trousers: from tight to 17 cm wider than the ankle
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
    """Return all tensors of one take per subject, a third of them with coats and a third with bags."""
    subject, take = Draws.of(5, "subject", subjects), Draws.of(5, "take", subjects)
    body = draw_body(subject, variety)
    gait = vary_gait(take, draw_gait(subject, body, variety))
    outfit = add_coats(take, vary_outfit(take, draw_outfit(subject, body)), subjects % 3 == 0)
    outfit, gait = add_bags(take, outfit, spread_arms(gait, outfit), subjects % 3 == 1)
    return tensors({"body": body, "gait": gait, "outfit": outfit})


def test_a_subject_does_not_depend_on_the_batch():
    subjects = torch.arange(1, 38)  # not a multiple of a vector register
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
