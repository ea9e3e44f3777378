"""Find people in front of a fixed camera: detect the regions that are neither the learned background nor a shadow."""

import cv2
import numpy as np

from model.common.errors import UserError
from model.data.raw.video import Video
from model.silhouettes.detection import Detection

TRAINING_FRAMES = 150  # evenly spread over the video, so that the background is known before the second pass
UNKNOWN_COUNT_STEP = 5  # train with every fifth frame of a video that does not state its number of frames
HISTORY, THRESHOLD = 500, 16.0  # of MOG2: frames, and squared distance of another colour in standard deviations
BACKGROUND_SHARE = 0.6  # share of the frames; the most frequent colours of a pixel that fill this share are background
LEARNING_RATE = 0.0005  # of the second pass; low, so that a person who stands still remains visible
SHADOW, FOREGROUND = 127, 255  # values of MOG2's mask
GRID = 8  # pixels between the samples of the brightness
GAIN_RANGE = 0.7, 1.4  # least and largest factor that corrects the brightness of a frame
MIN_AREA = 60  # least number of white pixels of a region

# A moving camera changes most of the pixels, or shifts the picture as a whole.
MOVING_SHARE = 0.5  # largest median share of changed pixels, for any shift
SHIFTED_SHARE, SHIFT = 0.15, 0.01  # the median share of changed pixels and the median shift must not both be larger
SHIFT_WIDTH = 192  # width in pixels of the reduced picture with which the shift is measured, in picture widths


class BackgroundSegmenter:
    """Detect everything that moves in front of the fixed background of one video.

    The constructor reads the video once to train the background model.

    Raises:
        UserError: if the camera seems to move.
    """

    def __init__(self, video: Video):
        self.model = cv2.createBackgroundSubtractorMOG2(HISTORY, THRESHOLD, detectShadows=True)
        self.model.setBackgroundRatio(BACKGROUND_SHARE)
        self.reference: np.ndarray | None = None
        # Specks are removed with a square. Gaps in a person are mostly between body parts above each other, so they are
        # closed with kernels that are taller than wide.
        self.speck = cv2.getStructuringElement(cv2.MORPH_RECT, (3, 3))
        self.gap = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 5))
        self.reach = np.ones((max(3, video.size[0] // 64), 3), np.uint8)
        self._train(video)

    def _train(self, video: Video) -> None:
        shares, shifts, earlier = [], [], None
        small_size = (SHIFT_WIDTH, max(1, round(SHIFT_WIDTH * video.size[0] / video.size[1])))
        window = cv2.createHanningWindow(small_size, cv2.CV_32F)
        step = max(1, video.frame_count // TRAINING_FRAMES) if video.frame_count else UNKNOWN_COUNT_STEP
        for number, frame in enumerate(video.frames(step), 1):
            # All frames get the same weight. With the default rate of MOG2, the first frame would have a larger weight.
            mask = self.model.apply(self._steady(frame), learningRate=1 / min(number, HISTORY))
            shares.append(cv2.countNonZero(mask) / mask.size)
            grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
            small = cv2.resize(grey, small_size, interpolation=cv2.INTER_AREA).astype(np.float32)
            if earlier is not None:
                shifts.append(np.hypot(*cv2.phaseCorrelate(earlier, small, window)[0]) / SHIFT_WIDTH)
            earlier = small
        # Leave out the first fifth of the shares, because the model was still incomplete.
        share, shift = float(np.median(shares[len(shares) // 5 :])), float(np.median(shifts or [0]))
        if share > MOVING_SHARE or (share > SHIFTED_SHARE and shift > SHIFT):
            raise UserError(
                f"{video.path}: the camera seems to move, or the video has cuts ({share:.0%} of the pixels differ from "
                f"the background, and the picture shifts by {shift:.1%} of its width between samples); use one take of "
                "a fixed camera, or --segmenter maskrcnn with --weights"
            )

    def _steady(self, frame: np.ndarray) -> np.ndarray:
        """Scale the brightness of a frame to that of the first frame, to compensate lamps and automatic exposure."""
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
