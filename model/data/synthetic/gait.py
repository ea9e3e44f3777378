"""Gait: joint angle curves of one subject, how fast, with which posture and arms. b takes, s frames.

The curves are Fourier series of the normative curves of level walking (D. A. Winter, The Biomechanics and
Motor Control of Human Gait, 1991), read off every 5 % of the stride, heel contact first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.data.draws import Draws
from model.data.synthetic.body import Body
from model.data.synthetic.variety import Varied

HARMONICS = 6
# Degrees. Thigh against the vertical (forward positive), knee flexion, ankle dorsiflexion.
NORMATIVE = {
    "thigh": (24, 23, 20.5, 16.5, 11.5, 6, 0.5, -5, -10, -14, -16.5, -15.5, -9.5, 0, 10, 18.5, 24.5, 27.5, 27, 25),
    "knee": (5, 10, 16, 18.5, 17, 13.5, 9.5, 6.5, 5, 6, 11, 21, 37, 53, 61, 59, 48, 31, 14, 4),
    "ankle": (0, -4.5, -4, 0, 3, 5.5, 7, 8.5, 9.5, 9.5, 6.5, -2, -13, -19, -15, -8, -3, -0.5, 0.5, 0.8),
}
Curve = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Gait:
    """How one subject walks, float32 [b] or, left and right, [b, 2]. Angles in degrees, lengths in metres.

    `cadence` is in steps a minute. `curves` maps thigh, knee and ankle to Fourier coefficients (cos, sin), each
    [b, HARMONICS + 1], mean first: the angle at `phase` t (strides) is the sum over k of
    cos_k cos(2 pi k t) - sin_k sin(2 pi k t).
    """

    cadence: Tensor
    phase: Tensor
    curves: dict[str, Curve]
    asymmetry: Tensor
    step_width: Tensor
    foot_progression: Tensor
    knee_out: Tensor  # how far the knees stand outside the line from hip to ankle: bow legs positive
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
    head_turn: Tensor  # to the left
    head_forward: Tensor
    arm_swing: Tensor  # [b, 2]
    arm_mean: Tensor  # [b, 2]
    arm_lag: Tensor
    arm_abduction: Tensor  # [b, 2]
    elbow: Tensor  # [b, 2]
    elbow_swing: Tensor  # [b, 2]
    forearm_in: Tensor  # [b, 2]
    hand_in_pocket: Tensor  # bool [b, 2]; the arm's other fields already put the hand there
    heading: Tensor
    offset: Tensor  # to the left of the walking line
    start: Tensor  # ahead of the middle of the line when half of the frames are over


def _series(samples: tuple[float, ...]) -> tuple[list[float], list[float]]:
    """Fourier coefficients of one stride."""
    coefficients = torch.fft.rfft(torch.tensor(samples, dtype=torch.float64))[: HARMONICS + 1] / len(samples)
    coefficients[1:] *= 2
    return coefficients.real.tolist(), coefficients.imag.tolist()


_SERIES = {name: _series(samples) for name, samples in NORMATIVE.items()}


def draw_gait(draws: Draws, body: Body, variety: float = 1.0) -> Gait:
    """One way of walking a body; `variety` scales all that differs between people of the same build.

    Speed in statures a second, and cadence with its power 0.57 (Grieve and Gear 1966), so that men of 1.715 m walk
    1.30 m/s at 111 steps a minute, women of 1.60 m 1.26 m/s at 115 (Kadaba et al. 1990: 1.34 at 112, 1.27 at 115).
    """
    varied = Varied(draws, variety)
    heavy = body.bmi / 22.0 - 1.0
    speed = varied.normal("gait speed", 0.0, 0.10) - 0.004 * (body.age - 30).clamp(min=0)
    relative = torch.where(body.female, 0.785, 0.76) * speed.exp()  # statures a second
    usual = torch.where(body.female, 131.8, 129.6) * relative**0.57
    cadence = (usual * varied.normal("gait cadence", 0.0, 0.045).exp()).clamp(85, 140)
    curves = {
        "thigh": _distort(varied, "thigh", _normative("thigh", speed), 1.0, varied.normal("gait thigh", 0, 2.5), 0.10),
        "knee": _distort(
            varied,
            "knee",
            _normative("knee", speed),
            varied.normal("gait knee scale", 1.0, 0.08),
            varied.normal("gait knee", 1.0, 3.0),
            0.12,
        ),
        "ankle": _distort(
            varied,
            "ankle",
            _normative("ankle", speed),
            varied.normal("gait ankle scale", 0.95, 0.17),
            varied.normal("gait ankle", 0, 2.0),
            0.15,
        ),
    }
    width = torch.where(body.female, 0.088, 0.105) + 0.06 * heavy
    step_width = varied.bounded("gait step width", width, 0.025, 0.03)
    swing = varied.normal("gait swing", 16.0, 5.5) + 25.0 * speed
    one_sided = varied.normal("gait swing side", 0.08, 0.16).clamp(-0.6, 0.6)
    sides = swing.new_tensor([1.0, -1.0])
    elbow = varied.normal("gait elbow", 18.0, 7.0)
    abduction = 7.0 + 9.0 * heavy.clamp(min=0) + varied.normal("gait abduction", 0.0, 2.5)
    roll = torch.where(body.female, 4.6, 3.2)
    stoop = (body.age - 45).clamp(min=0)
    zero = torch.zeros_like(speed)
    gait = Gait(
        cadence=cadence,
        phase=zero,
        curves=curves,
        asymmetry=varied.normal("gait asymmetry", 0.0, 0.025),
        step_width=step_width,
        foot_progression=varied.normal("gait feet", torch.where(body.female, 4.5, 7.0), 5.0),
        knee_out=varied.normal("gait knees", torch.where(body.female, -0.003, 0.003), 0.010),
        pelvis_yaw=varied.bounded("gait pelvis yaw", torch.where(body.female, 5.4, 4.6) + 8 * speed, 1.8, 0.5),
        pelvis_roll=varied.bounded("gait pelvis roll", roll, 1.2, 0.3),
        pelvis_tilt=varied.normal("gait pelvis tilt", torch.where(body.female, 5.0, 3.5), 4.0),
        sway=varied.bounded("gait sway", 0.022 + 0.15 * (step_width - width) - 0.015 * speed, 0.005, 0.004),
        thorax_yaw=varied.bounded("gait thorax yaw", 4.2, 1.8, 0.5),
        thorax_lag=varied.normal("gait thorax lag", 0.0, 0.03),
        lean=varied.normal("gait lean", 2.8, 2.6) + 6.0 * speed,
        kyphosis=varied.normal("gait kyphosis", 8.0, 5.5) + 0.25 * stoop,
        thorax_roll=varied.normal("gait shoulders", 0.0, 1.4),
        nod=varied.normal("gait nod", 2.0, 6.0),
        head_turn=varied.normal("gait head turn", 0.0, 2.0),
        head_forward=varied.normal("gait head forward", 0.028, 0.014) + 0.0008 * stoop,
        arm_swing=(swing[:, None] * (1 + one_sided[:, None] * sides)).clamp(min=1.5),
        arm_mean=varied.normal("gait arm mean", -6.0, 4.0)[:, None] + varied.normal("gait arm side", 0.0, 1.5, (2,)),
        arm_lag=varied.normal("gait arm lag", 0.0, 0.03),
        arm_abduction=abduction[:, None] + varied.normal("gait abduction side", 0.0, 1.0, (2,)),
        elbow=(elbow[:, None] + varied.normal("gait elbow side", 0.0, 3.0, (2,))).clamp(min=3.0),
        elbow_swing=varied.bounded("gait elbow swing", 20.0, 8.0, 0.0)[:, None].expand(-1, 2),
        forearm_in=varied.normal("gait forearm", 8.0, 6.0)[:, None].expand(-1, 2),
        hand_in_pocket=torch.zeros_like(sides * zero[:, None], dtype=torch.bool),
        heading=zero,
        offset=zero,
        start=zero,
    )
    return _stride_to(gait, body, relative * body.stature)


def _normative(name: str, like: Tensor) -> Curve:
    cos, sin = _SERIES[name]
    return like.new_tensor(cos).expand(len(like), -1), like.new_tensor(sin).expand(len(like), -1)


def _distort(
    varied: Varied | Draws, name: str, curve: Curve, scale: float | Tensor, shift: Tensor, spread: float
) -> Curve:
    """Scale and shift a curve, and change each harmonic by a relative amount and in phase."""
    cos, sin = curve
    real = varied.normal(f"gait {name} real", 0.0, spread / math.sqrt(2), (HARMONICS + 1,)) + 1.0
    imaginary = varied.normal(f"gait {name} imaginary", 0.0, spread / math.sqrt(2), (HARMONICS + 1,))
    # the first harmonic belongs to `scale`; its phase times the step
    first = torch.arange(HARMONICS + 1, device=cos.device) == 1
    real, imaginary = torch.where(first, real * 0.3 + 0.7, real), torch.where(first, 0.0, imaginary)
    scale = torch.as_tensor(scale, device=cos.device).expand(len(cos))[:, None]
    changed = (cos * real - sin * imaginary) * scale, (cos * imaginary + sin * real) * scale
    mean = cos[:, :1] + shift[:, None]
    return torch.cat([mean, changed[0][:, 1:]], 1), torch.cat([sin[:, :1], changed[1][:, 1:]], 1)


def _scaled(curve: Curve, scale: Tensor) -> Curve:
    """The curve swung wider around its mean."""
    cos, sin = curve
    return torch.cat([cos[:, :1], cos[:, 1:] * scale[:, None]], 1), sin * scale[:, None]


def _stride_to(gait: Gait, body: Body, speed: Tensor) -> Gait:
    """Swing the thighs as wide as `speed` (metres a second) needs at this cadence: two steps of the secant rule."""
    low, high = torch.full_like(speed, 0.9), torch.full_like(speed, 1.1)

    def reached(scale: Tensor) -> Tensor:
        wider = replace(gait, curves=gait.curves | {"thigh": _scaled(gait.curves["thigh"], scale)})
        return walking_speed(body, wider)

    for _ in range(2):
        first, second = reached(low), reached(high)
        low, high = high, (low + (speed - first) / (second - first) * (high - low)).clamp(0.6, 1.6)
        low = torch.where((low - high).abs() < 1e-3, high - 0.05, low)
    return replace(gait, curves=gait.curves | {"thigh": _scaled(gait.curves["thigh"], high)})


def vary_gait(draws: Draws, gait: Gait, strength: float = 1.0) -> Gait:
    """The same subjects in another take, `draws` being the take's: another start, speed, mood and line."""
    varied = Varied(draws, strength)
    speed = varied.normal("gait speed", 0.0, 0.045).exp()
    scales = {"thigh": speed**0.43, "knee": speed**0.2, "ankle": speed**0.2}
    curves = {
        name: _distort(
            varied,
            name,
            gait.curves[name],
            scale * varied.normal(f"gait {name} scale", 1.0, 0.010),
            varied.normal(f"gait {name}", 0.0, 0.8),
            0.02,
        )
        for name, scale in scales.items()
    }
    arms = varied.normal("gait arms", 1.0, 0.10)[:, None] * varied.normal("gait each arm", 1.0, 0.10, (2,))
    aside = varied.chance("gait looks aside", 0.12)
    turned = torch.where(aside, varied.normal("gait aside", 0.0, 22.0), varied.normal("gait head turn", 0.0, 4.0))
    changed = replace(
        gait,
        cadence=gait.cadence * speed**0.57,
        phase=draws.uniform("gait phase"),
        curves=curves,
        lean=gait.lean + varied.normal("gait lean", 0.0, 0.9) + 6.0 * (speed - 1),
        nod=gait.nod + varied.normal("gait nod", 0.0, 2.5),
        head_turn=gait.head_turn + turned,
        arm_swing=(gait.arm_swing * arms * speed[:, None] ** 1.5).clamp(min=1.0),
        arm_mean=gait.arm_mean + varied.normal("gait arm mean", 0.0, 1.2, (2,)),
        arm_abduction=gait.arm_abduction + varied.normal("gait abduction", 0.0, 0.8, (2,)),
        elbow=(gait.elbow + varied.normal("gait elbow", 0.0, 2.5, (2,))).clamp(min=2.0),
        elbow_swing=gait.elbow_swing * varied.normal("gait elbow swing", 1.0, 0.08)[:, None],
        step_width=(gait.step_width + varied.normal("gait step width", 0.0, 0.008)).clamp(min=0.02),
        foot_progression=gait.foot_progression + varied.normal("gait feet", 0.0, 1.2),
        heading=varied.normal("gait heading", 0.0, 1.5),
        offset=varied.normal("gait offset", 0.0, 0.07),
        start=varied.normal("gait start", 0.0, 0.2),
    )
    one = varied.chance("gait pocket", 0.05, (2,))
    both = varied.chance("gait pockets", 0.02)[:, None]
    return put_in_pocket(changed, one | both)


def put_in_pocket(gait: Gait, where: Tensor) -> Gait:
    """Hands in the trouser or jacket pockets `where` [b, 2]: upper arm back and out, elbow bent, little swing."""
    return replace(
        gait,
        arm_swing=torch.where(where, gait.arm_swing * 0.25, gait.arm_swing),
        arm_mean=torch.where(where, gait.arm_mean - 10.0, gait.arm_mean),
        arm_abduction=torch.where(where, gait.arm_abduction + 8.0, gait.arm_abduction),
        elbow=torch.where(where, gait.elbow * 0.3 + 42.0, gait.elbow),
        elbow_swing=torch.where(where, 0.0, gait.elbow_swing),
        forearm_in=torch.where(where, gait.forearm_in * 0.3 + 10.0, gait.forearm_in),
        hand_in_pocket=gait.hand_in_pocket | where,
    )


def angle(curve: Curve, phase: Tensor) -> Tensor:
    """Evaluate a curve: `phase` [b, s] in strides, the answer in radians [b, s]."""
    turn = phase * (2 * math.pi)
    cos, sin = (math.pi / 180 * part for part in curve)
    value = cos[:, :1].expand_as(turn)
    for k in range(1, cos.shape[1]):
        value = value + cos[:, k, None] * (k * turn).cos() - sin[:, k, None] * (k * turn).sin()
    return value


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
