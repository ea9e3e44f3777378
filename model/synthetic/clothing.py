"""What subjects wear and carry: everyday clothes, the bags of condition BG and the coats of CL. b takes.

No survey of cloth exists that a silhouette could use: thicknesses, lengths and shares are our own judgement, by eye
from street photographs and from how much wider than naked bodies real silhouettes are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from model.common.counter_random import Draws
from model.synthetic.body import Body
from model.synthetic.gait import Gait

BAGS = ("shoulder", "hand", "backpack")
NO_BAG, SHOULDER_BAG, HAND_BAG, BACKPACK = -1, 0, 1, 2  # kinds of bags: places in BAGS


@dataclass(frozen=True)
class Bag:
    """`size` [b, 3] is length, height and half thickness in metres; `left` the side of shoulder and hand bags."""

    kind: Tensor  # int64 [b]
    left: Tensor  # bool [b]
    size: Tensor
    drop: Tensor  # from the shoulder, the hand or the neck to the top of the bag


@dataclass(frozen=True)
class Outfit:
    """Thickness of cloth beyond the skin in metres by place, float32 [b] unless said.

    trunk, sleeve      of what is worn above the hips; `sleeve_length`: 1 ends at the elbow, 2 at the wrist
    shoulder           what pads and seams add to the shoulders
    drape              0: cloth follows the waist; 1: it falls straight from the chest to the hips
    thigh, knee, cuff  of the trousers; nearly nothing with a skirt
    sole, heel         height of the sole and, more, of the heel; `shoe` is how far the shoe is longer than the foot
    hem                where the upper garment, skirt or coat ends, as the way down the leg (0 hip, 1 knee, 2 ankle),
                       -1 for at the belt; `flare` is how far the hem stands off the legs
    skirt, coat        bool [b]: the hem is that of a skirt (bare legs below), of a coat (falls from the waist)
    collar, hood       added to the radius of the neck; radius of a hood lying on the upper back, 0 for none
    hat, brim          how far a cap stands above the hair, and how far its brim reaches forward; 0 for none
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


def draw_outfit(draws: Draws, body: Body) -> Outfit:
    """The everyday clothes in which subjects come to all takes: jackets, jumpers or shirts; trousers or skirts.

    Trousers are cut by girth: 3 (slim), 11 (straight) or 25 cm (baggy) wider than the knee, a hem as wide or narrower.
    """
    jacket = draws.chance("outfit jacket", 0.5)
    skirt = body.female & draws.chance("outfit skirt", 0.16)
    bulk = draws.uniform("outfit bulk")

    def upper(name: str, jackets: tuple[float, float], shirts: tuple[float, float], own: float = 0.4) -> Tensor:
        share = (1 - own) * bulk + own * draws.uniform(f"outfit {name}")
        low, high = (torch.where(jacket, *ends) for ends in zip(jackets, shirts, strict=True))
        return low + share * (high - low)

    def only(those: Tensor, name: str, low: float, high: float, others: float | Tensor = 0.0) -> Tensor:
        return torch.where(those, draws.uniform(f"outfit {name}", low, high), others)

    hem = upper("hem", (0.02, 0.36), (0.10, 0.34), own=1.0)
    untucked = jacket | draws.chance("outfit untucked", 0.65)
    short, capped = ~jacket & draws.chance("outfit short sleeves", 0.3), draws.chance("outfit cap", 0.05)
    ease = draws.gamma2("outfit ease", 0.085) * torch.where(body.female, 0.75, 1.0) + 0.025
    wide = 2 * math.pi * body.radii["knee"] + ease
    narrow = wide * draws.uniform("outfit hem of trousers", torch.where(body.female, 0.70, 0.82), 1.05)
    bare = torch.full_like(ease, 0.001)
    zero = torch.zeros_like(ease)
    return Outfit(
        trunk=upper("trunk", (0.014, 0.040), (0.004, 0.018)),
        shoulder=upper("shoulder", (0.003, 0.016), (0.0, 0.006)),
        drape=upper("drape", (0.4, 1.0), (0.1, 0.9), own=1.0),
        sleeve=upper("sleeve", (0.010, 0.028), (0.003, 0.014)),
        sleeve_length=only(short, "sleeve length", 0.5, 0.9, 2.0),
        thigh=torch.where(skirt, bare, 0.003 + ease * draws.uniform("outfit thigh", 0.13, 0.20)),
        knee=torch.where(skirt, bare, ease / (2 * math.pi)),
        cuff=torch.where(skirt, bare, (narrow / (2 * math.pi) - body.radii["ankle"]).clamp(0.004, 0.065)),
        sole=draws.uniform("outfit sole", 0.005, 0.022),
        heel=torch.where(body.female, 1.0, 0.4) * draws.gamma2("outfit heel", 0.014).clamp(max=0.08),
        shoe=draws.uniform("outfit shoe", 0.008, 0.030),
        hem=only(skirt, "skirt hem", 0.55, 1.25, torch.where(untucked, hem, -1.0)),
        flare=only(skirt, "skirt flare", 0.01, 0.06, upper("flare", (0.0, 0.045), (0.0, 0.018), own=1.0)),
        skirt=skirt,
        coat=torch.zeros_like(skirt),
        collar=only(jacket, "collar", 0.004, 0.024, 0.001),
        hood=only(draws.chance("outfit hood", 0.2), "hood size", 0.030, 0.060),
        hat=only(capped, "hat", 0.008, 0.035),
        brim=only(capped & draws.chance("outfit brim", 0.7), "brim size", 0.04, 0.075),
        bag=Bag(
            kind=torch.full_like(draws.keys, NO_BAG),
            left=torch.zeros_like(skirt),
            size=zero[:, None].expand(-1, 3),
            drop=zero,
        ),
    )


def vary_outfit(draws: Draws, outfit: Outfit) -> Outfit:
    """The same clothes, `draws` being the take's: cloth sits a few millimetres differently."""

    def shifted(name: str, sd: float) -> Tensor:
        return (getattr(outfit, name) + draws.normal(f"outfit {name}", 0.0, sd)).clamp(min=0.0)

    hem = (outfit.hem + draws.normal("outfit hem", 0.0, 0.02)).clamp(min=0.02)
    return replace(
        outfit,
        trunk=shifted("trunk", 0.0018),
        drape=shifted("drape", 0.06).clamp(max=1.0),
        sleeve=shifted("sleeve", 0.0012),
        thigh=shifted("thigh", 0.0012),
        knee=shifted("knee", 0.0015),
        cuff=shifted("cuff", 0.0020),
        flare=shifted("flare", 0.0030),
        hem=torch.where(outfit.hem < 0, outfit.hem, hem),
    )


def put_on_coat(draws: Draws, outfit: Outfit, where: Tensor) -> Outfit:
    """Coats and down jackets over everything for the takes `where` (bool [b]), `draws` being the take's.

    Wide trunk and sleeves, and a skirt that hides the upper legs; a third are jackets that end at the hips.
    """
    thick = draws.uniform("coat thick", 0.014, 0.045)
    long = draws.uniform("coat long hem", 0.55, 1.40)
    hem = torch.where(draws.chance("coat short", 0.35), draws.uniform("coat short hem", 0.12, 0.50), long)
    hem = torch.where(outfit.skirt, torch.maximum(hem, outfit.hem), hem)
    hooded = draws.chance("coat hood", 0.4)
    coat = replace(
        outfit,
        trunk=outfit.trunk.clamp(max=0.022) + thick,
        shoulder=outfit.shoulder.clamp(max=0.010) + thick * draws.uniform("coat shoulder", 0.2, 0.6),
        drape=draws.uniform("coat drape", 0.5, 1.0),
        sleeve=outfit.sleeve.clamp(max=0.016) + thick * draws.uniform("coat sleeve", 0.45, 0.75),
        sleeve_length=torch.full_like(thick, 2.0),
        hem=hem,
        flare=draws.uniform("coat flare", 0.010, 0.065),
        coat=torch.ones_like(outfit.coat),
        collar=thick * draws.uniform("coat collar", 0.3, 1.0) + 0.006,
        hood=torch.where(hooded, draws.uniform("coat hood size", 0.045, 0.080), 0.0),
    )
    return choose(where, coat, outfit)


def take_bag(draws: Draws, outfit: Outfit, gait: Gait, where: Tensor) -> tuple[Outfit, Gait]:
    """Bags for the takes `where` (bool [b]): the arm that holds one swings less, a backpack bends the trunk a little.

    `draws` is the take's: two takes of a subject may have different bags.
    """
    kind, left = draws.choice("bag kind", 3), draws.chance("bag left", 0.5)
    shoulder, hand, back = (kind == which for which in (SHOULDER_BAG, HAND_BAG, BACKPACK))

    def of_kind(name: str, *ranges: tuple[float, float]) -> Tensor:
        low, high = (gait.cadence.new_tensor(ends)[kind] for ends in zip(*ranges, strict=True))
        return draws.uniform(f"bag {name}", low, high)

    size = [
        of_kind("length", (0.20, 0.34), (0.20, 0.36), (0.24, 0.32)),
        of_kind("height", (0.16, 0.28), (0.18, 0.36), (0.32, 0.46)),
        of_kind("half thickness", (0.030, 0.060), (0.025, 0.055), (0.045, 0.085)),
    ]
    bag = Bag(kind, left, torch.stack(size, -1), of_kind("drop", (0.34, 0.54), (0.04, 0.14), (0.02, 0.05)))
    # left and right arm: is it the one that is hindered?
    busy = torch.stack([back | left, back | ~left], -1)
    share = of_kind("swing", (0.45, 0.9), (0.25, 0.6), (0.75, 1.0))[:, None]
    wider = torch.where(shoulder, 4.0, torch.where(hand, -1.0, 1.0))[:, None]
    straight = torch.where(hand, 0.4, 1.0)[:, None]  # the weight pulls the elbow straight
    changed = replace(
        gait,
        arm_swing=torch.where(busy, gait.arm_swing * share, gait.arm_swing),
        arm_abduction=torch.where(busy, gait.arm_abduction + wider, gait.arm_abduction),
        elbow=torch.where(busy, gait.elbow * straight, gait.elbow),
        elbow_swing=torch.where(busy, gait.elbow_swing * straight, gait.elbow_swing),
        lean=gait.lean + torch.where(back, 2.5, 0.0),
        thorax_roll=gait.thorax_roll + torch.where(back, 0.0, torch.where(left, 1.5, -1.5)),
    )
    return replace(outfit, bag=choose(where, bag, outfit.bag)), choose(where, changed, gait)


def make_room(gait: Gait, outfit: Outfit) -> Gait:
    """Thick clothes push the elbows outward (degrees: what lies between arm and trunk, over the length of an arm).

    The forearms go on hanging down.
    """
    between = 0.6 * outfit.trunk + 0.5 * outfit.sleeve
    wider = (between / 0.55 * (180 / math.pi))[:, None]
    return replace(gait, arm_abduction=gait.arm_abduction + wider, forearm_in=gait.forearm_in + 0.7 * wider)


def choose(where: Tensor, yes: Any, no: Any) -> Any:
    """Field by field of two tensors or dataclasses of tensors: `yes` for the takes `where` (bool [b])."""
    if isinstance(yes, Tensor):
        return torch.where(where.view(-1, *[1] * (yes.dim() - 1)), yes, no)
    if isinstance(yes, dict):
        return {name: choose(where, value, no[name]) for name, value in yes.items()}
    if isinstance(yes, tuple):
        return tuple(choose(where, *pair) for pair in zip(yes, no, strict=True))
    return replace(yes, **{name: choose(where, value, getattr(no, name)) for name, value in vars(yes).items()})
