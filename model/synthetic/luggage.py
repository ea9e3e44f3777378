"""Parts of bags on the shoulder, in the hand and on the back; `Figure.present` selects the bag of each take."""

import torch
from torch import Tensor

from model.synthetic.body import TRUNK_LEVELS, Body
from model.synthetic.clothing import BACKPACK, HAND_BAG, SHOULDER_BAG, Bag
from model.synthetic.figure import FigureBuilder
from model.synthetic.skeleton import Skeleton, offset


def add_bag_parts(builder: FigureBuilder, body: Body, bag: Bag, skeleton: Skeleton) -> None:
    """Add all bags with their straps and handles; each is present in the takes that have it."""
    for bag_type, add in ((SHOULDER_BAG, _shoulder_bag), (HAND_BAG, _hand_bag), (BACKPACK, _backpack)):
        add(builder, body, bag, skeleton, bag.bag_type == bag_type)


def _box(builder: FigureBuilder, name: str, centre: Tensor, frame: Tensor, bag: Bag, flat: int, where: Tensor) -> None:
    """Add a bag as the hull of four ellipsoids in its corners. `flat` is the axis of `frame` along which it is thin."""
    length, height, half = bag.size.unbind(1)
    corner = [0.045, 0.045, 0.05]
    corner[flat] = half
    along = length / 2 - 0.045
    for number, (side, up) in enumerate(((-1, -1), (1, -1), (-1, 1), (1, 1))):
        shift = {1 - flat: side * along}
        point = centre + offset(frame, shift.get(0, 0.0), shift.get(1, 0.0), up * (height / 2 - corner[2]))
        builder.ellipsoid(f"{name}{number}", point, frame, tuple(corner))
    builder.join(*(f"{name}{number}" for number in range(4)), where=where)


def _carrying_joint(bag: Bag, skeleton: Skeleton, joint: str) -> Tensor:
    """Return the joint [b, s, 3] on the side that carries the bag."""
    left, right = skeleton.joints[f"left_{joint}"], skeleton.joints[f"right_{joint}"]
    return torch.where(bag.left[:, None, None], left, right)


def _shoulder_bag(builder: FigureBuilder, body: Body, bag: Bag, skeleton: Skeleton, where: Tensor) -> None:
    """Add a bag that hangs next to the hip, on a strap over the shoulder of the same side."""
    sign = bag.left.float() * 2 - 1
    frame = skeleton.trunk_frames[:, :, 2]
    over = offset(skeleton.trunk_frames[:, :, -2], 0.0, sign * -0.03, 0.03)
    shoulder = _carrying_joint(bag, skeleton, "shoulder") + over
    outside = sign * (body.trunk_width[:, 1] + bag.size[:, 2] - body.shoulder_half + 0.02)
    top = shoulder + offset(frame, -0.03, outside, -bag.drop)
    _box(builder, "side_bag", top + offset(frame, 0.0, 0.0, -bag.size[:, 1] / 2), frame, bag, 1, where)
    builder.ball("strap_top", shoulder, 0.012)
    builder.ball("strap_end", top, 0.012)
    builder.join("strap_top", "strap_end", where=where)


def _hand_bag(builder: FigureBuilder, body: Body, bag: Bag, skeleton: Skeleton, where: Tensor) -> None:
    """Add a bag that hangs from the hand. Its weight keeps it upright in every position of the hand."""
    hand = _carrying_joint(bag, skeleton, "hand")
    frame = torch.eye(3, dtype=hand.dtype, device=hand.device).expand(*hand.shape[:2], 3, 3)
    down = hand.new_tensor([0.0, 0.0, -1.0])
    _box(builder, "hand_bag", hand + down * (bag.drop + bag.size[:, 1] / 2)[:, None, None], frame, bag, 1, where)
    builder.ball("handle", hand, 0.018)
    builder.join("handle", "hand_bag2", "hand_bag3", where=where)


def _backpack(builder: FigureBuilder, body: Body, bag: Bag, skeleton: Skeleton, where: Tensor) -> None:
    """Add a backpack between shoulders and waist. Its straps thicken the shoulders."""
    frame, chest = skeleton.trunk_frames[:, :, 5], skeleton.trunk[:, :, 5]
    behind = -(0.72 * body.trunk_depth[:, 5] + 0.85 * bag.size[:, 2])
    up = body.lengths["trunk"] * (TRUNK_LEVELS[7] - TRUNK_LEVELS[5]) - bag.drop - bag.size[:, 1] / 2
    _box(builder, "backpack", chest + offset(frame, behind, 0.0, up), frame, bag, 0, where)
    for side, sign in (("left", 1), ("right", -1)):
        top = skeleton.trunk[:, :, 7] + offset(frame, 0.0, sign * 0.6 * body.shoulder_half, 0.03)
        builder.ball(f"{side}_strap", top, body.trunk_depth[:, 7] * 0.8)
        builder.join(f"{side}_strap", f"backpack{2 if sign < 0 else 3}", where=where)
