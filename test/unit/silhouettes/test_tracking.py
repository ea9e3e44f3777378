"""Tests of tracking: each track shows one complete person alone."""

from itertools import permutations

import cv2
import numpy as np
import pytest

from model.data.raw.silhouette import fill_small_holes
from model.silhouettes import tracking
from model.silhouettes.detection import Detection
from model.silhouettes.tracking import Tracker

SIZE = (200, 400)  # height and width of the picture
PERSON = (80, 30)


def picture(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Return a picture with white boxes (column, row, width, height)."""
    image = np.zeros(SIZE, np.uint8)
    for x, y, width, height in boxes:
        image[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = 255
    return image


def detections(image: np.ndarray) -> list[Detection]:
    """Return the connected regions of a picture, as a segmenter finds them."""
    count, labels = cv2.connectedComponents(image)
    return [Detection.of(0, 0, np.where(labels == n, np.uint8(255), np.uint8(0)), SIZE) for n in range(1, count)]


def follow(frames: list[np.ndarray], min_frames: int = 10, min_height: int = 48) -> list[list[int]]:
    """Return the numbers of the frames of each track."""
    tracks = []
    tracker = Tracker(lambda d: b"x", lambda track: tracks.append(list(track.images)), min_frames, min_height)
    for number, frame in enumerate(frames):
        tracker.update(number, detections(frame))
    tracker.close()
    return tracks


def walk(x: float, y: int = 60, height: int = PERSON[0], width: int = PERSON[1]) -> tuple[int, int, int, int]:
    return (round(x), y, width, height)


def test_one_person_gives_one_track_of_all_frames():
    assert follow([picture(walk(20 + 4 * n)) for n in range(60)]) == [list(range(60))]


def test_a_short_gap_does_not_end_a_track_and_a_long_one_does():
    def with_gap(length):
        return follow([picture() if 30 <= n < 30 + length else picture(walk(20 + 4 * n)) for n in range(70)])

    assert with_gap(tracking.MAX_GAP) == [[*range(30), *range(30 + tracking.MAX_GAP, 70)]]
    assert with_gap(20) == [list(range(30)), list(range(50, 70))]


def test_frames_at_the_border_are_left_out():
    tracks = follow([picture(walk(-30 + 4 * n)) for n in range(60)])
    first_inside = next(n for n in range(60) if -30 + 4 * n >= 2)
    assert tracks == [list(range(first_inside, 60))]


def test_people_who_meet_are_cut_there():
    frames = [picture(walk(40 + 5 * n, 60), walk(340 - 5 * n, 62)) for n in range(60)]
    tracks = follow(frames)
    together = [n for n, frame in enumerate(frames) if len(detections(frame)) == 1]
    assert len(tracks) == 4
    assert not {n for track in tracks for n in track} & set(together)
    assert all(track[-1] < together[0] or track[0] > together[-1] for track in tracks)


def test_people_who_come_as_one_region_and_part():
    """The common region has the proportions of one person, so only the parting shows that there are two people."""
    frames = [
        picture(walk(40 + 3 * n, 60, 90, 26), walk(66 + 3 * n + (3 * (n - 40) if n > 40 else 0), 60, 90, 26))
        for n in range(80)
    ]
    tracks = follow(frames)
    assert tracks and all(track[0] >= 40 or track[-1] <= 41 for track in tracks)


def test_a_person_who_is_left_alone_by_a_crowd_is_followed_again():
    """The other person disappears behind something, so no second region shows that they part."""
    frames = [
        picture(walk(20 + 4 * n), *([walk(20 + 4 * n + max(28, 80 - 2 * n), 62)] if n < 52 else [])) for n in range(85)
    ]
    tracks = follow(frames)
    together = [n for n, frame in enumerate(frames[:52]) if len(detections(frame)) == 1]
    assert sum(track[-1] < together[0] for track in tracks) == 2, "both people before they meet"
    assert tracks[-1][0] <= 52 + tracking.MEMORY and tracks[-1][-1] == 84
    assert not {n for track in tracks for n in track} & set(together)


@pytest.mark.parametrize("apart", range(3, 10))
def test_a_loose_part_that_joins_the_person_is_not_another_person(apart):
    """For example, a shadow separates a foot from the person in some frames, and then the foot is connected again."""

    def part(n):
        return [(20 + n + (34 if n % 20 < 10 + apart else 30), 130, 12, 6)] if n % 20 > 9 else []

    frames = [picture(walk(20 + n), *part(n)) for n in range(60)]
    assert [len(detections(frame)) for frame in frames[9 : 11 + apart]] == [1, *[2] * apart, 1]
    (track,) = follow(frames)
    assert len(track) >= 42


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda n: walk(20 + 4 * n, 80, 40, 15), "too small"),
        (lambda n: walk(20 + 4 * n, 60, 80, 100), "as wide as a car"),
        (lambda n: walk(20 + 4 * n, 60, 80, 8), "as thin as a pole"),
        (lambda n: walk(20 + n % 2), "does not walk"),
    ],
)
def test_regions_that_are_not_a_walking_person_give_no_track(change, reason):
    assert follow([picture(change(n)) for n in range(60)]) == [], reason


def test_frames_in_which_a_part_of_the_person_is_hidden_are_left_out():
    frames = [picture(walk(20 + 4 * n, 60, 40 if n in (30, 31, 32) else 80)) for n in range(60)]
    assert follow(frames) == [[n for n in range(60) if n not in (30, 31, 32)]]


def test_assignment_is_the_best_of_all():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (4, 2))
    tracks = np.concatenate([corners, corners + 70], 1)
    boxes = tracks[rng.permutation(4)] + rng.uniform(-8, 8, (4, 4))

    def cost(track, box):
        low, high = np.maximum(track[:2], box[:2]), np.minimum(track[2:], box[2:])
        common = np.prod(np.maximum(high - low, 0))
        union = np.prod(track[2:] - track[:2]) + np.prod(box[2:] - box[:2]) - common
        distance = np.hypot(*((track[:2] + track[2:]) - (box[:2] + box[2:])) / 2)
        distance /= max(track[3] - track[1], box[3] - box[1])
        return 1 - common / union + (distance if distance <= tracking.MAX_DISTANCE else 1e3)

    best = min(permutations(range(4)), key=lambda order: sum(cost(tracks[i], boxes[j]) for i, j in enumerate(order)))
    assert tracking._assign(tracks, boxes) == {i: j for i, j in enumerate(best) if cost(tracks[i], boxes[j]) < 1e3}


def test_small_holes_are_filled_and_large_ones_are_kept():
    mask = np.full((60, 40), 255, np.uint8)
    mask[10:12, 10:12] = 0
    mask[30:50, 10:30] = 0
    mask[55:, 20] = 0  # open to the outside
    filled = fill_small_holes(mask)
    assert (filled[10:12, 10:12] == 255).all()
    assert (filled[30:50, 10:30] == 0).all() and (filled[55:, 20] == 0).all()
    assert ((filled != mask).sum()) == 4
