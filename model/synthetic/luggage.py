"""Draw the bags of condition BG, adapt the gait to them, and add them to the figure.

Shapes: b takes. Lengths are in metres. As in `clothing`, sizes are our own judgement.
"""

from collections import namedtuple

import torch
from torch import Tensor

from model.common.counter_random import Draws
from model.synthetic.body import TRUNK_LEVELS, Body
from model.synthetic.figure import FigureBuilder
from model.synthetic.gait import Gait, change_where
from model.synthetic.skeleton import Skeleton, offset

BAG_TYPES = ("shoulder", "hand", "backpack")
NO_BAG, SHOULDER_BAG, HAND_BAG, BACKPACK = -1, 0, 1, 2  # indices into BAG_TYPES
# Ranges for each of BAG_TYPES; `swing` is the fraction of the arm swing that remains when the arm carries the bag.
BAGS = {
    "length": ((0.20, 0.34), (0.20, 0.36), (0.24, 0.32)),
    "height": ((0.16, 0.28), (0.18, 0.36), (0.32, 0.46)),
    "half thickness": ((0.030, 0.060), (0.025, 0.055), (0.045, 0.085)),
    "drop": ((0.34, 0.54), (0.04, 0.14), (0.02, 0.05)),
    "swing": ((0.45, 0.9), (0.25, 0.6), (0.75, 1.0)),
}


class Bag(namedtuple("Bag", "bag_type left size drop")):
    """Bags of b takes.

    bag_type    int64 [b], index into BAG_TYPES, or NO_BAG
    left        bool [b], whether a shoulder bag or hand bag is on the left side
    size        [b, 3], length, height and half thickness
    drop        [b], distance down to the top of the bag, from the shoulder joint, the hand or (backpack) the shoulders
    """


def draw_bags(draws: Draws, gait: Gait, where: Tensor) -> tuple[Bag, Gait]:
    """Draw bags for the takes that `where` (bool [b]) selects, and adapt the gait to the bags.

    `draws` are random numbers of the takes, so two takes of a subject may have different bags.
    """
    bag_type, left = draws.choice("bag kind", len(BAG_TYPES)), draws.chance("bag left", 0.5)
    shoulder, hand, back = (bag_type == one for one in (SHOULDER_BAG, HAND_BAG, BACKPACK))

    def size(name: str) -> Tensor:
        low, high = (gait.cadence.new_tensor(ends)[bag_type] for ends in zip(*BAGS[name], strict=True))
        return draws.uniform(f"bag {name}", low, high)

    sizes = torch.stack([size(name) for name in ("length", "height", "half thickness")], -1)
    bag = Bag(torch.where(where, bag_type, NO_BAG), left, sizes, size("drop"))
    # The arm on the side of the bag swings less; with a backpack, both arms swing less. A hand bag straightens the
    # elbow.
    busy = torch.stack([back | left, back | ~left], -1)
    outward = torch.where(shoulder, 4.0, torch.where(hand, -1.0, 1.0))[:, None]
    straighten = torch.where(hand, 0.4, 1.0)[:, None]
    gait = change_where(
        gait,
        busy & where[:, None],
        arm_swing=gait.arm_swing * size("swing")[:, None],
        arm_abduction=gait.arm_abduction + outward,
        elbow=gait.elbow * straighten,
        elbow_swing=gait.elbow_swing * straighten,
    )
    # People with a backpack lean forward. People with any other bag raise the shoulder on the side of the bag.
    lean = gait.lean + torch.where(back, 2.5, 0.0)
    thorax_roll = gait.thorax_roll + torch.where(back, 0.0, torch.where(left, 1.5, -1.5))
    return bag, change_where(gait, where, lean=lean, thorax_roll=thorax_roll)


def add_bag_parts(builder: FigureBuilder, body: Body, bag: Bag, skeleton: Skeleton) -> None:
    """Add all types of bags with straps and handles to the figure. Each take shows only its own type of bag."""
    for bag_type, add in ((SHOULDER_BAG, _shoulder_bag), (HAND_BAG, _hand_bag), (BACKPACK, _backpack)):
        add(builder, body, bag, skeleton, bag.bag_type == bag_type)


def _box(builder: FigureBuilder, name: str, centre: Tensor, frame: Tensor, bag: Bag, flat: int, where: Tensor) -> None:
    """Add a bag as the convex hull of ellipsoids at its four corners.

    `flat` is the column of `frame` along which the bag is thin: 0 (forward) or 1 (left).
    """
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
    """Return the position [b, s, 3] of a joint on the side that carries the bag."""
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
    """Add a backpack on the back between shoulders and waist. Its straps thicken the shoulders."""
    frame, chest = skeleton.trunk_frames[:, :, 5], skeleton.trunk[:, :, 5]
    behind = -(0.72 * body.trunk_depth[:, 5] + 0.85 * bag.size[:, 2])
    up = body.lengths["trunk"] * (TRUNK_LEVELS[7] - TRUNK_LEVELS[5]) - bag.drop - bag.size[:, 1] / 2
    _box(builder, "backpack", chest + offset(frame, behind, 0.0, up), frame, bag, 0, where)
    for side, sign in (("left", 1), ("right", -1)):
        top = skeleton.trunk[:, :, 7] + offset(frame, 0.0, sign * 0.6 * body.shoulder_half, 0.03)
        builder.ball(f"{side}_strap", top, body.trunk_depth[:, 7] * 0.8)
        builder.join(f"{side}_strap", f"backpack{2 if sign < 0 else 3}", where=where)
