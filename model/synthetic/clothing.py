"""Draw clothes: everyday clothes of each subject, and the coats of the takes of condition CL.

Shapes: b takes. Lengths are in metres. No survey of clothes gives the values that a silhouette needs. All thicknesses,
lengths and frequencies in the tables are our own judgement, from street photographs and from the difference in width
between real silhouettes and naked bodies.
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
    """Clothes of b takes. Each field is float32 [b]: a thickness over the skin in metres, unless stated otherwise.

    trunk, sleeve      thickness of the upper garment over trunk and arms
    sleeve_length      1 if the sleeve ends at the elbow, 2 if it ends at the wrist
    shoulder           additional thickness at the shoulders (pads and seams)
    drape              0 if the cloth follows the waist, 1 if it falls straight from the chest to the hips
    thigh, knee, cuff  thickness of the trousers; nearly 0 with a skirt
    sole, heel         height of the sole, and additional height of the heel
    shoe               additional length of the foot in the shoe
    hem                lower end of the upper garment, skirt or coat: 0 at the hip, 1 at the knee, 2 at the ankle; -1 if
                       the garment ends at the belt
    flare              distance of the hem from the legs
    skirt              bool [b], whether the hem belongs to a skirt; the legs below it are bare
    coat               bool [b], whether the hem belongs to a coat, which falls from the waist
    collar             additional radius of the neck
    hood               radius of a hood on the upper back, 0 without a hood
    hat, brim          height of a cap above the hair, and forward length of its brim, 0 without a cap or brim
    """


# Columns: range of the measure for jackets; range for shirts and jumpers; weight of the measure's own random number.
# The random number `bulk`, which all measures of an outfit share, has the remaining weight. Thick clothes over the
# trunk therefore have thick sleeves.
UPPER_GARMENTS = {
    "trunk": ((0.014, 0.040), (0.004, 0.018), 0.4),
    "shoulder": ((0.003, 0.016), (0.0, 0.006), 0.4),
    "drape": ((0.4, 1.0), (0.1, 0.9), 1.0),
    "sleeve": ((0.010, 0.028), (0.003, 0.014), 0.4),
    "hem": ((0.02, 0.36), (0.10, 0.34), 1.0),
    "flare": ((0.0, 0.045), (0.0, 0.018), 1.0),
}
# Fractions of the outfits. Only women have skirts, only outfits without a jacket have short sleeves, and only caps have
# a brim.
FREQUENCIES = {
    "jacket": 0.5, "skirt": 0.16, "untucked": 0.65, "short sleeves": 0.3, "cap": 0.05, "hood": 0.2, "brim": 0.7,
}  # fmt: skip
SIZES = {  # uniformly distributed between the two values
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
# Ease of trousers: their girth at the knee minus the girth of the knee itself. It is about 3 cm in slim, 11 cm in
# straight and 25 cm in baggy trousers. For women, `MEAN_EASE` is multiplied by `WOMEN_EASE`. At the hem, most trousers
# are narrower than at the knee.
LEAST_EASE, MEAN_EASE, WOMEN_EASE = 0.025, 0.085, 0.75
BARE_LEG = 0.001  # thickness over the skin of bare legs
# Standard deviations of the differences between takes: cloth hangs differently by a few millimetres.
TAKE_SPREADS = {
    "trunk": 0.0018, "drape": 0.06, "sleeve": 0.0012, "thigh": 0.0012, "knee": 0.0015, "cuff": 0.0020, "flare": 0.0030,
}  # fmt: skip
# Coats and down jackets. About a third of them are short and end at the upper half of the thighs. `shoulder`, `sleeve`
# and `collar` are fractions of the thickness.
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

    # Upper garment: each measure is drawn between the ends of its range.
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
    """Return the clothes of each take: the clothes of its subject, which hang a few millimetres differently."""
    changes = {name: draws.normal(f"outfit {name}", 0.0, sd) for name, sd in TAKE_SPREADS.items()}
    changed = {name: (getattr(outfit, name) + change).clamp(min=0.0) for name, change in changes.items()}
    changed["drape"] = changed["drape"].clamp(max=1.0)
    hem = (outfit.hem + draws.normal("outfit hem", 0.0, 0.02)).clamp(min=0.02)
    return outfit._replace(**changed, hem=torch.where(outfit.hem < 0, outfit.hem, hem))


def add_coats(draws: Draws, outfit: Outfit, where: Tensor) -> Outfit:
    """Add coats and down jackets in the takes that `where` (bool [b]) selects. `draws` are random numbers of the takes.

    A coat thickens trunk and arms, and its lower part hides the upper legs.
    """

    def size(name: str) -> Tensor:
        return draws.uniform(f"coat {name}", *COATS[name])

    # A coat is at least as long as the skirt under it.
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
