"""Flesh and clothes on the skeleton: the ellipsoids and hulls that make a dressed person of joints."""

from __future__ import annotations

import torch

from model.data.synthetic.body import TRUNK_LEVELS, Body
from model.data.synthetic.clothing import Outfit
from model.data.synthetic.figure import Figure, FigureBuilder
from model.data.synthetic.luggage import carry
from model.data.synthetic.skeleton import SIDES, Skeleton, place


def dress(body: Body, outfit: Outfit, skeleton: Skeleton) -> Figure:
    """Put flesh, clothes and luggage on every frame of a walk."""
    builder = FigureBuilder()
    _trunk(builder, body, outfit, skeleton)
    _head(builder, body, outfit, skeleton)
    for side in SIDES:
        _arm(builder, body, outfit, skeleton, side)
        _leg(builder, body, outfit, skeleton, side)
    if outfit.hem > 0:
        _skirt(builder, body, outfit, skeleton)
    if outfit.bag is not None:
        carry(builder, body, outfit.bag, skeleton)
    return builder.figure()


def _trunk(builder: FigureBuilder, body: Body, outfit: Outfit, skeleton: Skeleton) -> None:
    names = [f"trunk{level}" for level in range(len(TRUNK_LEVELS))]
    for level, name in enumerate(names):
        frame = skeleton.trunk_frames[:, level]
        thin = (0.030 if level < 6 else 0.012) * body.stature
        cloth = outfit.trunk if level < len(names) - 2 else outfit.trunk * 0.6
        half = (body.trunk_depth[level] + cloth, body.trunk_width[level] + cloth, thin)
        builder.ellipsoid(name, skeleton.trunk[:, level] + place(frame, body.trunk_shift[level]), frame, half)
    builder.chain(*names)


def _head(builder: FigureBuilder, body: Body, outfit: Outfit, skeleton: Skeleton) -> None:
    head, frame, hair = skeleton.joints["head"], skeleton.frames["head"], body.hair
    depth, width, height = body.head
    builder.ball("neck", skeleton.joints["neck"], body.radii["neck"] + outfit.collar)
    builder.ball("throat", head + place(frame, -0.15 * depth, 0, -0.55 * height), body.radii["neck"] * 0.97)
    builder.ellipsoid(
        "face",
        head + place(frame, 0.08 * depth, 0, -0.10 * height),
        frame,
        (0.86 * depth, 0.86 * width, 0.88 * height),
    )
    builder.ellipsoid(
        "skull",
        head + place(frame, -0.06 * depth, 0, 0.22 * height),
        frame,
        (0.94 * depth, width, 0.78 * height),
    )
    builder.ball("chin", head + place(frame, 0.55 * depth, 0, -0.72 * height), 0.28 * height)
    thick = hair.thickness
    builder.ellipsoid(
        "hair",
        head + place(frame, -0.14 * depth, 0, 0.26 * height),
        frame,
        (0.90 * depth + thick, width + 0.8 * thick, 0.78 * height + thick),
    )
    builder.chain("trunk8", "neck", "throat", "face", "chin")
    builder.join("face", "skull", "hair")
    if outfit.collar:
        builder.ball("collar", skeleton.joints["neck"] + place(frame, 0, 0, 0.035), body.radii["neck"] + outfit.collar)
        builder.join("neck", "collar")
    if hair.tail:
        down = frame.new_tensor([0.0, 0.0, -1.0])
        builder.ellipsoid(
            "tail",
            head + place(frame, -0.75 * depth, 0, -0.1 * height) + down * hair.tail,
            frame,
            (0.025, hair.tail_width, 0.03),
        )
        builder.join("hair", "tail")
    if hair.bun:
        builder.ball("bun", head + place(frame, -1.02 * depth, 0, 0.12 * height), hair.bun)
        builder.join("bun")


def _arm(builder: FigureBuilder, body: Body, outfit: Outfit, skeleton: Skeleton, side: str) -> None:
    shoulder, elbow, wrist = (skeleton.joints[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
    radii, sleeve = body.radii, outfit.sleeve
    builder.ball(f"{side}_shoulder", shoulder, radii["shoulder"] + sleeve)
    builder.ball(f"{side}_biceps", shoulder + 0.45 * (elbow - shoulder), radii["biceps"] + sleeve)
    builder.ball(f"{side}_elbow", elbow, radii["elbow"] + sleeve)
    builder.ball(f"{side}_forearm", elbow + 0.28 * (wrist - elbow), radii["forearm"] + sleeve)
    builder.ball(f"{side}_wrist", wrist, radii["wrist"] + sleeve)
    builder.ball(f"{side}_hand", skeleton.joints[f"{side}_hand"], radii["hand"])
    builder.ball(f"{side}_fingers", skeleton.joints[f"{side}_fingers"], radii["fingers"])
    builder.join(f"{side}_shoulder", "trunk7", "trunk6")
    builder.join(f"{side}_shoulder", "neck", "trunk7")  # the slope from the neck to the shoulder
    builder.chain(
        *(f"{side}_{name}" for name in ("shoulder", "biceps", "elbow", "forearm", "wrist", "hand", "fingers"))
    )


def _leg(builder: FigureBuilder, body: Body, outfit: Outfit, skeleton: Skeleton, side: str) -> None:
    hip, knee, ankle, heel, ball, toe = (
        skeleton.joints[f"{side}_{name}"] for name in ("hip", "knee", "ankle", "heel", "ball", "toe")
    )
    radii, foot = body.radii, skeleton.frames[f"{side}_foot"]
    skirted = outfit.hem > 0.5  # bare or stockinged legs below a skirt, trousers below a coat keep their cuff
    down = (ankle - knee) / (ankle - knee).norm(dim=-1, keepdim=True)
    back = torch.stack([down[:, 2], torch.zeros_like(down[:, 0]), -down[:, 0]], -1)
    builder.ball(f"{side}_hip", hip, radii["hip"] + outfit.thigh)
    builder.ball(f"{side}_thigh", hip + 0.45 * (knee - hip), radii["thigh"] + outfit.thigh)
    builder.ball(f"{side}_knee", knee, radii["knee"] + (0.002 if skirted else outfit.knee))
    builder.ball(
        f"{side}_calf",
        knee + 0.30 * (ankle - knee) + back * radii["calf"] * 0.22,
        radii["calf"] + outfit.knee * 0.6,
    )
    builder.ball(f"{side}_cuff", ankle - 0.02 * down, radii["ankle"] + outfit.cuff)
    builder.ball(f"{side}_instep", ankle + place(foot, 0.02, 0, -0.01), radii["ankle"] * 0.9)
    builder.ellipsoid(f"{side}_heel", heel, foot, (radii["heel"], radii["heel"] * 1.15, radii["heel"] + outfit.sole))
    builder.ellipsoid(f"{side}_ball", ball, foot, (radii["ball"], radii["ball"] * 1.9, radii["ball"] + outfit.sole))
    builder.ellipsoid(f"{side}_toe", toe, foot, (radii["toe"] * 1.2, radii["toe"] * 2.2, radii["toe"] + outfit.sole))
    builder.join(f"{side}_hip", "trunk1")
    builder.chain(*(f"{side}_{name}" for name in ("hip", "thigh", "knee", "calf", "cuff", "instep")))
    builder.join(f"{side}_heel", f"{side}_instep", f"{side}_ball")
    builder.join(f"{side}_ball", f"{side}_toe")


def _skirt(builder: FigureBuilder, body: Body, outfit: Outfit, skeleton: Skeleton) -> None:
    """A shirt tail, skirt or coat: the hull of the hips and of a hem that both legs push about.

    Cloth follows the thighs and lags behind the shanks: below the knee it hangs half way to the vertical.
    """
    hems = []
    for side in SIDES:
        hip, knee, ankle = (skeleton.joints[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
        point = hip + min(outfit.hem, 1.0) * (knee - hip)
        if outfit.hem > 1:
            fall = 0.5 * (ankle - knee) + 0.5 * (knee - hip) * (body.lengths["shank"] / body.lengths["thigh"])
            fall = torch.cat([fall[:, :2] * 0.5, fall[:, 2:]], -1)
            point = point + (outfit.hem - 1) * fall
        hems.append(point)
    middle = (hems[0] + hems[1]) / 2
    radius = body.radii["thigh"] * (1.08 - 0.22 * min(outfit.hem, 1.0)) + outfit.flare + 0.5 * outfit.trunk
    upright = torch.eye(3, dtype=middle.dtype, device=middle.device).expand(len(middle), 3, 3)
    for side, point in zip(SIDES, hems, strict=True):
        builder.ellipsoid(f"{side}_hem", 0.9 * point + 0.1 * middle, upright, (radius, radius, 0.3 * radius))
    builder.join("trunk1", "left_hem", "right_hem")
    if outfit.collar:  # a coat falls from the waist, a shirt from the hips
        builder.join("trunk2", "trunk1", "left_hem", "right_hem")
