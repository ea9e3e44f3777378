"""Pose walkers: compute the positions of all joints and the orientations of body parts at given times.

Shapes: b takes, s frames, l trunk levels. Coordinates are in metres: x forward along the walking line, y to the
walker's left, z up.
"""

import math
from collections import namedtuple

import torch
from torch import Tensor

from model.synthetic.body import SHOULDER_DROP, TRUNK_LEVELS, Body
from model.synthetic.curves import angle
from model.synthetic.gait import Gait, walking_speed

SIDES = ("left", "right")
_DEGREE = math.pi / 180


class Skeleton(namedtuple("Skeleton", "joints frames trunk trunk_frames")):
    """Positions and orientations. The columns of an orientation point forward, left and up.

    joints      positions [b, s, 3] by name (`pelvis`, `neck`, `head`, `left_knee`, ...)
    frames      orientations [b, s, 3, 3] of the head and the feet by name (`head`, `left_foot`, `right_foot`)
    trunk, trunk_frames    positions [b, s, l, 3] and orientations [b, s, l, 3, 3] of the trunk levels
    """


def orientation(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Return orientations [..., 3, 3]. Angles are in radians.

    Args:
        yaw: turn to the left.
        pitch: bend forward.
        roll: tilt that raises the left side.
    """
    yaw, pitch, roll = torch.broadcast_tensors(yaw, pitch, roll)
    cos_yaw, sin_yaw, cos_pitch, sin_pitch = yaw.cos(), yaw.sin(), pitch.cos(), pitch.sin()
    zero = torch.zeros_like(yaw)
    forward = torch.stack([cos_yaw * cos_pitch, sin_yaw * cos_pitch, -sin_pitch], -1)
    left = torch.stack([-sin_yaw, cos_yaw, zero], -1)
    up = torch.stack([cos_yaw * sin_pitch, sin_yaw * sin_pitch, cos_pitch], -1)
    cos_roll, sin_roll = roll.cos()[..., None], roll.sin()[..., None]
    return torch.stack([forward, left * cos_roll + up * sin_roll, up * cos_roll - left * sin_roll], -1)


def offset(frame: Tensor, forward=0.0, left=0.0, up=0.0) -> Tensor:
    """Convert distances along the columns of `frame` [b, s, 3, 3] to an offset [b, s, 3] in x, y and z.

    Each distance is a number, or a tensor [b] or [b, s].
    """
    return frame[..., 0] * _expand(forward) + frame[..., 1] * _expand(left) + frame[..., 2] * _expand(up)


def _expand(value):
    """Expand a number, or a tensor [b] or [b, s], so that it can be multiplied with [b, s, 3]."""
    if not isinstance(value, Tensor):
        return value
    return value[:, None, None] if value.dim() == 1 else value[..., None]


def pose(body: Body, gait: Gait, times: Tensor, path: float) -> Skeleton:
    """Return the skeletons at `times` [s] in seconds; at time 0, the walkers are near the middle of the line.

    A walker who reaches the end of the line of `path` metres continues at its beginning without a break in the
    steps. In every frame the lower foot touches the ground, which determines the height of the pelvis.
    """
    # Joints relative to the middle of the hips.
    phase = gait.phase[:, None] + times * (gait.cadence / 120.0)[:, None]
    turn = 2 * math.pi * phase
    trunk, trunk_frames = _trunk(body, gait, turn)
    head, head_frame = _head(body, gait, turn, trunk[:, :, -1], trunk_frames[:, :, -1])
    joints, frames = {"pelvis": torch.zeros_like(head), "neck": trunk[:, :, -1], "head": head}, {"head": head_frame}
    for side in SIDES:
        arm = _arm(body, gait, side, phase, trunk[:, :, -2], trunk_frames[:, :, -2])
        leg, frames[f"{side}_foot"] = _leg(body, gait, side, phase, trunk_frames[:, :, 0])
        joints |= {f"{side}_{name}": place for name, place in (arm | leg).items()}

    # Height: the lowest point of both feet is on the ground.
    feet = [(f"{side}_{part}", body.radii[part]) for side in SIDES for part in ("heel", "ball", "toe")]
    lowest = torch.stack([joints[name][..., 2] - radius[:, None] for name, radius in feet], -1).amin(-1)
    # Position along the line, sway to the side, and direction and offset of the line.
    moved = times * walking_speed(body, gait)[:, None] + gait.start[:, None]
    moved = (moved + path / 2) % path - path / 2
    sway = gait.sway[:, None] * (turn - 0.3).sin()
    shift = torch.stack([moved, sway, -lowest], -1)
    zero = torch.zeros_like(gait.heading)
    heading = orientation(gait.heading * _DEGREE, zero, zero)  # [b, 3, 3]
    aside = torch.stack([zero, gait.offset, zero], -1)

    def to_world(points: Tensor) -> Tensor:
        extra = (1,) * (points.dim() - 3)
        shifted = points + shift.view(*shift.shape[:2], *extra, 3)
        return torch.einsum("bij,bs...j->bs...i", heading, shifted) + aside.view(-1, 1, *extra, 3)

    def rotate(axes: Tensor) -> Tensor:
        return torch.einsum("bij,bs...jk->bs...ik", heading, axes)

    return Skeleton(
        joints={name: to_world(position) for name, position in joints.items()},
        frames={name: rotate(axes) for name, axes in frames.items()},
        trunk=to_world(trunk),
        trunk_frames=rotate(trunk_frames),
    )


def _trunk(body: Body, gait: Gait, turn: Tensor) -> tuple[Tensor, Tensor]:
    """Return the positions and orientations of the trunk levels relative to the middle of the hips.

    Pelvis and thorax rotate in opposite directions, and the levels between them are interpolated. At the contact of the
    left heel (phase 0) the left hip is in front.
    """
    # Rotations of pelvis and thorax about the vertical axis.
    levels = torch.tensor(TRUNK_LEVELS, dtype=turn.dtype, device=turn.device)
    high = levels.clamp(0, 1)
    pelvis_yaw = -_radians(gait.pelvis_yaw) * turn.cos()
    thorax_yaw = _radians(gait.thorax_yaw) * (turn - 2 * math.pi * gait.thorax_lag[:, None]).cos()
    # Pelvic obliquity: the first and third harmonics of the normal curve in the Python package gaitutils. At 18 % of
    # the stride of the standing leg, the pelvis is highest on the side of this leg. It is nearly level soon afterwards.
    obliquity = 0.72 * (turn - 1.21).cos() + 0.29 * (3 * turn + 2.86).cos()
    pelvis_roll = _radians(gait.pelvis_roll) * obliquity
    thorax_roll = -0.4 * pelvis_roll + _radians(gait.thorax_roll)
    bob = math.radians(1.0) * (2 * turn - 0.5).cos()

    def between(low: Tensor, top: Tensor) -> Tensor:
        return low[..., None] * (1 - high) + top[..., None] * high

    tilt, lean, kyphosis = _radians(gait.pelvis_tilt), _radians(gait.lean), _radians(gait.kyphosis)
    # Forward bend of each level: tilted pelvis, upright waist, rounded upper back. The mean over the trunk is `lean`.
    bend = lean + tilt * (1 - 2 * high).clamp(-0.3, 1) * 0.6 + kyphosis * (2 * high**2 - 0.7)  # [b, l]
    yaw, roll = between(pelvis_yaw, thorax_yaw), between(pelvis_roll, thorax_roll)
    frames = orientation(yaw, bob[..., None] + bend[:, None], roll)
    # Positions: sum the steps from level to level, then move the origin from the crotch to the hips.
    steps = (levels[1:] - levels[:-1]) * body.lengths["trunk"][:, None]  # [b, l - 1]
    middle = (frames[:, :, 1:, :, 2] + frames[:, :, :-1, :, 2]) / 2
    centres = torch.cat([torch.zeros_like(middle[:, :, :1]), (middle * steps[:, None, :, None]).cumsum(2)], 2)
    below = -TRUNK_LEVELS[0] * body.lengths["trunk"]
    return centres - frames[:, :, :1, :, 2] * below[:, None, None, None], frames


def _radians(degrees: Tensor) -> Tensor:
    """Convert degrees [b] to radians [b, 1], which broadcast with [b, s]."""
    return degrees[:, None] * _DEGREE


def _head(body: Body, gait: Gait, turn: Tensor, top: Tensor, top_frame: Tensor) -> tuple[Tensor, Tensor]:
    """Return the position and the orientation of the head, which is above the highest level of the trunk.

    The orientation of the head does not depend on the trunk.
    """
    pitch = _radians(gait.nod) + 0.012 * (2 * turn).cos()
    frame = orientation(_radians(gait.head_turn), pitch, torch.zeros_like(turn))
    base = top + offset(top_frame, gait.head_forward * 0.4, 0.0, body.neck * 0.6)
    up = body.neck * 0.5 + body.head[:, 2] * 0.78
    return base + offset(frame, gait.head_forward * 0.6, 0.0, up), frame


def _arm(body: Body, gait: Gait, side: str, phase: Tensor, top: Tensor, top_frame: Tensor) -> dict[str, Tensor]:
    """Return the joints of one arm.

    The arm swings in the opposite direction to the leg of the same side. The elbow is bent most when the arm is in
    front.
    """
    # Angles at the phase of this arm.
    sign, which = (1, 0) if side == "left" else (-1, 1)
    turn = 2 * math.pi * (phase + 0.5 * which - gait.arm_lag[:, None])
    swing, spread = _radians(gait.arm_swing[:, which]), _radians(gait.arm_abduction[:, which])
    flexion = _radians(gait.arm_mean[:, which]) - swing * turn.cos()
    bend = _radians(gait.elbow[:, which]) + _radians(gait.elbow_swing[:, which]) * (0.5 - 0.5 * (turn - 0.35).cos())

    # Joints from the shoulder to the fingers; the forearm and the hand point inward.
    shoulder = top + offset(top_frame, 0.0, sign * body.shoulder_half, -SHOULDER_DROP * body.stature)
    upper = _direction(flexion, (sign * spread).expand_as(flexion))
    elbow = shoulder + upper * _expand(body.lengths["upper_arm"])
    inward = sign * (spread - _radians(gait.forearm_in[:, which]) - 0.25 * bend)
    lower = _direction(flexion + bend, inward)
    wrist = elbow + lower * _expand(body.lengths["forearm"])
    along = _direction(flexion + bend + 0.12, inward * 0.8)
    hand = wrist + along * _expand(body.lengths["hand"] * 0.45)
    fingers = hand + along * _expand(body.lengths["hand"] * 0.5)
    return {"shoulder": shoulder, "elbow": elbow, "wrist": wrist, "hand": hand, "fingers": fingers}


def _leg(body: Body, gait: Gait, side: str, phase: Tensor, pelvis: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return the joints of one leg and the orientation of its foot.

    Thigh and shank move in a plane that leans inward, because the ankles are closer together than the hip joints.
    """
    # Angles at the phase of this leg.
    sign, which = (1, 0) if side == "left" else (-1, 1)
    phase = phase + 0.5 * which
    uneven = (1 + sign * gait.asymmetry)[:, None]
    thigh = angle(gait.curves["thigh"], phase) * uneven
    knee = (angle(gait.curves["knee"], phase) * uneven).clamp(min=0.0)
    shank = thigh - knee
    pitch = shank + angle(gait.curves["ankle"], phase)

    # Hip, knee and ankle; bow legs and knock knees move only the knee.
    leg = body.lengths["thigh"] + body.lengths["shank"]
    lean_in = (sign * (gait.step_width / 2 - body.hip_half) / leg)[:, None].expand_as(thigh)
    hip = offset(pelvis, 0.0, sign * body.hip_half)
    knee_at = hip + _direction(thigh, lean_in) * _expand(body.lengths["thigh"])
    ankle = knee_at + _direction(shank, lean_in) * _expand(body.lengths["shank"])
    aside = torch.stack([torch.zeros_like(thigh), (sign * gait.knee_out)[:, None].expand_as(thigh), thigh * 0], -1)

    # Heel and ball of the foot.
    yaw = (sign * _radians(gait.foot_progression[:, which])).expand_as(thigh)
    foot = orientation(yaw, -pitch, torch.zeros_like(yaw))
    length, height, radii = body.lengths["foot"], body.lengths["ankle_height"], body.radii
    heel = ankle + offset(foot, radii["heel"] - 0.27 * length, 0.0, radii["heel"] - height)
    ball = ankle + offset(foot, 0.43 * length, 0.0, radii["ball"] - height)
    # When the heel rises, the foot bends at the ball: the toes are pitched by only about a third of the foot's angle.
    toes = orientation(yaw, torch.where(pitch < 0, -pitch * 0.35, -pitch), torch.zeros_like(yaw))
    reach = 0.30 * length - radii["toe"]
    toe = ball + offset(toes, reach, 0.0, radii["toe"] - radii["ball"])
    return {"hip": hip, "knee": knee_at + aside, "ankle": ankle, "heel": heel, "ball": ball, "toe": toe}, foot


def _direction(flexion: Tensor, outward: Tensor) -> Tensor:
    """Return unit vectors [b, s, 3]: downward, rotated forward by `flexion` [b, s] and left by `outward` [b, s]."""
    return torch.stack([flexion.sin() * outward.cos(), outward.sin(), -flexion.cos() * outward.cos()], -1)
