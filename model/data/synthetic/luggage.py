"""Bags on a figure: on the shoulder, in the hand, on the back."""

from __future__ import annotations

from torch import Tensor

from model.data.synthetic.body import TRUNK_LEVELS, Body
from model.data.synthetic.clothing import Bag
from model.data.synthetic.figure import FigureBuilder
from model.data.synthetic.skeleton import Skeleton, place


def carry(builder: FigureBuilder, body: Body, bag: Bag, skeleton: Skeleton) -> None:
    """Add the bag, and what it hangs from, to the figure."""
    kinds = {"shoulder": _shoulder_bag, "hand": _hand_bag, "backpack": _backpack}
    kinds[bag.kind](builder, body, bag, skeleton)


def _box(builder: FigureBuilder, centre: Tensor, frame: Tensor, bag: Bag, flat: int) -> None:
    """A bag as the hull of four ellipsoids in its corners; `flat` is the axis of `frame` it is thin along."""
    length, height, half = bag.size
    corner = [0.045, 0.045, 0.05]
    corner[flat] = half
    along = length / 2 - corner[1 - flat]
    for name, side, up in (("0", -1, -1), ("1", 1, -1), ("2", -1, 1), ("3", 1, 1)):
        shift = (side * along, 0.0) if flat == 1 else (0.0, side * along)
        point = centre + place(frame, shift[0], shift[1], up * (height / 2 - corner[2]))
        builder.ellipsoid(f"bag{name}", point, frame, tuple(corner))
    builder.join("bag0", "bag1", "bag2", "bag3")


def _shoulder_bag(builder: FigureBuilder, body: Body, bag: Bag, skeleton: Skeleton) -> None:
    """Hangs beside the hip on a strap over the shoulder of its side."""
    sign, side = (1, "left") if bag.left else (-1, "right")
    frame = skeleton.trunk_frames[:, 2]
    shoulder = skeleton.joints[f"{side}_shoulder"] + place(skeleton.trunk_frames[:, -2], 0, -sign * 0.03, 0.03)
    outside = sign * (body.trunk_width[1] + bag.size[2] - body.shoulder_half + 0.02)
    top = shoulder + place(frame, -0.03, outside, -bag.drop)
    _box(builder, top + place(frame, 0, 0, -bag.size[1] / 2), frame, bag, flat=1)
    builder.ball("strap_top", shoulder, 0.012)
    builder.ball("strap_end", top, 0.012)
    builder.join("strap_top", "strap_end")


def _hand_bag(builder: FigureBuilder, body: Body, bag: Bag, skeleton: Skeleton) -> None:
    """Hangs from the fingers; its weight keeps it upright whatever the hand does."""
    side = "left" if bag.left else "right"
    frame = skeleton.frames["head"].clone()
    hand = skeleton.joints[f"{side}_hand"]
    down = hand.new_tensor([0.0, 0.0, -1.0])
    _box(builder, hand + down * (bag.drop + bag.size[1] / 2), frame, bag, flat=1)
    builder.ball("handle", hand, 0.018)
    builder.join("handle", "bag2", "bag3")


def _backpack(builder: FigureBuilder, body: Body, bag: Bag, skeleton: Skeleton) -> None:
    """Sits on the back between shoulders and waist; its straps thicken the shoulders."""
    frame, chest = skeleton.trunk_frames[:, 5], skeleton.trunk[:, 5]
    behind = -(0.72 * body.trunk_depth[5] + 0.85 * bag.size[2])
    up = body.lengths["trunk"] * (TRUNK_LEVELS[7] - TRUNK_LEVELS[5]) - bag.drop - bag.size[1] / 2
    _box(builder, chest + place(frame, behind, 0, up), frame, bag, flat=0)
    for side, sign in (("left", 1), ("right", -1)):
        top = skeleton.trunk[:, 7] + place(frame, 0.0, sign * 0.6 * body.shoulder_half, 0.03)
        builder.ball(f"{side}_strap", top, body.trunk_depth[7] * 0.8)
        builder.join(f"{side}_strap", f"bag{2 if sign < 0 else 3}")
