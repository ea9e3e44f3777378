"""The walking skeleton: where every joint of one subject is at given moments of one take.

Axes: x forward along the walking line, y to the walker's left, z up; metres. s frames, l trunk levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.data.synthetic.body import TRUNK_LEVELS, Body
from model.data.synthetic.gait import Gait, angle, walking_speed

SIDES = ("left", "right")


@dataclass(frozen=True)
class Skeleton:
    """`joints` maps names (`pelvis`, `neck`, `head`, `left_knee`, ...) to positions [s, 3], `frames` maps
    some of them to orientations [s, 3, 3] whose columns point forward, left and up. The trunk is a chain of
    levels: `trunk` [s, l, 3] with `trunk_frames` [s, l, 3, 3]."""

    joints: dict[str, Tensor]
    frames: dict[str, Tensor]
    trunk: Tensor
    trunk_frames: Tensor


def orientation(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Frames [..., 3, 3] turned left by `yaw`, bowed forward by `pitch`, left side up by `roll` (radians)."""
    cos_yaw, sin_yaw, cos_pitch, sin_pitch = yaw.cos(), yaw.sin(), pitch.cos(), pitch.sin()
    zero = torch.zeros_like(yaw)
    forward = torch.stack([cos_yaw * cos_pitch, sin_yaw * cos_pitch, -sin_pitch], -1)
    left = torch.stack([-sin_yaw, cos_yaw, zero], -1)
    up = torch.stack([cos_yaw * sin_pitch, sin_yaw * sin_pitch, cos_pitch], -1)
    cos_roll, sin_roll = roll.cos()[..., None], roll.sin()[..., None]
    return torch.stack([forward, left * cos_roll + up * sin_roll, up * cos_roll - left * sin_roll], -1)


def place(frame: Tensor, forward: float | Tensor = 0.0, left: float = 0.0, up: float = 0.0) -> Tensor:
    """The offset [..., 3] of a point given in the axes of `frame` [..., 3, 3]."""
    return frame[..., 0] * forward + frame[..., 1] * left + frame[..., 2] * up


def walk(body: Body, gait: Gait, times: Tensor, path: float) -> Skeleton:
    """Pose the body at `times` [s] (seconds; at 0 it passes the middle of the line).

    A walk longer than `path` metres starts over at the beginning of the line, in step. The lower foot stands
    on the ground: that fixes the height of the pelvis in every frame.
    """
    phase = gait.phase + times * (gait.cadence / 120.0)
    turn = 2 * math.pi * phase
    joints, frames = {}, {}
    trunk, trunk_frames = _trunk(body, gait, turn)
    _head(body, gait, trunk, trunk_frames, turn, joints, frames)
    for side in SIDES:
        _arm(body, gait, side, phase, trunk[:, -2], trunk_frames[:, -2], joints, frames)
        _leg(body, gait, side, phase, trunk_frames[:, 0], joints, frames)
    joints["pelvis"] = torch.zeros_like(trunk[:, 0])

    lowest = torch.stack(
        [joints[f"{side}_{part}"][:, 2] - body.radii[part] for side in SIDES for part in ("heel", "ball", "toe")],
        -1,
    ).amin(-1)
    moved = times * walking_speed(body, gait)
    moved = (moved + path / 2) % path - path / 2
    sway = gait.sway * (turn - 0.3).sin()
    shift = torch.stack([moved, sway, -lowest], -1)
    heading = orientation(torch.full_like(moved, math.radians(gait.heading)), moved * 0, moved * 0)

    def moved_along(points: Tensor) -> Tensor:
        shifted = points + (shift if points.dim() == 2 else shift[:, None])
        turned = torch.einsum("sij,s...j->s...i", heading, shifted)
        return turned + turned.new_tensor([0.0, gait.offset, 0.0])

    def turned(axes: Tensor) -> Tensor:
        return torch.einsum("sij,s...jk->s...ik", heading, axes)

    return Skeleton(
        joints={name: moved_along(position) for name, position in joints.items()},
        frames={name: turned(axes) for name, axes in frames.items()},
        trunk=moved_along(trunk),
        trunk_frames=turned(trunk_frames),
    )


def _trunk(body: Body, gait: Gait, turn: Tensor) -> tuple[Tensor, Tensor]:
    """Levels from the crotch to the neck, the middle of the hips at the origin.

    Pelvis and thorax turn against each other, the levels between them share the difference. At left heel
    contact (phase 0) the left hip is in front.
    """
    levels = torch.tensor(TRUNK_LEVELS, dtype=turn.dtype, device=turn.device)
    high = levels.clamp(0, 1)
    pelvis_yaw = -math.radians(gait.pelvis_yaw) * turn.cos()
    thorax_yaw = math.radians(gait.thorax_yaw) * (turn - 2 * math.pi * gait.thorax_lag).cos()
    pelvis_roll = math.radians(gait.pelvis_roll) * (turn - 0.2).sin()
    thorax_roll = -0.4 * pelvis_roll + math.radians(gait.thorax_roll)
    bob = math.radians(1.0) * (2 * turn - 0.5).cos()

    def between(low: Tensor, top: Tensor) -> Tensor:
        return low[:, None] * (1 - high) + top[:, None] * high

    tilt, lean, kyphosis = (math.radians(value) for value in (gait.pelvis_tilt, gait.lean, gait.kyphosis))
    # tilted pelvis, upright waist, rounded upper back: the mean over the trunk stays the lean
    bend = lean + tilt * (1 - 2 * high).clamp(-0.3, 1) * 0.6 + kyphosis * (2 * high**2 - 0.7)
    pitch = bob[:, None] + bend
    frames = orientation(between(pelvis_yaw, thorax_yaw), pitch, between(pelvis_roll, thorax_roll))
    steps = (levels[1:] - levels[:-1]) * body.lengths["trunk"]
    middle = (frames[:, 1:, :, 2] + frames[:, :-1, :, 2]) / 2
    centres = torch.cat([torch.zeros_like(middle[:, :1]), (middle * steps[:, None]).cumsum(1)], 1)
    below = -TRUNK_LEVELS[0] * body.lengths["trunk"]
    return centres - frames[:, :1, :, 2] * below, frames


def _head(body, gait, trunk, trunk_frames, turn, joints, frames) -> None:
    """Neck and head sit on the last level; the head looks ahead whatever the trunk does."""
    top, top_frame = trunk[:, -1], trunk_frames[:, -1]
    joints["neck"] = top
    pitch = math.radians(gait.nod) + 0.012 * (2 * turn).cos()
    frames["head"] = orientation(turn * 0, pitch, turn * 0)
    base = top + place(top_frame, gait.head_forward * 0.4, 0, body.neck * 0.6)
    joints["head"] = base + place(frames["head"], gait.head_forward * 0.6, 0, body.neck * 0.5 + body.head[2] * 0.78)


def _arm(body, gait, side, phase, top, top_frame, joints, frames) -> None:
    """Arms swing against the leg of their side, the elbow bends most when the arm is in front."""
    sign, which = (1, 0) if side == "left" else (-1, 1)
    turn = 2 * math.pi * (phase + 0.5 * which - gait.arm_lag)
    swing, spread = math.radians(gait.arm_swing[which]), math.radians(gait.arm_abduction[which])
    flexion = math.radians(gait.arm_mean) - swing * turn.cos()
    bend = math.radians(gait.elbow[which]) + math.radians(gait.elbow_swing) * (0.5 - 0.5 * (turn - 0.35).cos())

    shoulder = top + place(top_frame, 0, sign * body.shoulder_half, -0.018 * body.stature)
    upper = _direction(flexion, torch.full_like(flexion, sign * spread))
    elbow = shoulder + upper * body.lengths["upper_arm"]
    inward = sign * (spread - math.radians(gait.forearm_in) - 0.25 * bend)
    lower = _direction(flexion + bend, inward)
    joints[f"{side}_shoulder"], joints[f"{side}_elbow"] = shoulder, elbow
    joints[f"{side}_wrist"] = elbow + lower * body.lengths["forearm"]
    fingers = _direction(flexion + bend + 0.12, inward * 0.8)
    joints[f"{side}_hand"] = joints[f"{side}_wrist"] + fingers * body.lengths["hand"] * 0.45
    joints[f"{side}_fingers"] = joints[f"{side}_hand"] + fingers * body.lengths["hand"] * 0.5


def _leg(body, gait, side, phase, pelvis, joints, frames) -> None:
    """Thigh and shank in the walking plane, leaning in so that the feet stand closer than the hips."""
    sign, which = (1, 0) if side == "left" else (-1, 1)
    phase = phase + 0.5 * which
    uneven = 1 + sign * gait.asymmetry
    thigh = angle(gait.curves["thigh"], phase) * uneven
    knee = (angle(gait.curves["knee"], phase) * uneven).clamp(min=0.0)
    shank = thigh - knee
    pitch = shank + angle(gait.curves["ankle"], phase)

    leg = body.lengths["thigh"] + body.lengths["shank"]
    lean_in = torch.full_like(thigh, sign * (gait.step_width / 2 - body.hip_half) / leg)
    hip = place(pelvis, 0, sign * body.hip_half, 0)
    joints[f"{side}_hip"] = hip
    joints[f"{side}_knee"] = hip + _direction(thigh, lean_in) * body.lengths["thigh"]
    ankle = joints[f"{side}_knee"] + _direction(shank, lean_in) * body.lengths["shank"]
    joints[f"{side}_ankle"] = ankle

    yaw = torch.full_like(thigh, sign * math.radians(gait.foot_progression))
    foot = orientation(yaw, -pitch, torch.zeros_like(yaw))
    length, height, radii = body.lengths["foot"], body.lengths["ankle_height"], body.radii
    joints[f"{side}_heel"] = ankle + place(foot, radii["heel"] - 0.27 * length, 0, radii["heel"] - height)
    joints[f"{side}_ball"] = ankle + place(foot, 0.43 * length, 0, radii["ball"] - height)
    # Toes bend at the ball when the heel rises: they keep a third of the foot's fall.
    toes = orientation(yaw, torch.where(pitch < 0, -pitch * 0.35, -pitch), torch.zeros_like(yaw))
    reach = 0.30 * length - radii["toe"]
    joints[f"{side}_toe"] = joints[f"{side}_ball"] + place(toes, reach, 0, radii["toe"] - radii["ball"])
    frames[f"{side}_foot"] = foot


def _direction(flexion: Tensor, outward: Tensor) -> Tensor:
    """Unit vectors [s, 3] that hang down, swung forward by `flexion` and to the left by `outward`."""
    return torch.stack([flexion.sin() * outward.cos(), outward.sin(), -flexion.cos() * outward.cos()], -1)
