"""Gait parameters of subjects and takes: speed, joint curves, posture and arm swing.

b takes. Means, spreads and their sources: see `gait_spreads`.
"""

import math
from collections import namedtuple
from typing import Any

import torch
from torch import Tensor

from model.common.counter_random import Draws
from model.synthetic import gait_spreads as spreads
from model.synthetic.body import Body
from model.synthetic.curves import ADULT_SPREAD, angle, normative_curves, rescale, vary_curves
from model.synthetic.scaled_draws import ScaledDraws

_FIELDS = """cadence phase curves asymmetry step_width foot_progression knee_out pelvis_yaw pelvis_roll pelvis_tilt sway
    thorax_yaw thorax_lag lean kyphosis thorax_roll nod head_turn head_forward arm_swing arm_mean arm_lag arm_abduction
    elbow elbow_swing forearm_in hand_in_pocket heading offset start"""


class Gait(namedtuple("Gait", _FIELDS)):
    """Gait parameters: float32 [b], or [b, 2] for (left, right). Angles in degrees, lengths in metres.

    cadence             steps per minute; `phase` is the phase of the left leg at time 0, in strides
    curves              of the thigh (against the vertical), knee and ankle: see `curves`
    asymmetry           the left leg swings wider than the mean by this fraction, the right leg less
    step_width          distance between the ankles; foot_progression [b, 2] is how far each foot points outward
    knee_out            distance of the knee outside the line from hip to ankle; positive for bow legs
    pelvis_yaw, pelvis_roll, thorax_yaw    half the range: about the vertical, from side to side, of the shoulders
    pelvis_tilt, lean, kyphosis, thorax_roll    forward tilt; forward lean; rounded upper back; left shoulder higher
    sway                half the range of the body from side to side
    thorax_lag, arm_lag delay behind the leg, in strides
    nod, head_turn, head_forward    head bowed, turned to the left, distance in front of the shoulders
    arm_swing, arm_mean, arm_abduction    [b, 2] half the range of the upper arm, its middle (forward), angle outward
    elbow, elbow_swing, forearm_in        [b, 2] least flexion, additional flexion in front, angle of the forearm inward
    hand_in_pocket      bool [b, 2]; the other arm parameters already put the hand there
    heading, offset     of the walking line: turned to the left, moved to the left
    start               distance ahead of the middle of the line at half of the frames
    """


def draw_gait(draws: Draws, body: Body, variety: float = 1.0) -> Gait:
    """Draw one gait per body; `variety` scales all differences between people of the same build.

    The average man of 1.715 m walks 1.30 m/s at 111 steps per minute, the average woman of 1.60 m 1.26 m/s at 115.
    Faster people take longer and more steps. From the age of 50 on, people walk slower by 0.4 % per year, and bent.
    """
    scaled = ScaledDraws(draws, "gait", variety)
    zero = torch.zeros_like(body.stature)

    def draw(name: str, *shifts_of_mean: Tensor) -> Tensor:
        row = spreads.SPREADS[name]
        mean = sum(shifts_of_mean, torch.where(body.female, row.women, row.men))
        value = scaled.normal(row.draw, mean, row.sd)
        if row.side_draw:
            value = value[:, None] + scaled.normal(row.side_draw, 0.0, row.side_sd, (2,))
        return value.clamp(min=row.minimum)

    # Weight, age and briskness (log of the speed relative to the mean) influence many parameters.
    heavy, old = body.bmi / 22.0 - 1.0, (body.age - 50).clamp(min=0)
    brisk = scaled.normal("speed", 0.0, 0.10) - 0.004 * old
    speed = torch.where(body.female, *spreads.SPEED) * brisk.exp()
    cadence = torch.where(body.female, *spreads.CADENCE) * (spreads.CADENCE_POWER * speed.log()).exp()

    # Joint curves: individual shapes, then scale and mean angle. Brisk walkers bend the knee more.
    curves = vary_curves(scaled, normative_curves(speed), ADULT_SPREAD, 0.16)
    curves["thigh"] = rescale(curves["thigh"], zero + 1.0, scaled.normal("thigh", 0.0, 2.0))
    curves["knee"] = rescale(curves["knee"], (0.3 * brisk).exp(), zero)
    ankle_scale, ankle_shift = scaled.normal("ankle scale", 0.97, 0.13), scaled.normal("ankle", 0.0, 2.2)
    curves["ankle"] = rescale(curves["ankle"], ankle_scale, ankle_shift)

    # Arms: the forward and backward peak vary independently, and the swing differs between left and right.
    forward = scaled.normal("arm ahead", *spreads.FORWARD_ARM)
    backward = scaled.normal("arm behind", *spreads.BACKWARD_ARM)
    arm_swing = ((forward + backward) / 2 + 25.0 * brisk)[:, None]
    one_sided = scaled.normal("left arm", 0.08, 0.16).clamp(-0.6, 0.6)
    one_sided = torch.stack([one_sided, -one_sided], -1)

    # Parameters with a mean that depends on weight, speed or another parameter (slopes: our own judgement). Heavy
    # trunks push the arms outward; people who swing the arm far forward bend the elbow less.
    usual_width = torch.where(body.female, *(spreads.SPREADS["step_width"][i] for i in (2, 1))) + 0.06 * heavy
    step_width = draw("step_width", 0.06 * heavy)
    values = {
        "step_width": step_width,
        "sway": draw("sway", 0.20 * (step_width - usual_width), -0.02 * brisk, 0.008 * heavy),
        "pelvis_yaw": draw("pelvis_yaw", 8 * brisk),
        "lean": draw("lean") + 6.0 * brisk,
        "kyphosis": draw("kyphosis") + 0.25 * old,
        "head_forward": draw("head_forward") + 0.0008 * old,
        "arm_abduction": draw("arm_abduction", 9.0 * heavy.clamp(min=0)),
        "arm_swing": (arm_swing * (1 + one_sided)).clamp(min=1.5),
        "arm_mean": ((forward - backward) / 2)[:, None] + scaled.normal("each arm", 0.0, 1.5, (2,)),
        "elbow_swing": draw("elbow_swing", -0.6 * (forward - spreads.FORWARD_ARM[0]))[:, None] * (1 + 0.5 * one_sided),
        "cadence": (cadence * scaled.normal("cadence", 0.0, 0.045).exp()).clamp(85, 140),
        "curves": curves,
        "hand_in_pocket": torch.zeros(len(zero), 2, dtype=torch.bool, device=zero.device),
    }
    values |= {name: draw(name) for name in spreads.SPREADS if name not in values}
    gait = Gait(**values, phase=zero, heading=zero, offset=zero, start=zero)
    return _match_speed(gait, body, speed * body.stature)


def _match_speed(gait: Gait, body: Body, speed: Tensor) -> Gait:
    """Scale the swing of the thighs so that the gait has `speed` (m/s) at its cadence: three steps of the secant
    method."""
    thigh = gait.curves["thigh"]

    def scaled_gait(scale: Tensor) -> Gait:
        return gait._replace(curves=gait.curves | {"thigh": rescale(thigh, scale, torch.zeros_like(scale))})

    low, high = torch.full_like(speed, 0.9), torch.full_like(speed, 1.1)
    for _ in range(3):
        first, second = walking_speed(body, scaled_gait(low)), walking_speed(body, scaled_gait(high))
        slope = (second - first) / torch.where(high == low, 1.0, high - low)
        low, high = high, (high + (speed - second) / slope.clamp(min=0.1)).clamp(0.6, 1.6)
    return scaled_gait(high)


def vary_gait(draws: Draws, gait: Gait) -> Gait:
    """Return the gaits in one take each: start, speed, posture and walking line deviate a little.

    `draws` are those of the takes.
    """
    scaled = ScaledDraws(draws, "gait")
    brisk = scaled.normal("speed", 0.0, 0.045)

    # Joint curves: brisk walkers swing wider.
    scales = {"thigh": (0.43 * brisk).exp(), "knee": (0.2 * brisk).exp(), "ankle": (0.1 * brisk).exp()}
    curves = vary_curves(scaled, gait.curves, 0.18 * ADULT_SPREAD, 0.02)
    curves = {name: rescale(curve, scales[name], scaled.normal(name, 0.0, 0.6)) for name, curve in curves.items()}

    # Parameters of the table.
    changed = {}
    for name, row in spreads.SPREADS.items():
        if row.take_sd:
            value = getattr(gait, name)
            deviation = scaled.normal(name, 0.0, row.take_sd, value.shape[1:])
            changed[name] = (value + deviation).clamp(min=row.take_minimum)

    # Some people look aside during a take; arms swing more in a brisk walk.
    looks_aside = scaled.chance("looks aside", 0.12)
    arms = scaled.normal("arms", 1.0, 0.08)[:, None] * scaled.normal("arm swing", 1.0, 0.08, (2,))
    gait = gait._replace(
        **changed,
        cadence=gait.cadence * (spreads.CADENCE_POWER * brisk).exp(),
        phase=scaled.uniform("phase"),
        curves=curves,
        head_turn=gait.head_turn + scaled.normal("head turn", 0.0, torch.where(looks_aside, 22.0, 4.0)),
        arm_mean=gait.arm_mean + scaled.normal("arm_mean", 0.0, 1.2, (2,)),
        arm_swing=(gait.arm_swing * arms * (1.5 * brisk).exp()[:, None]).clamp(min=1.0),
        heading=scaled.normal("heading", 0.0, 1.5),
        offset=scaled.normal("offset", 0.0, 0.07),
        start=scaled.normal("start", 0.0, 0.2),
    )
    one_hand, both_hands = scaled.chance("pocket", 0.04, (2,)), scaled.chance("pockets", 0.02)
    return _put_in_pocket(gait, one_hand | both_hands[:, None])


def _put_in_pocket(gait: Gait, where: Tensor) -> Gait:
    """Put the hands `where` (bool [b, 2]) into pockets: upper arm backward and outward, elbow bent, little swing."""
    return change_where(
        gait,
        where,
        arm_swing=gait.arm_swing * 0.25,
        arm_mean=gait.arm_mean - 8.0,
        arm_abduction=gait.arm_abduction + 8.0,
        elbow=gait.elbow * 0.3 + 40.0,
        elbow_swing=torch.zeros_like(gait.elbow_swing),
        forearm_in=gait.forearm_in * 0.3 + 10.0,
        hand_in_pocket=where,
    )


def change_where(old: Any, where: Tensor, **changes: Tensor) -> Any:
    """Return the named tuple `old` with `changes` of its tensors in the takes or sides `where`, bool [b] or [b, 2]."""
    return old._replace(**{name: torch.where(where, value, getattr(old, name)) for name, value in changes.items()})


def walking_speed(body: Body, gait: Gait) -> Tensor:
    """Return the speed [b] in m/s at which the feet do not slide, averaged over a step.

    The length of a step is the distance between the ankles at heel contact, plus the rotation of the pelvis, plus the
    distance that the feet roll: over the heel until the foot is flat, and over the ball as the heel rises.
    """
    # Angles of both legs at heel contact of the left foot: the left leg is at phase 0, the right leg at 0.5.
    phases = gait.cadence.new_tensor([0.0, 0.5]).expand(len(gait.cadence), 2)
    thigh, knee, ankle = (angle(gait.curves[name], phases) for name in ("thigh", "knee", "ankle"))
    shank = thigh - knee
    # Horizontal distance of each ankle from its hip.
    reach = body.lengths["thigh"][:, None] * thigh.sin() + body.lengths["shank"][:, None] * shank.sin()
    # Rolling over the heel and over the ball.
    foot, height = body.lengths["foot"], body.lengths["ankle_height"]
    toes_up, heel_up = (shank + ankle)[:, 0].clamp(min=0.0), (-shank - ankle)[:, 1].clamp(min=0.0)
    over_heel = (height - body.radii["heel"]) * toes_up.sin() + (0.27 * foot - body.radii["heel"]) * (1 - toes_up.cos())
    over_ball = (height - body.radii["ball"]) * heel_up.sin() + 0.43 * foot * (1 - heel_up.cos())
    # Forward distance between the hip joints, because the pelvis is rotated.
    hips = 2 * body.hip_half * (gait.pelvis_yaw * (math.pi / 180)).sin()
    return (reach[:, 0] - reach[:, 1] + hips + over_heel + over_ball) * gait.cadence / 60.0
