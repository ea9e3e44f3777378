"""Clothing and bags: everyday clothes, the bags of condition BG and the coats of condition CL.

b takes. No survey of clothes gives the values that a silhouette needs. All thicknesses, lengths and frequencies in the
tables are our own judgement, estimated from street photographs and from how much wider real silhouettes are than naked
bodies. Lengths in metres.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model.common.counter_random import Draws
from model.synthetic.body import Body
from model.synthetic.gait import Gait

BAG_TYPES = ("shoulder", "hand", "backpack")
NO_BAG, SHOULDER_BAG, HAND_BAG, BACKPACK = -1, 0, 1, 2  # indices into BAG_TYPES


@dataclass(frozen=True)
class Bag:
    """`bag_type` int64 [b] is an index into BAG_TYPES or NO_BAG; `left` bool [b] is the side of shoulder and hand bags.

    `size` [b, 3] is length, height and half thickness; `drop` [b] is the distance from the shoulder, hand or neck down
    to the top of the bag.
    """

    bag_type: Tensor
    left: Tensor
    size: Tensor
    drop: Tensor


@dataclass(frozen=True)
class Outfit:
    """Thickness of clothes over the skin in metres, by body part: float32 [b] unless stated.

    trunk, sleeve      of the upper garment; `sleeve_length` is 1 to the elbow, 2 to the wrist
    shoulder           additional thickness at the shoulders (pads and seams)
    drape              0: cloth follows the waist; 1: cloth falls straight from the chest to the hips
    thigh, knee, cuff  of the trousers; nearly 0 with a skirt
    sole, heel         height of the sole and additional height of the heel; `shoe` is the extra length of the shoe
    hem                end of the upper garment, skirt or coat along the leg (0 hip, 1 knee, 2 ankle), -1 for the belt;
                       `flare` is the distance of the hem from the legs
    skirt, coat        bool [b]: the hem belongs to a skirt (bare legs below), to a coat (falls from the waist)
    collar, hood       additional radius of the neck; radius of a hood on the upper back, 0 for none
    hat, brim          height of a cap above the hair, and forward length of its brim; 0 for none
    """

    trunk: Tensor
    shoulder: Tensor
    drape: Tensor
    sleeve: Tensor
    sleeve_length: Tensor
    thigh: Tensor
    knee: Tensor
    cuff: Tensor
    sole: Tensor
    heel: Tensor
    shoe: Tensor
    hem: Tensor
    flare: Tensor
    skirt: Tensor
    coat: Tensor
    collar: Tensor
    hood: Tensor
    hat: Tensor
    brim: Tensor
    bag: Bag


class UpperGarment(NamedTuple):
    """Range of one measure for jackets and for shirts or jumpers.

    `own` is the weight of the measure's own random number; the rest of the weight is on the outfit's bulk, which all
    measures share, so that thick trunks come with thick sleeves.
    """

    jacket: tuple[float, float]
    shirt: tuple[float, float]
    own: float = 0.4


UPPER_GARMENTS = {
    "trunk": UpperGarment((0.014, 0.040), (0.004, 0.018)),
    "shoulder": UpperGarment((0.003, 0.016), (0.0, 0.006)),
    "drape": UpperGarment((0.4, 1.0), (0.1, 0.9), own=1.0),
    "sleeve": UpperGarment((0.010, 0.028), (0.003, 0.014)),
    "hem": UpperGarment((0.02, 0.36), (0.10, 0.34), own=1.0),
    "flare": UpperGarment((0.0, 0.045), (0.0, 0.018), own=1.0),
}
FREQUENCIES = {  # of an outfit; skirts only for women, short sleeves only without a jacket, a brim only with a cap
    "jacket": 0.5, "skirt": 0.16, "untucked": 0.65, "short sleeves": 0.3, "cap": 0.05, "hood": 0.2, "brim": 0.7,
}  # fmt: skip
SIZES = {  # uniform between the two values
    "sleeve length": (0.5, 0.9),  # of short sleeves
    "skirt hem": (0.55, 1.25),
    "skirt flare": (0.01, 0.06),
    "collar": (0.004, 0.024),  # of jackets
    "hood size": (0.030, 0.060),
    "hat": (0.008, 0.035),
    "brim size": (0.04, 0.075),
    "thigh": (0.13, 0.20),  # fraction of the ease of the trousers
    "sole": (0.005, 0.022),
    "shoe": (0.008, 0.030),
}
# Trousers are cut by girth. Their ease is the difference to the girth of the knee: 3 (slim), 11 (straight) or 25 cm
# (baggy). The hem is as wide as the knee, or narrower.
LEAST_EASE, MEAN_EASE, WOMEN_EASE = 0.025, 0.085, 0.75
BARE_LEG = 0.001
# Standard deviation of the differences between takes: cloth hangs differently by a few millimetres.
TAKE_SPREADS = {
    "trunk": 0.0018, "drape": 0.06, "sleeve": 0.0012, "thigh": 0.0012, "knee": 0.0015, "cuff": 0.0020, "flare": 0.0030,
}  # fmt: skip
# Coats and down jackets. A third are jackets that end at the hips. `shoulder`, `sleeve` and `collar` are fractions of
# the thickness.
SHORT_COATS, HOODED_COATS = 0.35, 0.4
COATS = {
    "thick": (0.014, 0.045),
    "long hem": (0.55, 1.40),
    "short hem": (0.12, 0.50),
    "shoulder": (0.2, 0.6),
    "drape": (0.5, 1.0),
    "sleeve": (0.45, 0.75),
    "flare": (0.010, 0.065),
    "collar": (0.3, 1.0),
    "hood size": (0.045, 0.080),
}
# Ranges for BAG_TYPES; `swing` is the remaining fraction of the arm swing.
BAGS = {
    "length": ((0.20, 0.34), (0.20, 0.36), (0.24, 0.32)),
    "height": ((0.16, 0.28), (0.18, 0.36), (0.32, 0.46)),
    "half thickness": ((0.030, 0.060), (0.025, 0.055), (0.045, 0.085)),
    "drop": ((0.34, 0.54), (0.04, 0.14), (0.02, 0.05)),
    "swing": ((0.45, 0.9), (0.25, 0.6), (0.75, 1.0)),
}


def draw_outfit(draws: Draws, body: Body) -> Outfit:
    """Draw the everyday clothes of each subject: jacket, jumper or shirt; trousers or skirt; shoes, cap, hood."""

    def has(name: str) -> Tensor:
        return draws.chance(f"outfit {name}", FREQUENCIES[name])

    def size(name: str, where: Tensor | bool = True, otherwise: float | Tensor = 0.0) -> Tensor:
        where = torch.as_tensor(where, device=draws.keys.device)
        return torch.where(where, draws.uniform(f"outfit {name}", *SIZES[name]), otherwise)

    jacket, skirt, cap = has("jacket"), body.female & has("skirt"), has("cap")

    # Upper garment: every measure is between the ends of its range.
    bulk, upper = draws.uniform("outfit bulk"), {}
    for name, garment in UPPER_GARMENTS.items():
        share = (1 - garment.own) * bulk + garment.own * draws.uniform(f"outfit {name}")
        low, high = (torch.where(jacket, *ends) for ends in zip(garment.jacket, garment.shirt, strict=True))
        upper[name] = low + share * (high - low)
    upper["hem"] = size("skirt hem", skirt, torch.where(jacket | has("untucked"), upper["hem"], -1.0))
    upper["flare"] = size("skirt flare", skirt, upper["flare"])

    # Trousers: girth at the knee and at the hem, converted to thickness.
    ease = draws.gamma2("outfit ease", MEAN_EASE) * torch.where(body.female, WOMEN_EASE, 1.0) + LEAST_EASE
    knee_girth = 2 * math.pi * body.radii["knee"] + ease
    hem_girth = knee_girth * draws.uniform("outfit hem of trousers", torch.where(body.female, 0.70, 0.82), 1.05)
    trousers = {
        "thigh": 0.003 + ease * size("thigh"),
        "knee": ease / (2 * math.pi),
        "cuff": (hem_girth / (2 * math.pi) - body.radii["ankle"]).clamp(0.004, 0.065),
    }
    zero = torch.zeros_like(ease)
    return Outfit(
        **upper,
        **{name: torch.where(skirt, BARE_LEG, thickness) for name, thickness in trousers.items()},
        sleeve_length=size("sleeve length", ~jacket & has("short sleeves"), 2.0),
        sole=size("sole"),
        heel=torch.where(body.female, 1.0, 0.4) * draws.gamma2("outfit heel", 0.014).clamp(max=0.08),
        shoe=size("shoe"),
        skirt=skirt,
        coat=torch.zeros_like(skirt),
        collar=size("collar", jacket, 0.001),
        hood=size("hood size", has("hood")),
        hat=size("hat", cap),
        brim=size("brim size", cap & has("brim")),
        bag=Bag(
            bag_type=torch.full_like(draws.keys, NO_BAG),
            left=torch.zeros_like(skirt),
            size=zero[:, None].expand(-1, 3),
            drop=zero,
        ),
    )


def vary_outfit(draws: Draws, outfit: Outfit) -> Outfit:
    """Return the same clothes in one take each: cloth hangs a few millimetres differently."""
    changed = {
        name: (getattr(outfit, name) + draws.normal(f"outfit {name}", 0.0, sd)).clamp(min=0.0)
        for name, sd in TAKE_SPREADS.items()
    }
    changed["drape"] = changed["drape"].clamp(max=1.0)
    hem = (outfit.hem + draws.normal("outfit hem", 0.0, 0.02)).clamp(min=0.02)
    return replace(outfit, **changed, hem=torch.where(outfit.hem < 0, outfit.hem, hem))


def add_coats(draws: Draws, outfit: Outfit, where: Tensor) -> Outfit:
    """Add coats and down jackets in the takes `where` (bool [b]); `draws` are those of the takes.

    A coat has a wide trunk, wide sleeves and a skirt that hides the upper legs.
    """

    def size(name: str) -> Tensor:
        return draws.uniform(f"coat {name}", *COATS[name])

    # The hem covers the skirt under the coat.
    thick = size("thick")
    hem = torch.where(draws.chance("coat short", SHORT_COATS), size("short hem"), size("long hem"))
    hem = torch.where(outfit.skirt, torch.maximum(hem, outfit.hem), hem)
    # Clothes under a coat are thin.
    coat = replace(
        outfit,
        trunk=outfit.trunk.clamp(max=0.022) + thick,
        shoulder=outfit.shoulder.clamp(max=0.010) + thick * size("shoulder"),
        drape=size("drape"),
        sleeve=outfit.sleeve.clamp(max=0.016) + thick * size("sleeve"),
        sleeve_length=torch.full_like(thick, 2.0),
        hem=hem,
        flare=size("flare"),
        coat=torch.ones_like(outfit.coat),
        collar=thick * size("collar") + 0.006,
        hood=torch.where(draws.chance("coat hood", HOODED_COATS), size("hood size"), 0.0),
    )
    return select(where, coat, outfit)


def add_bags(draws: Draws, outfit: Outfit, gait: Gait, where: Tensor) -> tuple[Outfit, Gait]:
    """Add bags in the takes `where` (bool [b]), and adapt the gait to them; `draws` are those of the takes.

    Two takes of a subject may have different bags.
    """
    bag_type, left = draws.choice("bag kind", len(BAG_TYPES)), draws.chance("bag left", 0.5)
    shoulder, hand, back = (bag_type == one for one in (SHOULDER_BAG, HAND_BAG, BACKPACK))

    def size(name: str) -> Tensor:
        low, high = (gait.cadence.new_tensor(ends)[bag_type] for ends in zip(*BAGS[name], strict=True))
        return draws.uniform(f"bag {name}", low, high)

    bag = Bag(
        bag_type, left, torch.stack([size(name) for name in ("length", "height", "half thickness")], -1), size("drop")
    )
    # The arm that holds the bag swings less. The weight of a hand bag straightens the elbow.
    busy = torch.stack([back | left, back | ~left], -1)
    outward = torch.where(shoulder, 4.0, torch.where(hand, -1.0, 1.0))[:, None]
    straighten = torch.where(hand, 0.4, 1.0)[:, None]
    busy_arm = {
        "arm_swing": gait.arm_swing * size("swing")[:, None],
        "arm_abduction": gait.arm_abduction + outward,
        "elbow": gait.elbow * straighten,
        "elbow_swing": gait.elbow_swing * straighten,
    }
    # A backpack bends the trunk forward, other bags pull the opposite shoulder up.
    changed = replace(
        gait,
        **{name: torch.where(busy, value, getattr(gait, name)) for name, value in busy_arm.items()},
        lean=gait.lean + torch.where(back, 2.5, 0.0),
        thorax_roll=gait.thorax_roll + torch.where(back, 0.0, torch.where(left, 1.5, -1.5)),
    )
    return replace(outfit, bag=select(where, bag, outfit.bag)), select(where, changed, gait)


def spread_arms(gait: Gait, outfit: Outfit) -> Gait:
    """Move the elbows outward by the thickness of the clothes between arm and trunk. The forearms still hang down."""
    between = 0.6 * outfit.trunk + 0.5 * outfit.sleeve
    outward = (between / 0.55 * (180 / math.pi))[:, None]  # 0.55 m: length of an arm
    return replace(gait, arm_abduction=gait.arm_abduction + outward, forearm_in=gait.forearm_in + 0.7 * outward)


def select(where: Tensor, yes: Any, no: Any) -> Any:
    """`torch.where` for tensors, dictionaries, tuples and dataclasses of tensors; `where` is bool [b]."""
    if isinstance(yes, Tensor):
        return torch.where(where.view(-1, *[1] * (yes.dim() - 1)), yes, no)
    if isinstance(yes, dict):
        return {name: select(where, value, no[name]) for name, value in yes.items()}
    if isinstance(yes, tuple):
        return tuple(select(where, *pair) for pair in zip(yes, no, strict=True))
    return replace(yes, **{name: select(where, value, getattr(no, name)) for name, value in vars(yes).items()})
