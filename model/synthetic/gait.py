"""Gait: how fast subjects walk, with which curves, posture and arms. b takes.

Sources. Speed and cadence: Kadaba, Ramakrishnan and Wootten (1990), Grieve and Gear (1966). Leg curves and how they
differ: see `curves`. Pelvis: Kadaba et al. (1990); women tilt it more from side to side and men sway the shoulders more
(Smith, Lelas and Kerrigan 2002; Bruening et al. 2015). Arms: Murray, Sepic and Barnard (1967), upper arm between 8
degrees in front and 24 behind, elbow between 17 and 47 (here, by eye, 16 and 40); they swing unequally, in two of three
people the left wider (Killeen et al. 2018). Step width: 0.10 m, standard deviation 0.03 (Owings and Grabiner 2004),
wider with mass. What differs between two takes: about a fifth of what differs between people, as the curves of one day
repeat themselves (Kadaba et al. 1989). Posture of trunk and head, and pockets, are our own judgement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.common.counter_random import Draws
from model.synthetic.body import Body
from model.synthetic.curves import ADULTS, Curve, angle, deviate, moved, normative_curves
from model.synthetic.variety import Varied


@dataclass(frozen=True)
class Gait:
    """How subjects walk, float32 [b] or, left and right, [b, 2]. Angles in degrees, lengths in metres.

    cadence             steps a minute; `phase` of the left leg at time 0, in strides
    curves              thigh (against the vertical), knee and ankle: see `curves`
    asymmetry           of the legs: the left swings so much wider than the mean, the right so much less
    step_width          between the ankles; foot_progression [b, 2] is how far each foot points outward
    knee_out            how far the knees stand outside the line from hip to ankle: bow legs positive
    pelvis_yaw, pelvis_roll, thorax_yaw    half the range, about the vertical, from side to side, of the shoulders
    pelvis_tilt, lean, kyphosis, thorax_roll    bowed forward; rounded upper back; left shoulder higher
    sway                half the way of the body from side to side
    thorax_lag, arm_lag behind the leg, in strides
    nod, head_turn, head_forward    head bowed, turned to the left, carried in front of the shoulders
    arm_swing, arm_mean, arm_abduction    [b, 2] half the range of the upper arm, its middle (forward), how far out
    elbow, elbow_swing, forearm_in        [b, 2] least flexion, what is added in front, how far the hand points inward
    hand_in_pocket      bool [b, 2]; the other fields of the arm already put the hand there
    heading, offset     of the line walked: turned to the left, moved to the left
    start               ahead of the middle of the line when half of the frames are over
    """

    cadence: Tensor
    phase: Tensor
    curves: dict[str, Curve]
    asymmetry: Tensor
    step_width: Tensor
    foot_progression: Tensor
    knee_out: Tensor
    pelvis_yaw: Tensor
    pelvis_roll: Tensor
    pelvis_tilt: Tensor
    sway: Tensor
    thorax_yaw: Tensor
    thorax_lag: Tensor
    lean: Tensor
    kyphosis: Tensor
    thorax_roll: Tensor
    nod: Tensor
    head_turn: Tensor
    head_forward: Tensor
    arm_swing: Tensor
    arm_mean: Tensor
    arm_lag: Tensor
    arm_abduction: Tensor
    elbow: Tensor
    elbow_swing: Tensor
    forearm_in: Tensor
    hand_in_pocket: Tensor
    heading: Tensor
    offset: Tensor
    start: Tensor


def draw_gait(draws: Draws, body: Body, variety: float = 1.0) -> Gait:
    """One way of walking a body; `variety` scales all that differs between people of the same build.

    The average man of 1.715 m walks 1.30 m/s at 111 steps a minute, the average woman of 1.60 m 1.26 m/s at 115 (Kadaba
    et al. 1990: 1.34 and 112, 1.27 and 115); who walks faster takes longer steps and more of them, cadence growing with
    the power 0.57 of speed (Grieve and Gear 1966). The old walk slower (0.4 % a year from 50 on), bent.
    """
    varied = Varied(draws, "gait", variety)
    heavy, old = body.bmi / 22.0 - 1.0, (body.age - 50).clamp(min=0)
    brisk = varied.normal("speed", 0.0, 0.10) - 0.004 * old
    speed = torch.where(body.female, 0.785, 0.760) * brisk.exp()  # statures a second
    usual = torch.where(body.female, 131.8, 129.6) * (0.57 * speed.log()).exp()
    curves = deviate(varied, normative_curves(speed), ADULTS, 0.16)
    shifts = {"thigh": varied.normal("thigh", 0.0, 2.0), "knee": 0.0 * speed, "ankle": varied.normal("ankle", 0.0, 2.2)}
    scales = {
        "thigh": 1.0 + 0.0 * speed,
        "knee": (0.3 * brisk).exp(),
        "ankle": varied.normal("ankle scale", 0.97, 0.13),
    }
    width = torch.where(body.female, 0.088, 0.105) + 0.06 * heavy
    step_width = varied.bounded("step width", width, 0.025, 0.03)
    zero = torch.zeros_like(speed)
    gait = Gait(
        cadence=(usual * varied.normal("cadence", 0.0, 0.045).exp()).clamp(85, 140),
        phase=zero,
        curves={name: moved(curve, scales[name], shifts[name]) for name, curve in curves.items()},
        asymmetry=varied.normal("asymmetry", 0.0, 0.025),
        step_width=step_width,
        foot_progression=varied.normal("feet", torch.where(body.female, 4.5, 7.0), 4.5)[:, None]
        + varied.normal("each foot", 0.0, 2.0, (2,)),
        knee_out=varied.normal("knees", torch.where(body.female, -0.003, 0.003), 0.010),
        pelvis_yaw=varied.bounded("pelvis yaw", torch.where(body.female, 5.4, 4.6) + 8 * brisk, 1.8, 0.5),
        pelvis_roll=varied.bounded("pelvis roll", torch.where(body.female, 4.7, 3.3), 1.2, 0.3),
        pelvis_tilt=varied.normal("pelvis tilt", torch.where(body.female, 5.0, 3.5), 4.0),
        sway=varied.bounded("sway", 0.022 + 0.20 * (step_width - width) - 0.02 * brisk + 0.008 * heavy, 0.005, 0.004),
        thorax_yaw=varied.bounded("thorax yaw", torch.where(body.female, 3.8, 4.5), 1.6, 0.5),
        thorax_lag=varied.normal("thorax lag", 0.0, 0.03),
        lean=varied.normal("lean", 2.8, 2.6) + 6.0 * brisk,
        kyphosis=varied.normal("kyphosis", 8.0, 5.5) + 0.25 * old,
        thorax_roll=varied.normal("shoulders", 0.0, 1.4),
        nod=varied.normal("nod", 2.0, 6.0),
        head_turn=varied.normal("head turn", 0.0, 2.0),
        head_forward=varied.normal("head forward", 0.028, 0.014) + 0.0008 * old,
        heading=zero,
        offset=zero,
        start=zero,
        **_arms(varied, brisk, heavy),
    )
    return _stride_to(gait, body, speed * body.stature)


def _arms(varied: Varied, brisk: Tensor, heavy: Tensor) -> dict[str, Tensor]:
    """The fields of the arms. Both peaks of the upper arm vary by themselves; who swings it far ahead bends the elbow
    less (our own judgement); heavy trunks push the arms outward."""
    ahead, behind = varied.normal("arm ahead", 8.0, 5.5), varied.normal("arm behind", 24.0, 7.0)
    swing = ((ahead + behind) / 2 + 25.0 * brisk)[:, None]
    one_sided = varied.normal("left arm", 0.08, 0.16).clamp(-0.6, 0.6)
    abduction = 9.0 + 9.0 * heavy.clamp(min=0) + varied.normal("abduction", 0.0, 2.5)
    elbow, bent = varied.normal("elbow", 16.0, 6.0), varied.bounded("elbow swing", 24.0 - 0.6 * (ahead - 8.0), 7.0, 0.0)
    return {
        "arm_swing": (swing * (1 + torch.stack([one_sided, -one_sided], -1))).clamp(min=1.5),
        "arm_mean": ((ahead - behind) / 2)[:, None] + varied.normal("each arm", 0.0, 1.5, (2,)),
        "arm_lag": varied.normal("arm lag", 0.0, 0.03),
        "arm_abduction": abduction[:, None] + varied.normal("each abduction", 0.0, 1.0, (2,)),
        "elbow": (elbow[:, None] + varied.normal("each elbow", 0.0, 3.0, (2,))).clamp(min=3.0),
        "elbow_swing": bent[:, None] * (1 + 0.5 * torch.stack([one_sided, -one_sided], -1)),
        "forearm_in": varied.normal("forearm", 5.5, 6.0)[:, None] + varied.normal("each forearm", 0.0, 2.0, (2,)),
        "hand_in_pocket": torch.zeros(len(brisk), 2, dtype=torch.bool, device=brisk.device),
    }


def _stride_to(gait: Gait, body: Body, speed: Tensor) -> Gait:
    """Swing the thighs as wide as `speed` (metres a second) needs at this cadence; three steps of the secant rule."""
    thigh = gait.curves["thigh"]

    def swung(scale: Tensor) -> Gait:
        return replace(gait, curves=gait.curves | {"thigh": moved(thigh, scale, torch.zeros_like(scale))})

    low, high = torch.full_like(speed, 0.9), torch.full_like(speed, 1.1)
    for _ in range(3):
        first, second = walking_speed(body, swung(low)), walking_speed(body, swung(high))
        slope = (second - first) / torch.where(high == low, 1.0, high - low)
        low, high = high, (high + (speed - second) / slope.clamp(min=0.1)).clamp(0.6, 1.6)
    return swung(high)


# What adds to a field from take to take: standard deviation and, of the sum, the least.
_NO_LIMIT = -math.inf
_OF_A_TAKE = {
    "asymmetry": (0.005, _NO_LIMIT),
    "step_width": (0.007, 0.02),
    "foot_progression": (1.0, _NO_LIMIT),
    "knee_out": (0.001, _NO_LIMIT),
    "pelvis_yaw": (0.5, 0.3),
    "pelvis_roll": (0.3, 0.2),
    "pelvis_tilt": (0.6, _NO_LIMIT),
    "sway": (0.0015, 0.003),
    "thorax_yaw": (0.5, 0.3),
    "thorax_lag": (0.008, _NO_LIMIT),
    "lean": (0.8, _NO_LIMIT),
    "kyphosis": (0.9, _NO_LIMIT),
    "thorax_roll": (0.3, _NO_LIMIT),
    "nod": (2.5, _NO_LIMIT),
    "head_forward": (0.003, _NO_LIMIT),
    "arm_mean": (1.2, _NO_LIMIT),
    "arm_lag": (0.008, _NO_LIMIT),
    "arm_abduction": (0.7, _NO_LIMIT),
    "elbow": (2.2, 2.0),
    "elbow_swing": (2.0, 0.0),
    "forearm_in": (1.5, _NO_LIMIT),
}


def vary_gait(draws: Draws, gait: Gait, strength: float = 1.0) -> Gait:
    """The same subjects in another take, `draws` being the take's: another start, speed, mood and line."""
    varied = Varied(draws, "gait", strength)
    brisk = varied.normal("speed", 0.0, 0.045)
    shift = {name: varied.normal(name, 0.0, 0.6) for name in gait.curves}
    wider = {"thigh": (0.43 * brisk).exp(), "knee": (0.2 * brisk).exp(), "ankle": (0.1 * brisk).exp()}
    curves = deviate(varied, gait.curves, 0.18 * ADULTS, 0.02)
    changed = {}
    for name, (sd, least) in _OF_A_TAKE.items():
        value = getattr(gait, name)
        changed[name] = (value + varied.normal(name, 0.0, sd, value.shape[1:])).clamp(min=least)
    aside = varied.chance("looks aside", 0.12)
    arms = varied.normal("arms", 1.0, 0.08)[:, None] * varied.normal("arm swing", 1.0, 0.08, (2,))
    changed = replace(
        gait,
        **changed,
        cadence=gait.cadence * (0.57 * brisk).exp(),
        phase=draws.uniform("gait phase"),
        curves={name: moved(curve, wider[name], shift[name]) for name, curve in curves.items()},
        head_turn=gait.head_turn + varied.normal("head turn", 0.0, torch.where(aside, 22.0, 4.0)),
        arm_swing=(gait.arm_swing * arms * (1.5 * brisk).exp()[:, None]).clamp(min=1.0),
        heading=varied.normal("heading", 0.0, 1.5),
        offset=varied.normal("offset", 0.0, 0.07),
        start=varied.normal("start", 0.0, 0.2),
    )
    one, both = varied.chance("pocket", 0.04, (2,)), varied.chance("pockets", 0.02)
    return _put_in_pocket(changed, one | both[:, None])


def _put_in_pocket(gait: Gait, where: Tensor) -> Gait:
    """Hands in the pockets of trousers or jacket: upper arm back and out, elbow bent, little swing. bool [b, 2]"""
    return replace(
        gait,
        arm_swing=torch.where(where, gait.arm_swing * 0.25, gait.arm_swing),
        arm_mean=torch.where(where, gait.arm_mean - 8.0, gait.arm_mean),
        arm_abduction=torch.where(where, gait.arm_abduction + 8.0, gait.arm_abduction),
        elbow=torch.where(where, gait.elbow * 0.3 + 40.0, gait.elbow),
        elbow_swing=torch.where(where, 0.0, gait.elbow_swing),
        forearm_in=torch.where(where, gait.forearm_in * 0.3 + 10.0, gait.forearm_in),
        hand_in_pocket=gait.hand_in_pocket | where,
    )


def walking_speed(body: Body, gait: Gait) -> Tensor:
    """Metres a second [b] at which the feet do not slide, on average over a step.

    A step is as long as the ankles are apart when the heel lands, and as feet roll: over the heel until they are flat,
    over the ball as the heel leaves the ground.
    """
    phases = gait.cadence.new_tensor([0.0, 0.5]).expand(len(gait.cadence), 2)
    thigh, knee, ankle = (angle(gait.curves[name], phases) for name in ("thigh", "knee", "ankle"))
    shank = thigh - knee
    reach = body.lengths["thigh"][:, None] * thigh.sin() + body.lengths["shank"][:, None] * shank.sin()
    foot, height = body.lengths["foot"], body.lengths["ankle_height"]
    toes_up, heel_up = (shank + ankle)[:, 0].clamp(min=0.0), (-shank - ankle)[:, 1].clamp(min=0.0)
    over_heel = (height - body.radii["heel"]) * toes_up.sin() + (0.27 * foot - body.radii["heel"]) * (1 - toes_up.cos())
    over_ball = (height - body.radii["ball"]) * heel_up.sin() + 0.43 * foot * (1 - heel_up.cos())
    hips = 2 * body.hip_half * (gait.pelvis_yaw * (math.pi / 180)).sin()
    return (reach[:, 0] - reach[:, 1] + hips + over_heel + over_ball) * gait.cadence / 60.0
