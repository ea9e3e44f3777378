"""The walking skeletons: where every joint is at given moments of each take.

Axes: x forward along the walking line, y to the walker's left, z up; metres. b takes, s frames, l trunk levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.synthetic.body import SHOULDER_DROP, TRUNK_LEVELS, Body
from model.synthetic.curves import angle
from model.synthetic.gait import Gait, walking_speed

SIDES = ("left", "right")
_DEGREE = math.pi / 180


@dataclass(frozen=True)
class Skeleton:
    """`joints` maps names (`pelvis`, `neck`, `head`, `left_knee`, ...) to positions [b, s, 3], `frames` maps some of
    them to orientations [b, s, 3, 3] whose columns point forward, left and up. The trunk is a chain of levels:
    `trunk` [b, s, l, 3] with `trunk_frames` [b, s, l, 3, 3]."""

    joints: dict[str, Tensor]
    frames: dict[str, Tensor]
    trunk: Tensor
    trunk_frames: Tensor


def orientation(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Frames [..., 3, 3] turned left by `yaw`, bowed forward by `pitch`, left side up by `roll` (radians)."""
    yaw, pitch, roll = torch.broadcast_tensors(yaw, pitch, roll)
    cos_yaw, sin_yaw, cos_pitch, sin_pitch = yaw.cos(), yaw.sin(), pitch.cos(), pitch.sin()
    zero = torch.zeros_like(yaw)
    forward = torch.stack([cos_yaw * cos_pitch, sin_yaw * cos_pitch, -sin_pitch], -1)
    left = torch.stack([-sin_yaw, cos_yaw, zero], -1)
    up = torch.stack([cos_yaw * sin_pitch, sin_yaw * sin_pitch, cos_pitch], -1)
    cos_roll, sin_roll = roll.cos()[..., None], roll.sin()[..., None]
    return torch.stack([forward, left * cos_roll + up * sin_roll, up * cos_roll - left * sin_roll], -1)


def place(frame: Tensor, forward=0.0, left=0.0, up=0.0) -> Tensor:
    """The offset [b, s, 3] of a point given in the axes of `frame` [b, s, 3, 3]; each number, [b] or [b, s]."""
    return frame[..., 0] * _each(forward) + frame[..., 1] * _each(left) + frame[..., 2] * _each(up)


def _each(value):
    """A number, or one a take or a frame, ready to be multiplied with [b, s, 3]."""
    if not isinstance(value, Tensor):
        return value
    return value[:, None, None] if value.dim() == 1 else value[..., None]


def walk(body: Body, gait: Gait, times: Tensor, path: float) -> Skeleton:
    """Pose the bodies at `times` [s] (seconds; at 0 they pass the middle of the line).

    A walk longer than `path` metres starts over at the beginning of the line, in step. The lower foot stands on the
    ground: that fixes the height of the pelvis in every frame.
    """
    phase = gait.phase[:, None] + times * (gait.cadence / 120.0)[:, None]
    turn = 2 * math.pi * phase
    joints, frames = {}, {}
    trunk, trunk_frames = _trunk(body, gait, turn)
    _head(body, gait, trunk, trunk_frames, turn, joints, frames)
    for side in SIDES:
        _arm(body, gait, side, phase, trunk[:, :, -2], trunk_frames[:, :, -2], joints, frames)
        _leg(body, gait, side, phase, trunk_frames[:, :, 0], joints, frames)
    joints["pelvis"] = torch.zeros_like(trunk[:, :, 0])

    lowest = torch.stack(
        [
            joints[f"{side}_{part}"][..., 2] - body.radii[part][:, None]
            for side in SIDES
            for part in ("heel", "ball", "toe")
        ],
        -1,
    ).amin(-1)
    moved = times * walking_speed(body, gait)[:, None] + gait.start[:, None]
    moved = (moved + path / 2) % path - path / 2
    sway = gait.sway[:, None] * (turn - 0.3).sin()
    shift = torch.stack([moved, sway, -lowest], -1)
    zero = torch.zeros_like(gait.heading)
    heading = orientation(gait.heading * _DEGREE, zero, zero)  # [b, 3, 3]
    aside = torch.stack([zero, gait.offset, zero], -1)

    def moved_along(points: Tensor) -> Tensor:
        extra = (1,) * (points.dim() - 3)
        shifted = points + shift.view(*shift.shape[:2], *extra, 3)
        turned = torch.einsum("bij,bs...j->bs...i", heading, shifted)
        return turned + aside.view(-1, 1, *extra, 3)

    def turned(axes: Tensor) -> Tensor:
        return torch.einsum("bij,bs...jk->bs...ik", heading, axes)

    return Skeleton(
        joints={name: moved_along(position) for name, position in joints.items()},
        frames={name: turned(axes) for name, axes in frames.items()},
        trunk=moved_along(trunk),
        trunk_frames=turned(trunk_frames),
    )


def _trunk(body: Body, gait: Gait, turn: Tensor) -> tuple[Tensor, Tensor]:
    """Levels from the crotch to the neck, the middle of the hips at the origin.

    Pelvis and thorax turn against each other, the levels between them share the difference. At left heel contact
    (phase 0) the left hip is in front.
    """
    levels = torch.tensor(TRUNK_LEVELS, dtype=turn.dtype, device=turn.device)
    high = levels.clamp(0, 1)
    pelvis_yaw = -_radians(gait.pelvis_yaw) * turn.cos()
    thorax_yaw = _radians(gait.thorax_yaw) * (turn - 2 * math.pi * gait.thorax_lag[:, None]).cos()
    # First and third harmonic of normal pelvic obliquity: highest over the standing leg at 18 % of its stride, soon
    # nearly level again (the normal curve that comes with the package gaitutils).
    obliquity = 0.72 * (turn - 1.21).cos() + 0.29 * (3 * turn + 2.86).cos()
    pelvis_roll = _radians(gait.pelvis_roll) * obliquity
    thorax_roll = -0.4 * pelvis_roll + _radians(gait.thorax_roll)
    bob = math.radians(1.0) * (2 * turn - 0.5).cos()

    def between(low: Tensor, top: Tensor) -> Tensor:
        return low[..., None] * (1 - high) + top[..., None] * high

    tilt, lean, kyphosis = _radians(gait.pelvis_tilt), _radians(gait.lean), _radians(gait.kyphosis)
    # tilted pelvis, upright waist, rounded upper back: the mean over the trunk stays the lean
    bend = lean + tilt * (1 - 2 * high).clamp(-0.3, 1) * 0.6 + kyphosis * (2 * high**2 - 0.7)  # [b, l]
    frames = orientation(
        between(pelvis_yaw, thorax_yaw), bob[..., None] + bend[:, None], between(pelvis_roll, thorax_roll)
    )
    steps = (levels[1:] - levels[:-1]) * body.lengths["trunk"][:, None]  # [b, l - 1]
    middle = (frames[:, :, 1:, :, 2] + frames[:, :, :-1, :, 2]) / 2
    centres = torch.cat([torch.zeros_like(middle[:, :, :1]), (middle * steps[:, None, :, None]).cumsum(2)], 2)
    below = -TRUNK_LEVELS[0] * body.lengths["trunk"]
    return centres - frames[:, :, :1, :, 2] * below[:, None, None, None], frames


def _radians(degrees: Tensor) -> Tensor:
    """One a take [b] -> [b, 1], to go with [b, s]."""
    return degrees[:, None] * _DEGREE


def _head(body, gait, trunk, trunk_frames, turn, joints, frames) -> None:
    """Neck and head sit on the last level; the head looks where it wants, whatever the trunk does."""
    top, top_frame = trunk[:, :, -1], trunk_frames[:, :, -1]
    joints["neck"] = top
    pitch = _radians(gait.nod) + 0.012 * (2 * turn).cos()
    frames["head"] = orientation(_radians(gait.head_turn), pitch, torch.zeros_like(turn))
    base = top + place(top_frame, gait.head_forward * 0.4, 0.0, body.neck * 0.6)
    up = body.neck * 0.5 + body.head[:, 2] * 0.78
    joints["head"] = base + place(frames["head"], gait.head_forward * 0.6, 0.0, up)


def _arm(body, gait, side, phase, top, top_frame, joints, frames) -> None:
    """Arms swing against the leg of their side, the elbow bends most when the arm is in front."""
    sign, which = (1, 0) if side == "left" else (-1, 1)
    turn = 2 * math.pi * (phase + 0.5 * which - gait.arm_lag[:, None])
    swing, spread = _radians(gait.arm_swing[:, which]), _radians(gait.arm_abduction[:, which])
    flexion = _radians(gait.arm_mean[:, which]) - swing * turn.cos()
    bend = _radians(gait.elbow[:, which]) + _radians(gait.elbow_swing[:, which]) * (0.5 - 0.5 * (turn - 0.35).cos())

    shoulder = top + place(top_frame, 0.0, sign * body.shoulder_half, -SHOULDER_DROP * body.stature)
    upper = _direction(flexion, (sign * spread).expand_as(flexion))
    elbow = shoulder + upper * _each(body.lengths["upper_arm"])
    inward = sign * (spread - _radians(gait.forearm_in[:, which]) - 0.25 * bend)
    lower = _direction(flexion + bend, inward)
    joints[f"{side}_shoulder"], joints[f"{side}_elbow"] = shoulder, elbow
    joints[f"{side}_wrist"] = elbow + lower * _each(body.lengths["forearm"])
    fingers = _direction(flexion + bend + 0.12, inward * 0.8)
    joints[f"{side}_hand"] = joints[f"{side}_wrist"] + fingers * _each(body.lengths["hand"] * 0.45)
    joints[f"{side}_fingers"] = joints[f"{side}_hand"] + fingers * _each(body.lengths["hand"] * 0.5)


def _leg(body, gait, side, phase, pelvis, joints, frames) -> None:
    """Thigh and shank in the walking plane, leaning in so that the feet stand closer than the hips."""
    sign, which = (1, 0) if side == "left" else (-1, 1)
    phase = phase + 0.5 * which
    uneven = (1 + sign * gait.asymmetry)[:, None]
    thigh = angle(gait.curves["thigh"], phase) * uneven
    knee = (angle(gait.curves["knee"], phase) * uneven).clamp(min=0.0)
    shank = thigh - knee
    pitch = shank + angle(gait.curves["ankle"], phase)

    leg = body.lengths["thigh"] + body.lengths["shank"]
    lean_in = (sign * (gait.step_width / 2 - body.hip_half) / leg)[:, None].expand_as(thigh)
    hip = place(pelvis, 0.0, sign * body.hip_half)
    joints[f"{side}_hip"] = hip
    knee_at = hip + _direction(thigh, lean_in) * _each(body.lengths["thigh"])
    ankle = knee_at + _direction(shank, lean_in) * _each(body.lengths["shank"])
    aside = torch.stack([torch.zeros_like(thigh), (sign * gait.knee_out)[:, None].expand_as(thigh), thigh * 0], -1)
    joints[f"{side}_knee"], joints[f"{side}_ankle"] = knee_at + aside, ankle

    yaw = (sign * _radians(gait.foot_progression[:, which])).expand_as(thigh)
    foot = orientation(yaw, -pitch, torch.zeros_like(yaw))
    length, height, radii = body.lengths["foot"], body.lengths["ankle_height"], body.radii
    joints[f"{side}_heel"] = ankle + place(foot, radii["heel"] - 0.27 * length, 0.0, radii["heel"] - height)
    joints[f"{side}_ball"] = ankle + place(foot, 0.43 * length, 0.0, radii["ball"] - height)
    # Toes bend at the ball when the heel rises: they keep a third of the foot's fall.
    toes = orientation(yaw, torch.where(pitch < 0, -pitch * 0.35, -pitch), torch.zeros_like(yaw))
    reach = 0.30 * length - radii["toe"]
    joints[f"{side}_toe"] = joints[f"{side}_ball"] + place(toes, reach, 0.0, radii["toe"] - radii["ball"])
    frames[f"{side}_foot"] = foot


def _direction(flexion: Tensor, outward: Tensor) -> Tensor:
    """Unit vectors [b, s, 3] that hang down, swung forward by `flexion` and to the left by `outward` [b, s]."""
    return torch.stack([flexion.sin() * outward.cos(), outward.sin(), -flexion.cos() * outward.cos()], -1)
