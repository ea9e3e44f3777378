"""Bodies: the lengths and girths of one subject, drawn once and kept through all takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Levels of the trunk as fractions of the way from the hip joints (0) to the shoulder joints (1), and for each
# the half width, half depth and forward shift of the cross section, in statures. Widths and depths follow the
# averages of the ANSUR survey (hip, waist, chest breadth and depth).
TRUNK_LEVELS = (-0.12, 0.05, 0.22, 0.40, 0.58, 0.75, 0.90, 1.00, 1.12)
_TRUNK = {
    "male": {
        "width": (0.064, 0.095, 0.092, 0.083, 0.087, 0.095, 0.098, 0.058, 0.034),
        "depth": (0.056, 0.069, 0.064, 0.059, 0.063, 0.069, 0.064, 0.044, 0.035),
        "shift": (-0.004, -0.011, -0.002, 0.006, 0.006, 0.004, -0.004, -0.010, -0.008),
    },
    "female": {
        "width": (0.064, 0.101, 0.096, 0.073, 0.077, 0.083, 0.085, 0.050, 0.029),
        "depth": (0.058, 0.075, 0.064, 0.053, 0.058, 0.073, 0.061, 0.044, 0.031),
        "shift": (-0.004, -0.014, -0.003, 0.004, 0.004, 0.011, -0.002, -0.010, -0.008),
    },
}
# How strongly each level grows with the body mass index (exponent): the belly first, the shoulders hardly.
_FATNESS = (0.40, 0.50, 0.65, 0.85, 0.75, 0.55, 0.40, 0.25, 0.30)

# Segment lengths in statures (Drillis and Contini 1966, as printed by Winter).
_LENGTHS = {
    "trunk": 0.288,
    "thigh": 0.245,
    "shank": 0.246,
    "upper_arm": 0.186,
    "forearm": 0.146,
    "hand": 0.095,
    "foot": 0.152,
    "ankle_height": 0.039,
}
# Radii of the limbs in statures, at a body mass index of 22.5.
_RADII = {
    "shoulder": 0.0320,
    "biceps": 0.0275,
    "elbow": 0.0215,
    "forearm": 0.0245,
    "wrist": 0.0155,
    "hand": 0.0200,
    "fingers": 0.0100,
    "hip": 0.0540,
    "thigh": 0.0465,
    "knee": 0.0335,
    "calf": 0.0345,
    "ankle": 0.0205,
    "heel": 0.0180,
    "ball": 0.0165,
    "toe": 0.0105,
    "neck": 0.0320,
}


@dataclass(frozen=True)
class Hair:
    """What hair adds to the head, in metres; a length of 0 is a style without that part."""

    thickness: float
    tail: float  # hair hanging down behind the neck
    tail_width: float
    bun: float  # radius of a knot at the back of the head


@dataclass(frozen=True)
class Body:
    """One subject at rest. All lengths in metres, `mass` in kilograms.

    `trunk_*` hold one value a level of `TRUNK_LEVELS`; `lengths` and `radii` are by the names above.
    """

    female: bool
    stature: float
    mass: float
    lengths: dict[str, float]
    radii: dict[str, float]
    trunk_width: tuple[float, ...]
    trunk_depth: tuple[float, ...]
    trunk_shift: tuple[float, ...]
    shoulder_half: float
    hip_half: float
    neck: float
    head: tuple[float, float, float]  # half axes: forward, left, up
    hair: Hair

    @property
    def leg(self) -> float:
        return self.lengths["thigh"] + self.lengths["shank"] + self.lengths["ankle_height"]


def draw_body(rng: np.random.Generator) -> Body:
    """Draw sex, stature and mass, then everything else around what these three predict."""
    female = bool(rng.random() < 0.45)
    stature = float(np.clip(rng.normal(1.62, 0.062) if female else rng.normal(1.745, 0.068), 1.46, 1.95))
    bmi = float(np.clip(22.6 * np.exp(rng.normal(0.0, 0.135)), 17.2, 33.0))

    lengths = {name: share * stature for name, share in _LENGTHS.items()}
    long_legs = rng.normal(1.0, 0.022)  # legs grow at the cost of the trunk, the stature stays
    lengths["trunk"] *= 2.7 - 1.7 * long_legs
    long_arms = rng.normal(1.0, 0.025)
    for name in ("thigh", "shank"):
        lengths[name] *= long_legs * rng.normal(1.0, 0.012)
    for name in ("upper_arm", "forearm", "hand"):
        lengths[name] *= long_arms * rng.normal(1.0, 0.015)
    lengths["foot"] *= rng.normal(1.0, 0.04) * (0.97 if female else 1.0)

    stout = (bmi / 22.5) ** 0.5
    arms, legs = rng.normal(1.0, 0.06), rng.normal(1.0, 0.05)
    radii = {}
    for name, share in _RADII.items():
        is_arm = name in ("shoulder", "biceps", "elbow", "forearm", "wrist", "hand", "fingers")
        bony = name in ("wrist", "hand", "fingers", "ankle", "heel", "ball", "toe")
        radii[name] = share * stature * (stout**0.3 if bony else stout) * (arms if is_arm else legs)
        radii[name] *= rng.normal(1.0, 0.03) * (0.93 if female and is_arm else 1.0)

    table = _TRUNK["female" if female else "male"]
    width, depth, shift = _draw_trunk(rng, table, bmi, stature)
    broad = rng.normal(1.0, 0.045)
    return Body(
        female=female,
        stature=stature,
        mass=bmi * stature**2,
        lengths=lengths,
        radii=radii,
        trunk_width=width,
        trunk_depth=depth,
        trunk_shift=shift,
        shoulder_half=(0.098 if female else 0.107) * stature * broad * stout**0.3,
        hip_half=0.050 * stature * rng.normal(1.0, 0.04),
        neck=0.052 * stature * rng.normal(1.0, 0.08),
        head=_draw_head(rng, stature, female),
        hair=_draw_hair(rng, female),
    )


def _draw_trunk(rng: np.random.Generator, table: dict, bmi: float, stature: float) -> tuple[tuple, tuple, tuple]:
    """Width, depth and shift by level: smooth personal deviations, and fat where fat goes."""
    levels = len(TRUNK_LEVELS)
    build = np.interp(np.arange(levels), [0, 3, 6, levels - 1], rng.normal(1.0, 0.045, 4))
    thick = np.interp(np.arange(levels), [0, 3, 6, levels - 1], rng.normal(1.0, 0.06, 4))
    fat = (bmi / 22.5) ** np.array(_FATNESS)
    width = np.array(table["width"]) * stature * build * fat**0.9
    depth = np.array(table["depth"]) * stature * thick * fat**1.25
    belly = np.array([0, 0, 0.3, 1.0, 0.8, 0.2, 0, 0, 0]) * 0.05 * max(bmi / 22.5 - 1, 0)
    shift = (np.array(table["shift"]) * rng.normal(1.0, 0.3) + belly) * stature
    return tuple(width.tolist()), tuple(depth.tolist()), tuple(shift.tolist())


def _draw_head(rng: np.random.Generator, stature: float, female: bool) -> tuple[float, float, float]:
    """Heads vary little with stature: two thirds of a tall person's surplus is lost on the way up."""
    size = (1.0 + 0.33 * (stature / 1.70 - 1.0)) * (0.97 if female else 1.0)
    return tuple(float(half * size * rng.normal(1.0, 0.04)) for half in (0.099, 0.079, 0.120))


def _draw_hair(rng: np.random.Generator, female: bool) -> Hair:
    long_hair = rng.random() < (0.6 if female else 0.06)
    bun = female and not long_hair and rng.random() < 0.4
    return Hair(
        thickness=float(rng.uniform(0.003, 0.018)),
        tail=float(rng.uniform(0.14, 0.34)) if long_hair else 0.0,
        tail_width=float(rng.uniform(0.03, 0.085)),
        bun=float(rng.uniform(0.03, 0.05)) if bun else 0.0,
    )
