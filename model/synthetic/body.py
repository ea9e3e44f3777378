"""Draw the bodies of subjects: lengths, girths and hair, which are the same in all takes of a subject.

Shapes: b bodies, l trunk levels.
"""

import math
from collections import namedtuple

import torch
from torch import Tensor

from model.common.counter_random import Draws
from model.synthetic.anthropometry import WOMEN, draw_measures, draw_stature_and_mass
from model.synthetic.scaled_draws import ScaledDraws

# Levels of the trunk, as fractions of the distance from the hip joints (0) to the shoulders (1): crotch, hips, lower
# belly, waist, lower ribs, chest, armpits, shoulders, neck.
TRUNK_LEVELS = (-0.12, 0.05, 0.22, 0.40, 0.58, 0.75, 0.90, 1.00, 1.12)
SHOULDER_DROP = 0.028  # from the acromion down to the shoulder joint, in statures; keeps the deltoid below the acromion
# Distance of the centre of each cross section in front of the line through the joints, in statures. The lower back is
# hollow, and buttocks and shoulder blades are behind the line. The values are our own judgement, from people in
# profile.
_SHIFT_MAN = (-0.004, -0.011, -0.002, 0.005, 0.004, 0.002, -0.005, -0.010, -0.008)
_SHIFT_WOMAN = (-0.004, -0.014, -0.003, 0.004, 0.003, 0.001, -0.006, -0.010, -0.008)
# Forward shift of each level, as a fraction of the depth that exceeds the depth of a lean trunk.
_BELLY = (0.0, 0.1, 0.6, 0.7, 0.5, 0.2, 0.0, 0.0, 0.0)
_FIELDS = """female age stature mass lengths radii trunk_width trunk_depth trunk_shift shoulder_half hip_half neck head
    breasts hair"""


class Hair(namedtuple("Hair", "thickness tail tail_width bun bob")):
    """Sizes of the hair in metres, [b] each. If a hair style has no tail, bun or bob, the size of this part is 0.

    thickness           thickness of the hair on the head
    tail, tail_width    length and width of the hair behind the neck
    bun                 radius of a bun at the back of the head
    bob                 length of the hair around the jaw, from the centre of the head downward
    """


class Body(namedtuple("Body", _FIELDS)):
    """Body measures: float32 [b] unless stated otherwise. Lengths are in metres, `mass` in kilograms, `age` in years.

    female              bool [b]
    lengths             by name: trunk (hip joints to shoulders), thigh, shank, upper_arm, forearm, hand, foot,
                        ankle_height
    radii               by name: shoulder, biceps, elbow, forearm, wrist, hand, fingers, hip, thigh, knee, calf, ankle,
                        heel, ball, toe, neck
    trunk_width, trunk_depth, trunk_shift   half width, half depth and forward shift by level [b, l], without breasts
    shoulder_half, hip_half                 half of the distance between both shoulder joints, between both hip joints
    neck                length of the neck that gives the upright body the height `stature`, which is
                        leg + 1.12 trunk + 1.1 neck + 1.78 head height, as in `skeleton`
    head                half axes [b, 3] of the head: forward, left, up
    breasts             distance by which the breasts project from the chest, 0 for men
    """

    @property
    def bmi(self) -> Tensor:
        return self.mass / self.stature**2


def draw_body(draws: Draws, variety: float = 1.0) -> Body:
    """Draw one body per key. `variety` scales all differences between people; at 0, every body is the average man's."""
    scaled = ScaledDraws(draws, "body", variety)
    female = scaled.chance("female", WOMEN)
    stature, mass = draw_stature_and_mass(scaled, female)
    measures = draw_measures(scaled, female, stature, mass)
    width, depth = _cross_sections(measures, female)
    lengths = _lengths(measures)
    head = torch.stack([measures[f"head_{side}"] / 2 for side in ("length", "breadth", "height")], -1)
    stacked = measures["hip_height"] + TRUNK_LEVELS[-1] * lengths["trunk"] + 1.78 * head[:, 2]
    bmi = mass / stature**2
    breasts = scaled.normal("breasts", 0.038, 0.012) * (bmi / 21.0)
    return Body(
        female=female,
        age=(18 + scaled.skewed("age", 14.0)).clamp(max=75.0),
        stature=stature,
        mass=mass,
        lengths=lengths,
        radii=_radii(measures, stature),
        trunk_width=width,
        trunk_depth=depth,
        trunk_shift=_shift(scaled, female, stature, depth),
        shoulder_half=measures["biacromial"] / 2 - 0.018,
        hip_half=measures["hip_joints"] / 2,
        neck=((stature - stacked) / 1.1).clamp(min=0.01),
        head=head,
        breasts=torch.where(female, breasts.clamp(0.012, 0.085), 0.0),
        hair=_draw_hair(scaled, female),
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
    """Return the radii by name, [b] each: drawn girths / 2 pi. Factors and other radii are our own judgement."""
    girth = {name[:-6]: value / (2 * math.pi) for name, value in measures.items() if name.endswith("_girth")}
    bones = measures["foot"] / 0.150 / 1.715
    # The breadth over the deltoids is 0.432 of the shoulder girth (ANSUR II: 510 mm and 1180 mm).
    shoulder = 0.95 * (0.216 * measures["shoulder_girth"] - (measures["biacromial"] / 2 - 0.018))
    return {
        "shoulder": torch.maximum(shoulder, 1.02 * girth["biceps"]),
        "biceps": 0.915 * girth["biceps"],  # the girth is measured with the muscle flexed
        "elbow": 0.86 * girth["forearm"],
        "forearm": girth["forearm"] * 0.97,
        "wrist": girth["wrist"],
        "hand": 1.27 * girth["wrist"],
        "fingers": 0.0100 * stature,
        "hip": measures["bitrochanteric"] / 2 + 0.010 - measures["hip_joints"] / 2,
        "thigh": 0.93 * girth["thigh"],  # at the middle of the thigh
        "knee": girth["knee"],
        "calf": girth["calf"],
        "ankle": girth["ankle"],
        "heel": 0.0310 * bones,
        "ball": 0.0285 * bones,
        "toe": 0.0180 * bones,
        "neck": girth["neck"],
    }


def _cross_sections(measures: dict[str, Tensor], female: Tensor) -> tuple[Tensor, Tensor]:
    """Return the half widths and half depths [b, l] of the cross sections of the trunk, for the drawn girths.

    Real cross sections are not ellipses: their girth is 1.04 times the girth of an ellipse of equal width and depth.
    """

    def ellipse(girth: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
        half = girth / 1.04 / (2 * math.pi) * (2 / (1 + flat**2)).sqrt()
        return half, half * flat

    # Waist and belly: a larger waist grows mainly forward.
    bellies = (measures["waist_girth"] / torch.where(female, 0.69, 0.80)).log()
    round_waist = (0.4 * bellies).exp()
    waist, waist_deep = ellipse(measures["waist_girth"], torch.where(female, 0.70, 0.72) * round_waist)
    navel, navel_deep = ellipse(measures["navel_girth"], torch.where(female, 0.68, 0.74) * round_waist)
    # Hips, chest, shoulders and neck.
    hips = measures["bitrochanteric"] / 2 + torch.where(female, 0.014, 0.008)  # soft tissue over the bone
    fleshy = (measures["hip_girth"] / 0.97) ** 2 / (measures["bitrochanteric"] / 0.32)
    hips_deep = torch.where(female, 0.104, 0.110) * fleshy
    chest = measures["chest_breadth"] / 2 + 0.008
    chest_deep = measures["chest_depth"] / 2 * torch.where(female, 1.08, 1.13)
    shoulder, neck = measures["biacromial"] / 2, measures["neck_girth"] / (2 * math.pi)
    # Half width and half depth from the crotch to the neck. A level without a measure is a mixture of its neighbours.
    levels = (
        (0.66 * hips, 0.79 * hips_deep),
        (hips, hips_deep),
        (0.49 * (hips + navel), 0.5 * (hips_deep + navel_deep)),
        (waist, waist_deep),
        (0.55 * waist + 0.45 * chest, 0.5 * (waist_deep + chest_deep)),
        (chest, chest_deep),
        (0.84 * shoulder, 0.92 * chest_deep),
        (0.49 * shoulder, 0.64 * chest_deep),
        (neck + 0.003, neck + 0.001),
    )
    width, depth = zip(*levels, strict=True)
    return torch.stack(width, -1), torch.stack(depth, -1)


def _shift(scaled: ScaledDraws, female: Tensor, stature: Tensor, depth: Tensor) -> Tensor:
    """Return the forward shift of each level [b, l]. The spine keeps its place: a belly adds depth mainly in front."""
    base = torch.where(female[:, None], depth.new_tensor(_SHIFT_WOMAN), depth.new_tensor(_SHIFT_MAN))
    lean = torch.where(female, 0.052, 0.058)[:, None] * stature[:, None]
    hollow = scaled.normal("hollow back", 1.0, 0.35)[:, None]
    return base * hollow * stature[:, None] + depth.new_tensor(_BELLY) * (depth - lean)


def _draw_hair(scaled: ScaledDraws, female: Tensor) -> Hair:
    """Draw the hair. The lengths and the frequencies of the hair styles are our own judgement."""
    tail = scaled.chance("long hair", torch.where(female, 0.45, 0.03))
    bun = scaled.chance("bun", 0.25) & female & ~tail
    bob = scaled.chance("bob", torch.where(female, 0.7, 0.08)) & ~tail & ~bun
    return Hair(
        thickness=scaled.between("hair", 0.008, 0.028) + torch.where(female, 0.004, 0.0),
        tail=torch.where(tail, scaled.between("tail", 0.12, 0.34), 0.0),
        tail_width=scaled.between("tail width", 0.03, 0.085),
        bun=torch.where(bun, scaled.between("bun size", 0.03, 0.05), 0.0),
        bob=torch.where(bob, scaled.between("bob length", 0.04, 0.14), 0.0),
    )
