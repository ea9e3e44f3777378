"""What a subject wears and carries: everyday clothes, and the bags (BG) and coats (CL) of the conditions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from model.data.synthetic.body import Body
from model.data.synthetic.gait import Gait

BAGS = ("shoulder", "hand", "backpack")


@dataclass(frozen=True)
class Bag:
    """`size` is length, height and half thickness in metres; `left` is the side of shoulder and hand bags."""

    kind: str
    left: bool
    size: tuple[float, float, float]
    drop: float  # from the shoulder, the hand or the neck to the top of the bag


@dataclass(frozen=True)
class Outfit:
    """Thickness of cloth in metres by place; hems as the way down the leg (0 hip, 1 knee, 2 ankle), -1 for
    none.

    `flare` is how far the hem stands off the legs.
    """

    trunk: float
    sleeve: float
    thigh: float
    knee: float
    cuff: float
    sole: float
    hem: float
    flare: float
    collar: float = 0.0
    bag: Bag | None = None


def draw_outfit(rng: np.random.Generator, body: Body) -> Outfit:
    """The everyday clothes in which a subject comes to all takes."""
    loose = rng.gamma(2.0, 0.004)
    dressed = body.female and rng.random() < 0.18
    shirt = rng.random() < 0.6
    return Outfit(
        trunk=rng.uniform(0.003, 0.012),
        sleeve=rng.uniform(0.001, 0.010),
        thigh=0.003 + loose * 0.7,
        knee=0.004 + loose,
        cuff=0.006 + loose * rng.uniform(0.6, 2.0),
        sole=rng.uniform(0.0, 0.006),
        hem=rng.uniform(0.55, 1.1) if dressed else (rng.uniform(0.12, 0.34) if shirt else -1.0),
        flare=rng.uniform(0.01, 0.05) if dressed else rng.uniform(0.0, 0.015),
    )


def vary_outfit(rng: np.random.Generator, outfit: Outfit) -> Outfit:
    """The same clothes on another day: cloth sits a few millimetres differently."""
    trunk, sleeve, thigh, hem = rng.normal(0, 1, 4)
    return replace(
        outfit,
        trunk=max(outfit.trunk + 0.0015 * trunk, 0.0),
        sleeve=max(outfit.sleeve + 0.0010 * sleeve, 0.0),
        thigh=max(outfit.thigh + 0.0010 * thigh, 0.0),
        hem=outfit.hem if outfit.hem < 0 else max(outfit.hem + 0.02 * hem, 0.05),
    )


def put_on_coat(rng: np.random.Generator, outfit: Outfit) -> Outfit:
    """A coat or down jacket over everything: wide trunk and sleeves, a skirt that hides the upper legs."""
    thick = rng.uniform(0.020, 0.050)
    return replace(
        outfit,
        trunk=outfit.trunk + thick,
        sleeve=outfit.sleeve + thick * rng.uniform(0.45, 0.75),
        hem=rng.uniform(0.55, 1.35),
        flare=rng.uniform(0.015, 0.065),
        collar=thick * rng.uniform(0.3, 1.0) + 0.008,
    )


def take_bag(rng: np.random.Generator, outfit: Outfit, gait: Gait) -> tuple[Outfit, Gait]:
    """Pick up a bag: the arm that holds it swings less, a backpack bends the trunk a little."""
    kind = BAGS[int(rng.integers(len(BAGS)))]
    left = bool(rng.random() < 0.5)
    size = {
        "shoulder": (rng.uniform(0.20, 0.32), rng.uniform(0.16, 0.26), rng.uniform(0.030, 0.055)),
        "hand": (rng.uniform(0.20, 0.34), rng.uniform(0.18, 0.30), rng.uniform(0.030, 0.055)),
        "backpack": (rng.uniform(0.24, 0.32), rng.uniform(0.32, 0.44), rng.uniform(0.045, 0.080)),
    }[kind]
    drop = {"shoulder": rng.uniform(0.36, 0.52), "hand": rng.uniform(0.06, 0.14), "backpack": 0.03}[kind]
    held = {"shoulder": rng.uniform(0.45, 0.9), "hand": rng.uniform(0.25, 0.6), "backpack": 0.9}[kind]
    sides = (held, 1.0) if left else (1.0, held)
    if kind == "backpack":
        sides = (held, held)
    wider = 4.0 if kind == "shoulder" else (-1.0 if kind == "hand" else 1.0)
    straight = 0.4 if kind == "hand" else 1.0  # the weight pulls the elbow straight
    marked = [share < 1.0 for share in sides]
    changed = replace(
        gait,
        arm_swing=tuple(swing * share for swing, share in zip(gait.arm_swing, sides, strict=True)),
        arm_abduction=tuple(a + wider * m for a, m in zip(gait.arm_abduction, marked, strict=True)),
        elbow=tuple(e * (straight if m else 1.0) for e, m in zip(gait.elbow, marked, strict=True)),
        lean=gait.lean + (2.5 if kind == "backpack" else 0.0),
        thorax_roll=gait.thorax_roll + (0 if kind == "backpack" else (1.5 if left else -1.5)),
    )
    return replace(outfit, bag=Bag(kind, left, size, drop)), changed
