"""Build figures of dressed people: place ellipsoids on the joints of skeletons, and join them by convex hulls."""

import torch
from torch import Tensor

from model.synthetic.body import TRUNK_LEVELS, Body
from model.synthetic.clothing import Outfit
from model.synthetic.figure import Figure, FigureBuilder
from model.synthetic.luggage import Bag, add_bag_parts
from model.synthetic.skeleton import SIDES, Skeleton, offset

_HIPS, _CHEST, _SHOULDERS = 1, 5, 7  # trunk levels


def build_figure(body: Body, outfit: Outfit, bag: Bag, skeleton: Skeleton) -> Figure:
    """Return the figures of the dressed people with their bags, in all frames."""
    builder = FigureBuilder()
    _trunk(builder, body, outfit, skeleton)
    _head(builder, body, outfit, skeleton)
    for side in SIDES:
        _arm(builder, body, outfit, skeleton, side)
        _leg(builder, body, outfit, skeleton, side)
    _skirt(builder, body, outfit, skeleton)
    add_bag_parts(builder, body, bag, skeleton)
    return builder.figure()


def _trunk(builder: FigureBuilder, body: Body, outfit: Outfit, skeleton: Skeleton) -> None:
    """Add the cross sections of the trunk with the clothes over them, the breasts and a hood."""
    # Cross sections, joined from level to level.
    names = [f"trunk{level}" for level in range(len(TRUNK_LEVELS))]
    width, depth = _draped(body.trunk_width, outfit.drape), _draped(body.trunk_depth, outfit.drape)
    for level, name in enumerate(names):
        frame = skeleton.trunk_frames[:, :, level]
        thin = (0.030 if level < 6 else 0.012) * body.stature
        cloth = outfit.trunk if level < len(names) - 2 else outfit.trunk * 0.6
        wider = cloth + outfit.shoulder if level == _SHOULDERS else cloth
        half = (depth[:, level] + cloth, width[:, level] + wider, thin)
        builder.ellipsoid(name, skeleton.trunk[:, :, level] + offset(frame, body.trunk_shift[:, level]), frame, half)
    builder.chain(*names)

    # Breasts, joined to the levels around the chest.
    frame, chest = skeleton.trunk_frames[:, :, _CHEST], skeleton.trunk[:, :, _CHEST]
    size = 0.5 * body.breasts + 0.03
    front = body.trunk_shift[:, _CHEST] + body.trunk_depth[:, _CHEST] + body.breasts + outfit.trunk - size
    for side, sign in (("left", 1), ("right", -1)):
        point = chest + offset(frame, front, sign * 0.42 * body.trunk_width[:, _CHEST], -0.010 * body.stature)
        builder.ball(f"{side}_breast", point, size)
        builder.join(f"{side}_breast", *(f"trunk{_CHEST + i}" for i in (-1, 0, 1)), where=body.breasts > 0)
    # Hood on the upper back.
    behind = -body.trunk_depth[:, _SHOULDERS] - 0.3 * outfit.hood
    hood = skeleton.trunk[:, :, _SHOULDERS] + offset(frame, behind, 0.0, 0.03)
    builder.ellipsoid("hood", hood, frame, (outfit.hood, 1.6 * outfit.hood, 0.9 * outfit.hood))
    builder.join("hood", f"trunk{_SHOULDERS}", where=outfit.hood > 0)


def _draped(size: Tensor, drape: Tensor) -> Tensor:
    """Return the half widths or half depths [b, l] of the trunk under draped cloth.

    Draped cloth falls straight from the chest to the hips, and fills the fraction `drape` [b] of the hollow at the
    waist.
    """
    levels = torch.tensor(TRUNK_LEVELS, dtype=size.dtype, device=size.device)
    share = (levels - levels[_HIPS]) / (levels[_CHEST] - levels[_HIPS])
    straight = size[:, _HIPS, None] + share * (size[:, _CHEST] - size[:, _HIPS])[:, None]
    between = (share > 0) & (share < 1)
    return size + torch.where(between, (straight - size).clamp(min=0) * drape[:, None], 0.0)


def _head(builder: FigureBuilder, body: Body, outfit: Outfit, skeleton: Skeleton) -> None:
    """Add neck, head, hair, collar and cap."""
    # Ellipsoids of the head: name, distances forward and up from the centre of the head, half axes.
    head, frame, hair = skeleton.joints["head"], skeleton.frames["head"], body.hair
    (depth, width, height), thick, hat = body.head.unbind(1), hair.thickness, outfit.hat
    for name, forward, up, half in (
        ("face", 0.08 * depth, -0.10 * height, (0.86 * depth, 0.86 * width, 0.88 * height)),
        ("skull", -0.06 * depth, 0.22 * height, (0.94 * depth, width, 0.78 * height)),
        ("hair", -0.14 * depth, 0.26 * height, (0.90 * depth + thick, width + 0.8 * thick, 0.78 * height + thick)),
        ("bob", -0.35 * depth, 0.05 - hair.bob, (0.65 * depth, width + 1.2 * thick, 0.05)),
        ("cap", -0.05 * depth, 0.55 * height + hat, (0.92 * depth + thick, width + thick, 0.5 * height + hat)),
        ("brim", 0.95 * depth + 0.5 * outfit.brim, 0.42 * height, (0.5 * outfit.brim + 0.01, 0.7 * width, 0.008)),
    ):
        builder.ellipsoid(name, head + offset(frame, forward, 0.0, up), frame, half)
    builder.ball("throat", head + offset(frame, -0.15 * depth, 0.0, -0.55 * height), body.radii["neck"] * 0.97)
    builder.ball("chin", head + offset(frame, 0.55 * depth, 0.0, -0.72 * height), 0.28 * height)
    builder.ball("bun", head + offset(frame, -1.02 * depth, 0.0, 0.12 * height), hair.bun)
    # Neck and collar, and hair behind the neck.
    neck, radius = skeleton.joints["neck"], body.radii["neck"] + outfit.collar
    builder.ball("neck", neck, radius)
    builder.ball("collar", neck + offset(frame, 0.0, 0.0, 0.035), radius)
    down = frame.new_tensor([0.0, 0.0, -1.0])
    tail = head + offset(frame, -0.75 * depth, 0.0, -0.1 * height) + down * hair.tail[:, None, None]
    builder.ellipsoid("tail", tail, frame, (0.025, hair.tail_width, 0.03))

    builder.chain("trunk8", "neck", "throat", "face", "chin")
    builder.join("face", "skull", "hair")
    builder.join("neck", "collar")
    builder.join("hair", "tail", where=hair.tail > 0)
    builder.join("hair", "bob", where=hair.bob > 0)
    builder.join("cap", "hair", where=hat > 0)
    builder.join("brim", "skull", where=outfit.brim > 0)
    builder.join("bun", where=hair.bun > 0)


def _arm(builder: FigureBuilder, body: Body, outfit: Outfit, skeleton: Skeleton, side: str) -> None:
    """Add an arm, its sleeve and the slope of the shoulder."""
    shoulder, elbow, wrist = (skeleton.joints[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
    radii, sleeve = body.radii, outfit.sleeve
    below = torch.where(outfit.sleeve_length > 1, sleeve, 0.0)  # a short sleeve ends above the elbow
    builder.ball(f"{side}_shoulder", shoulder, radii["shoulder"] + sleeve + outfit.shoulder)
    builder.ball(f"{side}_biceps", shoulder + 0.45 * (elbow - shoulder), radii["biceps"] + sleeve)
    builder.ball(f"{side}_elbow", elbow, radii["elbow"] + below)
    builder.ball(f"{side}_forearm", elbow + 0.28 * (wrist - elbow), radii["forearm"] + below)
    builder.ball(f"{side}_wrist", wrist, radii["wrist"] + below)
    builder.ball(f"{side}_hand", skeleton.joints[f"{side}_hand"], radii["hand"])
    builder.ball(f"{side}_fingers", skeleton.joints[f"{side}_fingers"], radii["fingers"])
    builder.join(f"{side}_shoulder", "trunk7", "trunk6")
    builder.join(f"{side}_shoulder", "neck", "trunk7")  # slope from the neck to the shoulder
    parts = ("shoulder", "biceps", "elbow", "forearm", "wrist", "hand", "fingers")
    builder.chain(*(f"{side}_{name}" for name in parts))


def _leg(builder: FigureBuilder, body: Body, outfit: Outfit, skeleton: Skeleton, side: str) -> None:
    """Add a leg, the trousers and a shoe."""
    names = ("hip", "knee", "ankle", "heel", "ball", "toe")
    hip, knee, ankle, heel, ball, toe = (skeleton.joints[f"{side}_{name}"] for name in names)
    radii, foot = body.radii, skeleton.frames[f"{side}_foot"]
    # Leg: the calf is behind the line from knee to ankle.
    down = (ankle - knee) / (ankle - knee).norm(dim=-1, keepdim=True)
    back = torch.stack([down[..., 2], torch.zeros_like(down[..., 0]), -down[..., 0]], -1)
    builder.ball(f"{side}_hip", hip, radii["hip"] + outfit.thigh)
    builder.ball(f"{side}_thigh", hip + 0.45 * (knee - hip), radii["thigh"] + outfit.thigh)
    builder.ball(f"{side}_knee", knee, radii["knee"] + outfit.knee)
    calf = knee + 0.30 * (ankle - knee) + back * (radii["calf"] * 0.22)[:, None, None]
    builder.ball(f"{side}_calf", calf, radii["calf"] + outfit.knee * 0.6)
    builder.ball(f"{side}_cuff", ankle - 0.02 * down, radii["ankle"] + outfit.cuff)
    builder.ball(f"{side}_instep", ankle + offset(foot, 0.02, 0.0, -0.01), radii["ankle"] * 0.9)
    # Shoe: its ellipsoids are wider than high at the ball and the toes.
    sole, longer = outfit.sole, 0.5 * outfit.shoe
    heel_half = (radii["heel"] + longer, radii["heel"] * 1.15, radii["heel"] + sole + 0.5 * outfit.heel)
    builder.ellipsoid(f"{side}_heel", heel + offset(foot, 0.0, 0.0, -0.5 * outfit.heel), foot, heel_half)
    builder.ellipsoid(f"{side}_ball", ball, foot, (radii["ball"], radii["ball"] * 1.6, radii["ball"] * 0.8 + sole))
    builder.ellipsoid(f"{side}_toe", toe, foot, (radii["toe"] + longer, radii["toe"] * 2.0, radii["toe"] + sole))
    builder.join(f"{side}_hip", "trunk1")
    builder.chain(*(f"{side}_{name}" for name in ("hip", "thigh", "knee", "calf", "cuff", "instep")))
    builder.join(f"{side}_heel", f"{side}_instep", f"{side}_ball")
    builder.join(f"{side}_ball", f"{side}_toe")


def _skirt(builder: FigureBuilder, body: Body, outfit: Outfit, skeleton: Skeleton) -> None:
    """Add the lower part of a shirt, skirt or coat: the convex hull of the hips and of a hem that moves with both legs.

    Above the knee, the cloth follows the thigh. Below the knee, it falls along the mean direction of thigh and shank,
    with half of their horizontal part.
    """
    # Length of the cloth, as a fraction of the thigh and a fraction of the shank.
    hem = outfit.hem.clamp(0.0, 2.0)
    upper, lower = hem.clamp(max=1.0)[:, None, None], (hem - 1.0).clamp(min=0.0)[:, None, None]
    # End of the cloth at each leg.
    hems = []
    for side in SIDES:
        hip, knee, ankle = (skeleton.joints[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
        share = (body.lengths["shank"] / body.lengths["thigh"])[:, None, None]
        fall = 0.5 * (ankle - knee) + 0.5 * (knee - hip) * share
        fall = torch.cat([fall[..., :2] * 0.5, fall[..., 2:]], -1)
        hems.append(hip + upper * (knee - hip) + lower * fall)
    # One flat ellipsoid per leg, joined with the hips.
    middle = (hems[0] + hems[1]) / 2
    radius = body.radii["thigh"] * (1.08 - 0.22 * hem.clamp(max=1.0)) + outfit.flare + 0.5 * outfit.trunk
    upright = torch.eye(3, dtype=middle.dtype, device=middle.device).expand(*middle.shape[:2], 3, 3)
    for side, point in zip(SIDES, hems, strict=True):
        builder.ellipsoid(f"{side}_hem", 0.9 * point + 0.1 * middle, upright, (radius, radius, 0.3 * radius))
    builder.join("trunk1", "left_hem", "right_hem", where=outfit.hem > 0)
    # A shirt falls from the hips, but a coat falls from the waist: join the coat also with the level above the hips.
    builder.join("trunk2", "trunk1", "left_hem", "right_hem", where=(outfit.hem > 0) & outfit.coat)
