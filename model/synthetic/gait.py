"""Draw the gait parameters of subjects and takes: speed, joint curves, posture and arm swing.

Shapes: b takes. `gait_spreads` contains the means, the spreads and their sources.
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
    """Gait parameters: float32 [b], or [b, 2] for (left, right). Angles are in degrees, lengths in metres.

    cadence             steps per minute
    phase               phase of the left leg at time 0, in strides
    curves              curves of thigh (against the vertical), knee and ankle by name, as in the module `curves`
    asymmetry           fraction by which the left leg swings wider than the mean of both legs; the right leg swings
                        less wide by the same fraction
    step_width          sideways distance between the ankles
    foot_progression    [b, 2] angle by which each foot points outward
    knee_out            outward distance of the knee from the line between hip and ankle; positive for bow legs
    pelvis_yaw          half the range of the rotation of the pelvis about the vertical axis
    pelvis_roll         half the range of the tilt of the pelvis from side to side
    pelvis_tilt         forward tilt of the pelvis
    sway                half the range of the sideways motion of the body
    thorax_yaw          half the range of the rotation of the shoulders about the vertical axis
    thorax_lag          delay of the shoulders behind the legs, in strides
    lean, kyphosis      forward lean of the trunk; angle by which the upper back is rounded
    thorax_roll         angle by which the left shoulder is higher than the right shoulder
    nod, head_turn      angle by which the head is bowed; angle by which it is turned to the left
    head_forward        distance of the head in front of the shoulders
    arm_swing           [b, 2] half the range of the angle of the upper arm
    arm_mean            [b, 2] mean angle of the upper arm, positive in front of the vertical
    arm_lag             delay of the arms behind the legs, in strides
    arm_abduction       [b, 2] outward angle of the upper arm
    elbow, elbow_swing  [b, 2] least flexion of the elbow; additional flexion when the arm is in front
    forearm_in          [b, 2] inward angle of the forearm
    hand_in_pocket      bool [b, 2]; the other arm parameters already have the values for a hand in a pocket
    heading, offset     angle by which the walking line is turned to the left; distance by which it is moved to the left
    start               distance of the person in front of the middle of the line at time 0
    """


def draw_gait(draws: Draws, body: Body, variety: float = 1.0) -> Gait:
    """Draw one gait per body; `variety` scales all differences between people of the same build.

    The average man of 1.715 m walks at 1.30 m/s with 111 steps per minute. The average woman of 1.60 m walks at 1.26
    m/s with 115 steps per minute. Fast people take longer steps and more steps per minute than slow people. From the
    age of 50 on, people walk 0.4 % slower with every year, and their upper back becomes rounder.
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

    # Weight, age and briskness influence many parameters. Briskness is the logarithm of (speed / mean speed).
    heavy, old = body.bmi / 22.0 - 1.0, (body.age - 50).clamp(min=0)
    brisk = scaled.normal("speed", 0.0, 0.10) - 0.004 * old
    speed = torch.where(body.female, *spreads.SPEED) * brisk.exp()
    cadence = torch.where(body.female, *spreads.CADENCE) * (spreads.CADENCE_POWER * speed.log()).exp()

    # Joint curves: draw the shape, then the scale and the mean angle. Brisk walkers bend the knee more.
    curves = vary_curves(scaled, normative_curves(speed), ADULT_SPREAD, 0.16)
    curves["thigh"] = rescale(curves["thigh"], zero + 1.0, scaled.normal("thigh", 0.0, 2.0))
    curves["knee"] = rescale(curves["knee"], (0.3 * brisk).exp(), zero)
    ankle_scale, ankle_shift = scaled.normal("ankle scale", 0.97, 0.13), scaled.normal("ankle", 0.0, 2.2)
    curves["ankle"] = rescale(curves["ankle"], ankle_scale, ankle_shift)

    # Arms: the forward peak and the backward peak vary independently, and the two arms swing unequally.
    forward = scaled.normal("arm ahead", *spreads.FORWARD_ARM)
    backward = scaled.normal("arm behind", *spreads.BACKWARD_ARM)
    arm_swing = ((forward + backward) / 2 + 25.0 * brisk)[:, None]
    one_sided = scaled.normal("left arm", 0.08, 0.16).clamp(-0.6, 0.6)
    one_sided = torch.stack([one_sided, -one_sided], -1)

    # Parameters whose mean depends on weight, speed or another parameter. The slopes are our own judgement. Heavy
    # trunks push the arms outward. People who swing their arms far forward bend the elbows less.
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
    """Scale the swing of the thighs, in three steps of the secant method, so that people walk at `speed` [b] in m/s."""
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
    """Return the gait of each take: start, speed, posture and walking line deviate a little from the subject's gait.

    Args:
        draws: random numbers of the takes.
        gait: gaits of the subjects of the takes.
    """
    scaled = ScaledDraws(draws, "gait")
    brisk = scaled.normal("speed", 0.0, 0.045)

    # Joint curves: in a brisk walk, the joints of the legs move through larger angles.
    scales = {"thigh": (0.43 * brisk).exp(), "knee": (0.2 * brisk).exp(), "ankle": (0.1 * brisk).exp()}
    curves = vary_curves(scaled, gait.curves, 0.18 * ADULT_SPREAD, 0.02)
    curves = {name: rescale(curve, scales[name], scaled.normal(name, 0.0, 0.6)) for name, curve in curves.items()}

    # Parameters of the table `SPREADS`.
    changed = {}
    for name, row in spreads.SPREADS.items():
        if row.take_sd:
            value = getattr(gait, name)
            deviation = scaled.normal(name, 0.0, row.take_sd, value.shape[1:])
            changed[name] = (value + deviation).clamp(min=row.take_minimum)

    # In some takes, the person looks aside. Arms swing more in a brisk walk.
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
    """Put the hands that `where` (bool [b, 2]) selects into pockets.

    The upper arm moves backward and outward, the elbow bends, and the arm swings little.
    """
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
    """Return the named tuple `old` with the values of `changes` in the takes or sides that `where` selects.

    `where` is bool [b] for takes, or [b, 2] for sides.
    """
    return old._replace(**{name: torch.where(where, value, getattr(old, name)) for name, value in changes.items()})


def walking_speed(body: Body, gait: Gait) -> Tensor:
    """Return the speed [b] in m/s at which the feet do not slide, averaged over a step.

    The length of a step is the distance that the legs span at heel contact, plus the forward distance between the hip
    joints, plus the distance that the feet roll. A foot rolls over its heel until it is flat, and over its ball while
    the heel rises.
    """
    # Angles of both legs at the heel contact of the left foot: the left leg is at phase 0, the right leg at phase 0.5.
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
    # Forward distance between the hip joints, which comes from the rotation of the pelvis.
    hips = 2 * body.hip_half * (gait.pelvis_yaw * (math.pi / 180)).sin()
    return (reach[:, 0] - reach[:, 1] + hips + over_heel + over_ball) * gait.cadence / 60.0
