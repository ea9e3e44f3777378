"""People in front of a fixed camera: a background model without shadows, and the regions that differ from it."""

import cv2
import numpy as np

from model.common.errors import UserError
from model.data.raw.video import Video
from model.silhouettes.detection import Detection

TRAINING_FRAMES = 150  # evenly spread over the video, so that the background is known from the first frame
UNKNOWN_COUNT_STEP = 5  # every fifth frame of a video that does not state their number
HISTORY, THRESHOLD = 500, 16.0  # MOG2: frames, and squared distance to the background in standard deviations
BACKGROUND_SHARE = 0.6  # of the frames: a colour that a pixel has less often is in front of the background
LEARNING_RATE = 0.0005  # during the second pass, slow enough that a person who stands still remains visible
SHADOW, FOREGROUND = 127, 255  # values of MOG2's mask
GRID = 8  # pixels between the samples of the brightness
GAIN_RANGE = 0.7, 1.4  # of the correction of the brightness
MIN_AREA = 60  # pixels of a region

# A moving camera changes most of the picture, or shifts it as a whole.
MOVING_SHARE = 0.5  # median share of changed pixels
SHIFTED_SHARE, SHIFT = 0.15, 0.01  # median share of changed pixels and median shift, in picture widths
SHIFT_WIDTH = 192  # pixels of the reduced picture for the shift


class BackgroundSegmenter:
    """Detect everything that moves in front of the fixed background of one video.

    The first pass over the video trains the model. Raises UserError if the camera seems to move.
    """

    def __init__(self, video: Video):
        self.model = cv2.createBackgroundSubtractorMOG2(HISTORY, THRESHOLD, detectShadows=True)
        self.model.setBackgroundRatio(BACKGROUND_SHARE)
        self.reference: np.ndarray | None = None
        # A cross for specks, and tall kernels, because gaps in a person are mostly between body parts above each other.
        self.speck = cv2.getStructuringElement(cv2.MORPH_RECT, (3, 3))
        self.gap = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 5))
        self.reach = np.ones((max(3, video.size[0] // 64), 3), np.uint8)
        self._train(video)

    def _train(self, video: Video) -> None:
        shares, shifts, before = [], [], None
        small_size = (SHIFT_WIDTH, max(1, round(SHIFT_WIDTH * video.size[0] / video.size[1])))
        window = cv2.createHanningWindow(small_size, cv2.CV_32F)
        step = max(1, video.frame_count // TRAINING_FRAMES) if video.frame_count else UNKNOWN_COUNT_STEP
        for number, frame in enumerate(video.frames(step), 1):
            # All frames get the same weight. MOG2's own rate gives more to the first one.
            mask = self.model.apply(self._steady(frame), learningRate=1 / min(number, HISTORY))
            shares.append(cv2.countNonZero(mask) / mask.size)
            small = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), small_size, interpolation=cv2.INTER_AREA)
            before, small = small.astype(np.float32), before
            shifts.append(0 if small is None else np.hypot(*cv2.phaseCorrelate(small, before, window)[0]) / SHIFT_WIDTH)
        # The first frames differ from an empty model, and the first one has no shift.
        share, shift = float(np.median(shares[len(shares) // 5 :])), float(np.median(shifts[1:] or [0]))
        if share > MOVING_SHARE or (share > SHIFTED_SHARE and shift > SHIFT):
            raise UserError(
                f"{video.path}: the camera seems to move, or the video has cuts ({share:.0%} of the pixels differ from "
                f"the background, and the picture shifts by {shift:.1%} of its width between samples); use one take of "
                "a fixed camera, or --segmenter maskrcnn with --weights"
            )

    def _steady(self, frame: np.ndarray) -> np.ndarray:
        """Return the frame with the brightness of the first frame. Lamps and automatic exposure flicker."""
        grid = frame[::GRID, ::GRID].astype(np.float32) + 1
        self.reference = grid if self.reference is None else self.reference
        gain = float(np.clip(np.median(self.reference / grid), *GAIN_RANGE))
        return frame if abs(gain - 1) < 0.003 else cv2.convertScaleAbs(frame, alpha=gain)

    def __call__(self, frame: np.ndarray) -> list[Detection]:
        mask = self.model.apply(self._steady(frame), learningRate=LEARNING_RATE)
        mask = cv2.threshold(mask, SHADOW, FOREGROUND, cv2.THRESH_BINARY)[1]
        mask = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, self.speck), cv2.MORPH_CLOSE, self.gap)
        # Parts of a person that are close above each other get the same label.
        _, labels, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(mask, self.reach), ltype=cv2.CV_16U)
        found = []
        for number, (x, y, width, height, _) in enumerate(stats[1:], 1):
            part = np.s_[y : y + height, x : x + width]
            region = np.where(labels[part] == number, mask[part], np.uint8(0))
            if cv2.countNonZero(region) >= MIN_AREA:
                found.append(Detection.of(x, y, region, frame.shape[:2]))
        return found
