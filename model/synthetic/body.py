"""Bodies: the lengths and girths of one subject, drawn once and kept through all takes. b bodies, l trunk levels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.common.counter_random import Draws
from model.synthetic.anthropometry import WOMEN, draw_measures, draw_stature_and_mass
from model.synthetic.variety import Varied

# Levels of the trunk as fractions of the way from the hip joints (0) to the shoulders (1): crotch, hips, lower belly,
# waist, lower ribs, chest, armpits, shoulders, neck.
TRUNK_LEVELS = (-0.12, 0.05, 0.22, 0.40, 0.58, 0.75, 0.90, 1.00, 1.12)
SHOULDER_DROP = 0.028  # of the joint below the acromion, in statures: then the deltoid does not bulge above it
# How far the middle of each cross section lies in front of the line of joints, in statures: the small of the back
# hollow, buttocks and shoulder blades behind. Read off figures in profile, our own judgement.
_SHIFT_MAN = (-0.004, -0.011, -0.002, 0.005, 0.004, 0.002, -0.005, -0.010, -0.008)
_SHIFT_WOMAN = (-0.004, -0.014, -0.003, 0.004, 0.003, 0.001, -0.006, -0.010, -0.008)
_BELLY = (0.0, 0.1, 0.6, 0.7, 0.5, 0.2, 0.0, 0.0, 0.0)  # share of the surplus depth that hangs in front


@dataclass(frozen=True)
class Hair:
    """What hair adds to the head, in metres [b]; a length of 0 is a style without that part."""

    thickness: Tensor
    tail: Tensor  # hair hanging down behind the neck
    tail_width: Tensor
    bun: Tensor  # radius of a knot at the back of the head
    bob: Tensor  # hair beside and behind the jaw: how far it reaches below the middle of the head


@dataclass(frozen=True)
class Body:
    """Subjects at rest, float32 [b] unless said. All lengths in metres, `mass` in kilograms, `age` in years.

    female              bool [b]
    lengths             trunk (hip joints to shoulders), thigh, shank, upper_arm, forearm, hand, foot, ankle_height
    radii               shoulder, biceps, elbow, forearm, wrist, hand, fingers, hip, thigh, knee, calf, ankle, heel,
                        ball, toe, neck
    trunk_width, trunk_depth, trunk_shift   half width, half depth and forward shift by level [b, l], without breasts
    shoulder_half, hip_half                 half the distance of the shoulder joints, of the hip joints
    neck                length, such that standing straight the body is as tall as `stature`:
                        leg + 1.12 trunk + 1.1 neck + 1.78 head height, as the skeleton stacks them
    head                half axes [b, 3]: forward, left, up
    breasts             how far they stand out from the chest, 0 for men
    """

    female: Tensor
    age: Tensor
    stature: Tensor
    mass: Tensor
    lengths: dict[str, Tensor]
    radii: dict[str, Tensor]
    trunk_width: Tensor
    trunk_depth: Tensor
    trunk_shift: Tensor
    shoulder_half: Tensor
    hip_half: Tensor
    neck: Tensor
    head: Tensor
    breasts: Tensor
    hair: Hair

    @property
    def leg(self) -> Tensor:
        return self.lengths["thigh"] + self.lengths["shank"] + self.lengths["ankle_height"]

    @property
    def bmi(self) -> Tensor:
        return self.mass / self.stature**2


def draw_body(draws: Draws, variety: float = 1.0) -> Body:
    """One body a key; `variety` scales all that differs between people, at 0 everybody is the average man."""
    varied = Varied(draws, "body", variety)
    female = varied.chance("female", WOMEN)
    stature, mass = draw_stature_and_mass(varied, female)
    measures = draw_measures(varied, female, stature, mass)
    width, depth = _cross_sections(measures, female)
    lengths = _lengths(measures)
    head = torch.stack([measures[f"head_{side}"] / 2 for side in ("length", "breadth", "height")], -1)
    stacked = measures["hip_height"] + TRUNK_LEVELS[-1] * lengths["trunk"] + 1.78 * head[:, 2]
    bmi = mass / stature**2
    breasts = varied.normal("breasts", 0.038, 0.012) * (bmi / 21.0)
    return Body(
        female=female,
        age=(18 + varied.skewed("age", 14.0)).clamp(max=75.0),
        stature=stature,
        mass=mass,
        lengths=lengths,
        radii=_radii(measures, stature),
        trunk_width=width,
        trunk_depth=depth,
        trunk_shift=_shift(varied, female, stature, depth),
        shoulder_half=measures["biacromial"] / 2 - 0.018,
        hip_half=measures["hip_joints"] / 2,
        neck=((stature - stacked) / 1.1).clamp(min=0.01),
        head=head,
        breasts=torch.where(female, breasts.clamp(0.012, 0.085), 0.0),
        hair=_draw_hair(varied, female),
    )


def _lengths(measures: dict[str, Tensor]) -> dict[str, Tensor]:
    leg = measures["hip_height"] - measures["ankle_height"]
    lengths = {name: measures[name] for name in ("upper_arm", "forearm", "hand", "foot", "ankle_height")}
    return lengths | {
        "trunk": measures["acromion_height"] - measures["hip_height"],
        "thigh": leg * measures["thigh_share"],
        "shank": leg * (1 - measures["thigh_share"]),
    }


def _radii(measures: dict[str, Tensor], stature: Tensor) -> dict[str, Tensor]:
    """Girths over 2 pi where a tape measured them, else shares of the neighbours (our own judgement)."""
    girth = {name[:-6]: value / (2 * math.pi) for name, value in measures.items() if name.endswith("_girth")}
    bones = measures["foot"] / 0.150 / 1.715
    # 0.432 of the shoulder girth is the breadth over the deltoids (ANSUR II: 510 of 1180 mm)
    shoulder = 0.95 * (0.216 * measures["shoulder_girth"] - (measures["biacromial"] / 2 - 0.018))
    return {
        "shoulder": torch.maximum(shoulder, 1.02 * girth["biceps"]),
        "biceps": 0.915 * girth["biceps"],  # measured flexed
        "elbow": 0.86 * girth["forearm"],
        "forearm": girth["forearm"] * 0.97,
        "wrist": girth["wrist"],
        "hand": 1.27 * girth["wrist"],
        "fingers": 0.0100 * stature,
        "hip": measures["bitrochanteric"] / 2 + 0.010 - measures["hip_joints"] / 2,
        "thigh": 0.93 * girth["thigh"],  # half way down
        "knee": girth["knee"],
        "calf": girth["calf"],
        "ankle": girth["ankle"],
        "heel": 0.0310 * bones,
        "ball": 0.0285 * bones,
        "toe": 0.0180 * bones,
        "neck": girth["neck"],
    }


def _cross_sections(measures: dict[str, Tensor], female: Tensor) -> tuple[Tensor, Tensor]:
    """Half widths and half depths [b, l] of ellipses with the girths measured; 1.04 is for not being ellipses."""

    def ellipse(girth: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
        half = girth / 1.04 / (2 * math.pi) * (2 / (1 + flat**2)).sqrt()
        return half, half * flat

    bellies = (measures["waist_girth"] / torch.where(female, 0.69, 0.80)).log()
    round_waist = (0.4 * bellies).exp()  # they grow forward
    waist, waist_deep = ellipse(measures["waist_girth"], torch.where(female, 0.70, 0.72) * round_waist)
    navel, navel_deep = ellipse(measures["navel_girth"], torch.where(female, 0.68, 0.74) * round_waist)
    hips = measures["bitrochanteric"] / 2 + torch.where(female, 0.014, 0.008)  # flesh over the bone
    fleshy = (measures["hip_girth"] / 0.97) ** 2 / (measures["bitrochanteric"] / 0.32)
    hips_deep = torch.where(female, 0.104, 0.110) * fleshy
    chest = measures["chest_breadth"] / 2 + 0.008
    chest_deep = measures["chest_depth"] / 2 * torch.where(female, 1.08, 1.13)
    shoulder, neck = measures["biacromial"] / 2, measures["neck_girth"] / (2 * math.pi)
    width = [
        0.66 * hips,
        hips,
        0.49 * (hips + navel),
        waist,
        0.55 * waist + 0.45 * chest,
        chest,
        0.84 * shoulder,
        0.49 * shoulder,
        neck + 0.003,
    ]
    depth = [
        0.79 * hips_deep,
        hips_deep,
        0.5 * (hips_deep + navel_deep),
        waist_deep,
        0.5 * (waist_deep + chest_deep),
        chest_deep,
        0.92 * chest_deep,
        0.64 * chest_deep,
        neck + 0.001,
    ]
    return torch.stack(width, -1), torch.stack(depth, -1)


def _shift(varied: Varied, female: Tensor, stature: Tensor, depth: Tensor) -> Tensor:
    """The spine stays where it is: what a belly adds to the depth lies in front of it."""
    base = torch.where(female[:, None], depth.new_tensor(_SHIFT_WOMAN), depth.new_tensor(_SHIFT_MAN))
    lean = torch.where(female, 0.052, 0.058)[:, None] * stature[:, None]
    hollow = varied.normal("hollow back", 1.0, 0.35)[:, None]
    return base * hollow * stature[:, None] + depth.new_tensor(_BELLY) * (depth - lean)


def _draw_hair(varied: Varied, female: Tensor) -> Hair:
    """Lengths and shares of styles are our own judgement."""
    tail = varied.chance("long hair", torch.where(female, 0.45, 0.03))
    bun = varied.chance("bun", 0.25) & female & ~tail
    bob = varied.chance("bob", torch.where(female, 0.7, 0.08)) & ~tail & ~bun
    return Hair(
        thickness=varied.between("hair", 0.008, 0.028) + torch.where(female, 0.004, 0.0),
        tail=torch.where(tail, varied.between("tail", 0.12, 0.34), 0.0),
        tail_width=varied.between("tail width", 0.03, 0.085),
        bun=torch.where(bun, varied.between("bun size", 0.03, 0.05), 0.0),
        bob=torch.where(bob, varied.between("bob length", 0.04, 0.14), 0.0),
    )
