"""Tests of gaits: agreement with the published values, and differences between takes and between people."""

import numpy as np
import pytest
import torch
from walker_parameters import PEOPLE, people, tensors

from model.common.counter_random import Draws
from model.synthetic.body import draw_body
from model.synthetic.curves import ADULT_SPREAD, NORMATIVE, angle
from model.synthetic.gait import draw_gait, vary_gait, walking_speed
from model.synthetic.skeleton import pose

# Standard deviations between 39 children at 2.5, 7.5, ... 97.5 % of the stride (Olshen et al. 1989), in degrees. For
# the hip, the mean of each child was subtracted before.
KNEE_SD = (4.8, 5.6, 6.3, 6.2, 6.2, 5.3, 4.7, 4.7, 4.6, 4.7, 5.7, 7.6, 7.5, 5.5, 4.4, 4.7, 7.3, 9.6, 8.4, 4.9)
HIP_SD = (4.0, 3.5, 3.7, 3.4, 3.5, 3.0, 3.1, 3.2, 3.5, 3.7, 4.0, 4.5, 5.0, 4.4, 4.3, 3.8, 3.6, 3.8, 4.5, 3.7)


def evaluated(curve, phases: np.ndarray) -> np.ndarray:
    """Return the angles of a curve in degrees [b, phases], computed with complex numbers."""
    coefficients = curve[0].double().numpy() + 1j * curve[1].double().numpy()
    turns = np.exp(2j * np.pi * np.arange(coefficients.shape[1])[:, None] * phases)
    return (coefficients @ turns).real


def test_without_variety_knees_bend_as_published_and_thighs_swing_in_proportion(crowd):
    draws, _, _ = crowd
    few = Draws(draws.keys[:50])
    gait = draw_gait(few, draw_body(few, variety=0.0), variety=0.0)
    phases = np.arange(20) / 20
    for name in ("knee", "thigh"):
        published = np.asarray(NORMATIVE[name], float)
        curve = evaluated(gait.curves[name], phases)
        assert np.abs(curve - curve[0]).max() < 1e-4
        swing = np.ptp(curve[0]) / np.ptp(published)
        assert 0.99 < swing < (1.01 if name == "knee" else 1.2)  # the published speed needs a wider swing of the thighs
        expected = published.mean() + (published - published.mean()) * swing
        np.testing.assert_allclose(curve[0], expected, atol=1.0)  # degrees; six harmonics approximate the curve


def test_curves_have_the_published_spread_between_people(crowd):
    gait = crowd[2]
    phases = 0.025 + np.arange(20) / 20
    knee, thigh = (evaluated(gait.curves[name], phases) for name in ("knee", "thigh"))
    np.testing.assert_allclose(knee.std(0), np.asarray(KNEE_SD) * ADULT_SPREAD, rtol=0.16, atol=0.3)
    without_mean = (thigh - thigh.mean(1, keepdims=True)).std(0)
    # The speed determines how wide the thighs swing, so the swing differs less between walkers than between the
    # children.
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
    """From foot flat to heel rise, the ball of the foot moves less than 15 % as far as the body."""
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
    # Parameters that only the take determines.
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
    assert again.phase.std() > 0.25, "takes begin anywhere in the stride"


def test_hands_are_in_pockets_in_some_takes(crowd):
    again = vary_gait(people(PEOPLE, "take"), crowd[2])
    pocket = again.hand_in_pocket
    assert 0.03 < pocket.float().mean() < 0.09
    assert again.arm_swing[pocket].mean() < 0.4 * again.arm_swing[~pocket].mean()
    assert again.elbow[pocket].mean() > 40
    assert (again.elbow_swing[pocket] == 0).all()
