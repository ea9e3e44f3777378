"""Gait: joint angle curves of one subject, and where they put the joints of a walking body.

The curves are Fourier series of the normative curves of level walking (D. A. Winter, The Biomechanics and
Motor Control of Human Gait, 1991), read off every 5 % of the stride, heel contact first. A subject scales,
shifts and distorts them; a take does so again, ten times less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from model.data.synthetic.body import Body

HARMONICS = 6
# Degrees. Thigh against the vertical (forward positive), knee flexion, ankle dorsiflexion.
_THIGH = (24, 23, 20.5, 16.5, 11.5, 6, 0.5, -5, -10, -14, -16.5, -15.5, -9.5, 0, 10, 18.5, 24.5, 27.5, 27, 25)
_KNEE = (5, 10, 16, 18.5, 17, 13.5, 9.5, 6.5, 5, 6, 11, 21, 37, 53, 61, 59, 48, 31, 14, 4)
_ANKLE = (0, -4.5, -4, 0, 3, 5.5, 7, 8.5, 9.5, 9.5, 6.5, -2, -13, -19, -15, -8, -3, -0.5, 0.5, 0.8)


@dataclass(frozen=True)
class Gait:
    """How one subject walks. Angles in degrees, lengths in metres, `cadence` in steps a minute.

    `curves` maps thigh, knee and ankle to complex Fourier coefficients [HARMONICS + 1], mean first.
    """

    cadence: float
    phase: float
    curves: dict[str, np.ndarray]
    asymmetry: float
    step_width: float
    foot_progression: float
    pelvis_yaw: float
    pelvis_roll: float
    pelvis_tilt: float
    sway: float
    thorax_yaw: float
    thorax_lag: float
    lean: float
    kyphosis: float
    thorax_roll: float
    nod: float
    head_forward: float
    arm_swing: tuple[float, float]  # left, right
    arm_mean: float
    arm_lag: float
    arm_abduction: tuple[float, float]
    elbow: tuple[float, float]
    elbow_swing: float
    forearm_in: float
    heading: float = 0.0
    offset: float = 0.0


def _series(samples: tuple[float, ...]) -> np.ndarray:
    """Fourier coefficients of one stride, such that the curve is Re(sum of c_k exp(2 pi i k t))."""
    coefficients = np.fft.rfft(np.asarray(samples, float))[: HARMONICS + 1] / len(samples)
    coefficients[1:] *= 2
    return coefficients


def draw_gait(rng: np.random.Generator, body: Body) -> Gait:
    """Draw a way of walking for `body`: short legs step faster, heavy bodies swing wider and move less."""
    brisk = rng.normal()  # long steps, large swings and high cadence come together
    stride = 1.0 + 0.06 * brisk + rng.normal(0, 0.05)
    heavy = body.mass / body.stature**2 / 22.5 - 1.0
    curves = {
        "thigh": _distort(rng, _series(_THIGH), stride, rng.normal(0, 2.5), 0.10),
        "knee": _distort(rng, _series(_KNEE), rng.normal(1.0, 0.09), rng.normal(1.0, 3.0), 0.12),
        "ankle": _distort(rng, _series(_ANKLE), rng.normal(0.95, 0.17), rng.normal(0, 2.0), 0.15),
    }
    swing = max(17.0 + 5.0 * brisk + rng.normal(0, 6.0), 3.0)
    one_sided = rng.normal(0, 0.14)
    elbow = max(rng.normal(18.0, 8.0), 4.0)
    abduction = 7.0 + 8.0 * max(heavy, 0) + rng.normal(0, 2.5)
    return Gait(
        cadence=float(np.clip(113 * (0.90 / body.leg) ** 0.5 + 4.0 * brisk + rng.normal(0, 4), 90, 138)),
        phase=0.0,
        curves=curves,
        asymmetry=rng.normal(0, 0.025),
        step_width=max(0.105 + 0.06 * heavy + rng.normal(0, 0.025), 0.04),
        foot_progression=rng.normal(7.0, 5.0),
        pelvis_yaw=max(rng.normal(5.0, 2.0), 0.5),
        pelvis_roll=max(rng.normal(4.5 if body.female else 3.2, 1.3), 0.3),
        pelvis_tilt=rng.normal(4.0, 4.0),
        sway=max(rng.normal(0.020, 0.006), 0.004),
        thorax_yaw=max(rng.normal(5.5, 2.5), 0.5),
        thorax_lag=rng.normal(0.0, 0.03),
        lean=rng.normal(3.0, 2.8),
        kyphosis=rng.normal(8.0, 6.0),
        thorax_roll=rng.normal(0.0, 1.4),
        nod=rng.normal(2.0, 7.0),
        head_forward=rng.normal(0.030, 0.016),
        arm_swing=(swing * (1 + one_sided), swing * (1 - one_sided)),
        arm_mean=rng.normal(-2.0, 4.5),
        arm_lag=rng.normal(0.0, 0.03),
        arm_abduction=(abduction + rng.normal(0, 1.0), abduction + rng.normal(0, 1.0)),
        elbow=(elbow + rng.normal(0, 3.0), elbow + rng.normal(0, 3.0)),
        elbow_swing=max(rng.normal(15.0, 7.0), 0.0),
        forearm_in=rng.normal(8.0, 7.0),
    )


def _distort(rng: np.random.Generator, series: np.ndarray, scale: float, shift: float, spread: float) -> np.ndarray:
    """Scale and shift a curve, and change each harmonic by a relative amount and in phase."""
    change = 1.0 + spread * (rng.normal(size=len(series)) + 1j * rng.normal(size=len(series))) / math.sqrt(2)
    change[1] = change[1].real * 0.3 + 0.7  # the first harmonic belongs to `scale`; its phase times the step
    distorted = series * change * scale
    distorted[0] = series[0] + shift
    return distorted


def vary_gait(rng: np.random.Generator, gait: Gait, strength: float = 1.0) -> Gait:
    """The same subject in another take: another start, speed, mood and line across the floor."""
    speed = 1.0 + strength * rng.normal(0, 0.03)
    small = strength * rng.normal(size=12)
    return replace(
        gait,
        cadence=gait.cadence * speed,
        phase=float(rng.random()),
        curves={
            name: _distort(rng, series, 1 + 0.5 * (speed - 1) + 0.012 * small[i], 0.7 * small[3 + i], 0.02)
            for i, (name, series) in enumerate(gait.curves.items())
        },
        lean=gait.lean + 0.8 * small[6],
        nod=gait.nod + strength * rng.normal(0, 2.5),
        arm_swing=tuple(max(swing * speed**2 * (1 + 0.10 * small[7]), 1.0) for swing in gait.arm_swing),
        arm_mean=gait.arm_mean + 1.2 * small[8],
        elbow=tuple(max(angle + 2.0 * small[9], 2.0) for angle in gait.elbow),
        step_width=max(gait.step_width + 0.006 * small[10], 0.03),
        heading=rng.normal(0, 1.5),
        offset=rng.normal(0, 0.07),
    )


def angle(series: np.ndarray, phase):
    """Evaluate a curve: `phase` is a tensor in strides, the answer radians of the same shape."""
    turn = phase * (2 * math.pi)
    value = turn * 0 + math.radians(series[0].real)
    for k in range(1, len(series)):
        real, imaginary = math.radians(series[k].real), math.radians(series[k].imag)
        value = value + real * (k * turn).cos() - imaginary * (k * turn).sin()
    return value


def walking_speed(body: Body, gait: Gait) -> float:
    """Metres a second at which the standing foot does not slide, from the thigh and knee curves alone."""
    k = np.arange(HARMONICS + 1)

    def reach(phase: float) -> float:
        thigh, knee = (
            math.radians((gait.curves[name] * np.exp(2j * math.pi * k * phase)).real.sum())
            for name in ("thigh", "knee")
        )
        return body.lengths["thigh"] * math.sin(thigh) + body.lengths["shank"] * math.sin(thigh - knee)

    hips = 2 * body.hip_half * math.sin(math.radians(gait.pelvis_yaw))
    share = 0.35  # of the stride, from foot flat to heel rise
    return (reach(0.07) - reach(0.07 + share) + hips * share) / share * gait.cadence / 120.0
