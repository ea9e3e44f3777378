"""Follow the detections of a video, and keep the frames that show one complete person alone.

Detections are assigned to the predicted boxes of the tracks. A track ends if the person is lost, or if people merge or
part. It also ends after several frames in a row without a usable silhouette. A silhouette is not usable if it is at the
border, too small or too wide, or if its height or area has suddenly changed.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from model.silhouettes.detection import Detection

MAX_GAP = 5  # largest number of frames in a row without a usable silhouette in one track
MAX_DISTANCE = 0.5  # between the centres of the predicted box and the detection, in heights of the taller box
COVERED = 0.5  # if more than this share of a box is within another box, two people have merged or parted
MEMORY = 15  # number of last detections with which the height and the area of a new detection are compared
HEIGHT_RANGE, AREA_RANGE = (0.85, 1.18), (0.65, 1.5)  # relative to the medians of the last detections
MAX_ASPECT = 0.95  # largest width / height of a usable silhouette
# Range of the median of width / height in the track of one person. For two people side by side, it is 0.8.
MIN_MEDIAN_ASPECT, MAX_MEDIAN_ASPECT = 0.15, 0.7
MIN_WALK = 0.5  # least distance that a person walks along a row or column, in heights of the person
PART_AREA = 0.4  # share of the area of a track; a larger region that joins or leaves the track is another person


@dataclass
class Track:
    """One person, or several people who cannot be separated.

    Attributes:
        box: box of the last detection, [4].
        area: area of the last detection in pixels.
        crowd: whether the track shows several people.
        velocity: columns and rows per frame, [2].
        missed: number of frames since the last detection.
        unusable: number of frames since the last usable silhouette.
        images: encoded usable silhouettes by the number of the frame.
        boxes: boxes of the usable silhouettes, [4] each.
        recent: heights and areas of the last detections.
    """

    box: np.ndarray
    area: int
    crowd: bool = False
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))
    missed: int = 0
    unusable: int = 0
    images: dict[int, bytes] = field(default_factory=dict)
    boxes: list[np.ndarray] = field(default_factory=list)
    recent: deque = field(default_factory=lambda: deque(maxlen=MEMORY))

    def predicted(self) -> np.ndarray:
        return self.box + np.tile(self.velocity, 2) * (self.missed + 1)

    def move(self, detection: Detection) -> None:
        step = (_centre(detection.box) - _centre(self.box)) / (self.missed + 1)
        self.velocity = 0.7 * self.velocity + 0.3 * step
        self.box, self.area, self.missed = detection.box, detection.area, 0

    def usual_area(self) -> float:
        return float(np.median(np.array(self.recent)[:, 1])) if self.recent else self.area

    def has_shrunk(self) -> bool:
        """Return whether the area has dropped because people left the crowd. Perspective changes it more slowly."""
        areas, third = np.array(self.recent)[:, 1], MEMORY // 3
        return len(areas) == MEMORY and np.median(areas[-third:]) < AREA_RANGE[0] * np.median(areas[:third])

    def is_person(self, min_frames: int) -> bool:
        """Return whether the track has enough frames, walks, and has the proportions of one person."""
        if len(self.images) < min_frames:
            return False
        boxes = np.array(self.boxes)
        widths, heights = (boxes[:, 2:] - boxes[:, :2]).T
        walk = np.ptp(_centre(boxes), axis=0).max()
        straight = MIN_MEDIAN_ASPECT <= np.median(widths / heights) <= MAX_MEDIAN_ASPECT
        return bool(straight and walk >= MIN_WALK * np.median(heights))


class Tracker:
    """Follow detections frame by frame.

    Args:
        encode: function that returns the content of the image file of a detection.
        finished: function that is called with the track of each person when the track ends.
        min_frames: least number of usable silhouettes of a track.
        min_height: least height of a usable silhouette in pixels.
    """

    def __init__(
        self, encode: Callable[[Detection], bytes], finished: Callable[[Track], None], min_frames: int, min_height: int
    ):
        self.encode, self.finished, self.min_frames, self.min_height = encode, finished, min_frames, min_height
        self.tracks: list[Track] = []

    def update(self, number: int, detections: list[Detection]) -> None:
        """Add the detections of frame `number`."""
        boxes = np.array([d.box for d in detections]).reshape(-1, 4)
        predicted = np.array([t.predicted() for t in self.tracks]).reshape(-1, 4)
        matches = _assign(predicted, boxes)
        self._cut_merged_and_parted(matches, _overlap(predicted, boxes), detections)
        for index, track in enumerate(self.tracks):
            if index in matches:
                track.move(detections[matches[index]])
                self._add_silhouette(track, number, detections[matches[index]])
            else:
                track.missed += 1
                track.unusable += 1
        self.tracks = [self._cut(t) if t.unusable > MAX_GAP and not t.crowd else t for t in self.tracks]
        self.tracks = [t for t in self.tracks if t.missed <= MAX_GAP]
        for index, detection in enumerate(detections):
            if index not in matches.values():
                self.tracks.append(Track(detection.box, detection.area))
                self._add_silhouette(self.tracks[-1], number, detection)

    def close(self) -> None:
        """End all tracks after the last frame."""
        while self.tracks:
            self._cut(self.tracks.pop(0))

    def _cut(self, track: Track, crowd: bool | None = None) -> Track:
        """End a track, and return a new track at the same place."""
        if track.is_person(self.min_frames):
            self.finished(track)
        return Track(track.box, track.area, track.crowd if crowd is None else crowd, track.velocity, track.missed)

    def _cut_merged_and_parted(self, matches: dict[int, int], overlap: np.ndarray, detections: list[Detection]) -> None:
        areas = _areas(np.array([t.box for t in self.tracks]).reshape(-1, 4))
        large = [track.usual_area() for track in self.tracks]
        for index, match in matches.items():
            # Merged: the detection of this track also covers another track that got no detection.
            others = [
                other for other, covered in enumerate(overlap[:, match] / np.maximum(areas, 1))
                if other not in matches and covered > COVERED and self.tracks[other].missed == 0
                and large[other] >= PART_AREA * large[index]
            ]  # fmt: skip
            for other in others:
                self.tracks[other] = self._cut(self.tracks[other])
                self.tracks[other].missed = MAX_GAP + 1
            # Parted: a detection without a track is within the predicted box of this track.
            parted = any(
                i not in matches.values() and d.area >= PART_AREA * large[index]
                and overlap[index, i] > COVERED * d.mask.size for i, d in enumerate(detections)
            )  # fmt: skip
            if others or parted:
                self.tracks[index] = self._cut(self.tracks[index], crowd=bool(others))

    def _add_silhouette(self, track: Track, number: int, detection: Detection) -> None:
        """Keep the silhouette if it shows one complete person."""
        height, width = detection.mask.shape
        track.recent.append((height, detection.area))
        if track.crowd and track.has_shrunk():
            track.crowd, track.recent = False, deque([(height, detection.area)], MEMORY)
        usual_height, usual_area = np.median(np.array(track.recent), axis=0)
        if (
            not (track.crowd or detection.at_border)
            and self.min_height <= height and width <= MAX_ASPECT * height
            and HEIGHT_RANGE[0] <= height / usual_height <= HEIGHT_RANGE[1]
            and AREA_RANGE[0] <= detection.area / usual_area <= AREA_RANGE[1]
        ):  # fmt: skip
            track.unusable = 0
            track.images[number] = self.encode(detection)
            track.boxes.append(detection.box)
        else:
            track.unusable += 1


def _centre(box: np.ndarray) -> np.ndarray:
    return (box[..., :2] + box[..., 2:]) / 2


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the common area of each pair of boxes: [n, 4] and [m, 4] give [n, m]."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    return np.prod(np.maximum(high - low, 0), axis=2)


def _assign(predicted: np.ndarray, boxes: np.ndarray) -> dict[int, int]:
    """Return the index of the detection of each track that gets one, with the least total cost.

    The cost of a track and a detection is small if their boxes overlap and are close together.
    """
    if not len(predicted) or not len(boxes):
        return {}
    overlap = _overlap(predicted, boxes)
    union = _areas(predicted)[:, None] + _areas(boxes)[None] - overlap
    distance = np.linalg.norm(_centre(predicted)[:, None] - _centre(boxes)[None], axis=2)
    heights = [x[:, 3] - x[:, 1] for x in (predicted, boxes)]
    distance /= np.maximum(heights[0][:, None], heights[1][None])
    cost = 1 - overlap / np.maximum(union, 1) + distance
    cost[(overlap == 0) | (distance > MAX_DISTANCE)] = 1e3
    return {int(t): int(d) for t, d in zip(*linear_sum_assignment(cost), strict=True) if cost[t, d] < 1e3}
