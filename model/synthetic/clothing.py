"""Clothes of subjects and takes: everyday clothes, and the coats of condition CL.

b takes. No survey of clothes gives the values that a silhouette needs. All thicknesses, lengths and frequencies in the
tables are our own judgement, estimated from street photographs and from how much wider real silhouettes are than naked
bodies. Lengths in metres.
"""

import math
from collections import namedtuple

import torch
from torch import Tensor

from model.common.counter_random import Draws
from model.synthetic.body import Body
from model.synthetic.gait import Gait, change_where

_FIELDS = """trunk shoulder drape sleeve sleeve_length thigh knee cuff sole heel shoe hem flare skirt coat collar hood
    hat brim"""


class Outfit(namedtuple("Outfit", _FIELDS)):
    """Clothes of b takes. Each field is float32 [b]: the thickness over the skin in metres, unless stated otherwise.

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


# Columns: range of the measure for jackets; range for shirts and jumpers; weight of the measure's own random number.
# The other weight is that of the outfit's bulk, which all measures share: thick trunks come with thick sleeves.
UPPER_GARMENTS = {
    "trunk": ((0.014, 0.040), (0.004, 0.018), 0.4),
    "shoulder": ((0.003, 0.016), (0.0, 0.006), 0.4),
    "drape": ((0.4, 1.0), (0.1, 0.9), 1.0),
    "sleeve": ((0.010, 0.028), (0.003, 0.014), 0.4),
    "hem": ((0.02, 0.36), (0.10, 0.34), 1.0),
    "flare": ((0.0, 0.045), (0.0, 0.018), 1.0),
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
    for name, (of_jacket, of_shirt, own) in UPPER_GARMENTS.items():
        share = (1 - own) * bulk + own * draws.uniform(f"outfit {name}")
        low, high = (torch.where(jacket, *ends) for ends in zip(of_jacket, of_shirt, strict=True))
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
    )


def vary_outfit(draws: Draws, outfit: Outfit) -> Outfit:
    """Return the same clothes in one take each: cloth hangs a few millimetres differently."""
    changes = {name: draws.normal(f"outfit {name}", 0.0, sd) for name, sd in TAKE_SPREADS.items()}
    changed = {name: (getattr(outfit, name) + change).clamp(min=0.0) for name, change in changes.items()}
    changed["drape"] = changed["drape"].clamp(max=1.0)
    hem = (outfit.hem + draws.normal("outfit hem", 0.0, 0.02)).clamp(min=0.02)
    return outfit._replace(**changed, hem=torch.where(outfit.hem < 0, outfit.hem, hem))


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
    return change_where(
        outfit,
        where,
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


def spread_arms(gait: Gait, outfit: Outfit) -> Gait:
    """Move the elbows outward by the thickness of the clothes between arm and trunk. The forearms still hang down."""
    between = 0.6 * outfit.trunk + 0.5 * outfit.sleeve
    outward = (between / 0.55 * (180 / math.pi))[:, None]  # 0.55 m: length of an arm
    return gait._replace(arm_abduction=gait.arm_abduction + outward, forearm_in=gait.forearm_in + 0.7 * outward)
