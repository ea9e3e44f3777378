"""Describe the angles of the leg joints over a stride by normative curves and random differences between people.

Shapes: b takes, s frames. A curve is a Fourier series: a pair (cos, sin) of coefficients in degrees, [b, HARMONICS + 1]
each, with the mean first. At the phase t, in strides since the heel contact, the angle is the sum over k of
cos_k cos(2 pi k t) - sin_k sin(2 pi k t).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from model.synthetic.scaled_draws import ScaledDraws

HARMONICS = 6
Curve = tuple[Tensor, Tensor]
# Degrees at every 5 % of a stride: thigh against the vertical (forward is positive), knee flexion, ankle dorsiflexion.
# The values describe adults on level ground after Winter (1991). They differ by at most 3 degrees from Perry (1992) and
# Kadaba et al. (1990).
NORMATIVE = {
    "thigh": (24, 23, 20.5, 16.5, 11.5, 6, 0.5, -5, -10, -14, -16.5, -15.5, -9.5, 0, 10, 18.5, 24.5, 27.5, 27, 25),
    "knee": (5, 10, 16, 18.5, 17, 13.5, 9.5, 6.5, 5, 6, 11, 21, 37, 53, 61, 59, 48, 31, 14, 4),
    "ankle": (0, -4.5, -4, 0, 3, 5.5, 7, 8.5, 9.5, 9.5, 6.5, -2, -13, -19, -15, -8, -3, -0.5, 0.5, 0.8),
}
# Correlated differences of hip and knee between people: the first seven principal components of the Fourier
# coefficients of 39 normal children. They explain 94 % of the variance. Each row is one standard deviation of a
# component. We computed them from the curves that were published with an article of Olshen, Biden, Wyatt and Sutherland
# (Gait analysis and the bootstrap, Annals of Statistics 17, 1989; the data set `gait` of R's package fda). Columns:
# coefficients of the thigh (cos 1 to 4, sin 1 to 4) and of the knee (cos 0 to 4, sin 1 to 4).
_MODES = (
    (2.45, 0.25, -0.31, -0.02, -1.85, 0.87, 0.04, 0.14, 1.23, 3.97, -1.50, -1.01, -0.30, -0.89, 2.41, 0.11, 0.25),
    (1.42, -0.95, -0.18, -0.23, 2.23, -0.13, 0.29, 0.16, 1.50, 0.79, -0.18, -0.48, -0.40, 2.21, -1.27, 0.56, -0.01),
    (0.67, -0.75, -0.10, 0.02, -0.58, -0.42, -0.38, -0.18, 1.65, -0.30, -0.43, 0.53, 0.33, -1.98, -1.94, -0.56, -0.02),
    (-0.48, 0.76, -0.03, -0.13, 0.29, -0.02, 0.30, -0.04, 1.71, -0.27, 1.40, -0.21, -0.32, -0.38, 0.78, 0.27, 0.15),
    (-0.58, -0.72, -0.27, -0.02, 0.08, 0.50, -0.12, 0.06, 0.64, -0.61, -0.92, -0.05, 0.24, 0.23, 0.71, -0.35, 0.10),
    (-0.69, -0.63, 0.07, -0.16, -0.74, -0.77, 0.20, -0.05, 0.15, 0.23, -0.05, -0.40, -0.33, 0.23, -0.16, 0.71, -0.01),
    (-0.45, -0.06, 0.06, -0.08, 0.65, 0.35, 0.32, 0.21, -0.19, 0.34, -0.28, 0.01, -0.09, -0.67, -0.13, 0.54, 0.27),
)
# Adults differ less than children. The factor is our own choice, between the standard deviations of the children and
# the standard deviations of Winter.
ADULT_SPREAD = 0.9


def _series(samples: tuple[float, ...]) -> tuple[list[float], list[float]]:
    coefficients = torch.fft.rfft(torch.tensor(samples, dtype=torch.float64))[: HARMONICS + 1] / len(samples)
    coefficients[1:] *= 2
    return coefficients.real.tolist(), coefficients.imag.tolist()


_SERIES = {name: _series(samples) for name, samples in NORMATIVE.items()}


def normative_curves(like: Tensor) -> dict[str, Curve]:
    """Return the normative curves, repeated for each take, with the data type and device of `like` [b]."""

    def repeated(part: list[float]) -> Tensor:
        return like.new_tensor(part).expand(len(like), -1)

    return {name: (repeated(cos), repeated(sin)) for name, (cos, sin) in _SERIES.items()}


def vary_curves(
    draws: ScaledDraws, curves: dict[str, Curve], leg_spread: float, ankle_spread: float
) -> dict[str, Curve]:
    """Return randomly changed curves.

    Args:
        leg_spread: spread of the changes of thigh and knee; 1 is the spread between the children of `_MODES`.
        ankle_spread: standard deviation of the relative change of each harmonic of the ankle curve.
    """
    # Thigh and knee: a random combination of the principal components. It is computed as a sum, because the rounding of
    # a matrix product may depend on the batch size.
    scores = draws.normal("curves", 0.0, leg_spread, (len(_MODES),))
    modes = scores.new_tensor(_MODES)
    change = sum(scores[:, i, None] * modes[i] for i in range(len(modes)))

    def add(curve: Curve, *changes: Tensor) -> Curve:
        # Changes have the harmonics 1 to 4 or the harmonics 0 to 4. The padding adds the missing harmonics.
        parts = (F.pad(part, (1 - (len(part[0]) == 5), HARMONICS - 4)) for part in changes)
        return tuple(old + part for old, part in zip(curve, parts, strict=True))

    # Ankle: each harmonic is multiplied by a random complex number near 1.
    real = draws.normal("ankle curve", 1.0, ankle_spread, (HARMONICS,))
    imaginary = draws.normal("ankle curve in time", 0.0, ankle_spread, (HARMONICS,))
    (mean, cos), (zero, sin) = (part.split([1, HARMONICS], 1) for part in curves["ankle"])
    return {
        "thigh": add(curves["thigh"], change[:, 0:4], change[:, 4:8]),
        "knee": add(curves["knee"], change[:, 8:13], change[:, 13:17]),
        "ankle": (
            torch.cat([mean, cos * real - sin * imaginary], 1),
            torch.cat([zero, cos * imaginary + sin * real], 1),
        ),
    }


def rescale(curve: Curve, scale: Tensor, shift: Tensor) -> Curve:
    """Multiply the deviations of a curve from its mean by `scale` [b], and add `shift` [b] degrees to its mean."""
    cos, sin = curve
    return torch.cat([cos[:, :1] + shift[:, None], cos[:, 1:] * scale[:, None]], 1), sin * scale[:, None]


def angle(curve: Curve, phase: Tensor) -> Tensor:
    """Return the angle of a curve in radians [b, s] at `phase` [b, s], in strides."""
    turn = phase * (2 * math.pi)
    cos, sin = (math.pi / 180 * part for part in curve)
    value = cos[:, :1].expand_as(turn)
    for k in range(1, cos.shape[1]):
        value = value + cos[:, k, None] * (k * turn).cos() - sin[:, k, None] * (k * turn).sin()
    return value
