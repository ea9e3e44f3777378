"""Write the silhouettes of the people in a video: one sequence per track, TREE/<video>-<track>/<video>/<view>/*.png.

The folder of each sequence is written atomically. The record `TREE/.silhouettes/<video>.json` is written last, with a
description of the video and the settings. The next run skips the video if the description and the files are unchanged.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from model.common.cores import map_in_processes, stopped
from model.common.errors import UserError, counted
from model.common.files import atomic_folder, is_plain_name, os_errors_as_user_errors
from model.common.json_files import write_json
from model.common.lock import locked
from model.common.messages import progress_bar
from model.common.prefetch import prefetch
from model.common.schema import parse_checked
from model.data.raw.folders import VIDEO_RECORDS
from model.data.raw.silhouette import encode_png
from model.data.raw.video import Video
from model.silhouettes.detection import Detection
from model.silhouettes.preview import write_preview
from model.silhouettes.tracking import Track, Tracker

VERSION = 2  # raise it whenever the same video gives different silhouettes
COMPLETE = {"complete": True, "description": {}, "frames": int, "tracks": {str: int}}  # schema of a record
Segmenter = Callable[[np.ndarray], list[Detection]]


class Settings(NamedTuple):
    """Settings that the silhouettes depend on.

    Attributes:
        view: name of the folder of the view.
        min_frames: least number of frames of a sequence.
        min_height: least height of a silhouette in pixels.
        segmenter: name of the segmenter, and checksum of its weights.
    """

    view: str = "000"
    min_frames: int = 25
    min_height: int = 48
    segmenter: str = "background"


class Result(NamedTuple):
    """Result of one video.

    Attributes:
        tracks: number of frames of each sequence by the name of its track.
        frames: number of frames of the video.
        seconds: 0 for a video that was already complete.
    """

    tracks: dict[str, int]
    frames: int
    seconds: float


def extract_all(videos: Sequence[Video], workers: int, **options) -> Iterator[Result]:
    """Yield the result of `extract` for each video. Each worker processes one video at a time, with the same result."""
    work = partial(extract, **options)
    # The processes share the cores.
    return map_in_processes(work, videos, min(workers, len(videos)), initializer=partial(cv2.setNumThreads, 1))


def extract(
    video: Video, tree: Path, settings: Settings, make_segmenter: Callable[[Video], Segmenter],
    previews: dict[str, Path] | None = None,
) -> Result:  # fmt: skip
    """Write the sequences of one video if they are not complete yet, then its preview if `previews` is given.

    Args:
        previews: file of the preview by the name of the video.

    Raises:
        UserError: if nobody moves, the camera moves, or the tree cannot be written.
    """
    if not is_plain_name(video.name):
        raise UserError(f"{video.path}: the name of a video must be suitable as the name of a folder; rename the video")

    def folder(track: str) -> Path:
        return tree / track / video.name / settings.view

    record = tree / VIDEO_RECORDS / f"{video.name}.json"
    with locked(record.with_suffix(".lock"), tree):
        files = sorted(video.path.iterdir()) if video.path.is_dir() else [video.path]
        stamps = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        source = {"version": VERSION, "source": stamps, "settings": settings._asdict()}
        start, result = time.perf_counter(), _read_complete(record, source, folder)
        if result is None:
            with os_errors_as_user_errors(tree):
                _remove_earlier(tree, video, record.exists())
                # Marks the tracks as written by this command, even if the run is killed.
                write_json(record, {"complete": False})
            tracks, frames = _follow(video, folder, settings, make_segmenter(video))
            result = Result(tracks, frames, time.perf_counter() - start)
            write_json(record, {"complete": True, "description": source, "frames": frames, "tracks": tracks})
    if previews:
        write_preview(previews[video.name], video, [folder(track) for track in result.tracks])
    return result


def _follow(
    video: Video, folder: Callable[[str], Path], settings: Settings, segmenter: Segmenter
) -> tuple[dict[str, int], int]:
    """Write the tracks of a video. Return the number of frames of each track by name, and of the whole video."""
    tracks: dict[str, int] = {}

    def write(track: Track) -> None:
        name = f"{video.name}-{len(tracks) + 1:03d}"
        with atomic_folder(folder(name)) as part:
            for number, image in track.images.items():
                (part / f"{name}-{number:06d}.png").write_bytes(image)
        tracks[name] = len(track.images)

    tracker = Tracker(lambda d: encode_png(d.in_picture(video.size)), write, settings.min_frames, settings.min_height)
    number = detected = 0
    with progress_bar(total=video.frame_count or None, unit="frames", what=video.name) as bar:
        # A second thread decodes frames while this thread segments and tracks. The segmenter has a state, so frames
        # must stay in order.
        for number, frame in enumerate(prefetch(lambda frame: frame, video.frames(), 1, 4), 1):
            if stopped():
                raise KeyboardInterrupt
            detections = segmenter(frame)
            detected += len(detections)
            tracker.update(number, detections)
            bar.update()
    tracker.close()
    if not detected:
        frames = counted(number, "frame")
        raise UserError(f"{video.path}: nothing moves in its {frames}; film walking people with a fixed camera")
    return tracks, number


def _read_complete(record: Path, source: dict, folder: Callable[[str], Path]) -> Result | None:
    """Return the result of an earlier run.

    None if its record is missing or damaged, if the run was interrupted, or if video, settings or files have changed.
    """
    try:
        known = parse_checked(record.read_bytes(), COMPLETE)
    except (FileNotFoundError, ValueError):
        return None
    files = {track: len(list(folder(track).glob("*.png"))) for track in known["tracks"]}
    complete = known["description"] == source and known["tracks"] == files
    return Result(files, known["frames"], 0.0) if complete else None


def _remove_earlier(tree: Path, video: Video, known: bool) -> None:
    """Delete the sequences of an earlier run.

    Args:
        known: whether there is a record of an earlier run.

    Raises:
        UserError: if there are sequences without a record, which another program wrote.
    """
    pattern = re.compile(rf"{re.escape(video.name)}-\d{{3,}}")
    folders = [f for f in tree.iterdir() if pattern.fullmatch(f.name)] if tree.is_dir() else []
    if folders and not known:
        raise UserError(f"{folders[0]}: exists, but this command has not written it; use another --output")
    for folder in folders:
        shutil.rmtree(folder)
