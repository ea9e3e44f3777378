"""Write the silhouettes of the people in a video: one sequence per track, TREE/<video>-<track>/<video>/<view>/*.png.

The folder of each sequence is written atomically. `TREE/.silhouettes/<video>.json` is written last and describes the
video and the settings; the next run skips a video whose description is unchanged.
"""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from model.common.errors import UserError
from model.common.files import atomic_folder, is_plain_name, os_errors_as_user_errors
from model.common.json_files import write_json
from model.common.lock import locked
from model.common.messages import progress_bar
from model.common.prefetch import prefetch
from model.common.schema import parse_checked
from model.data.raw.silhouette import encode_png
from model.silhouettes.detection import Detection
from model.silhouettes.tracking import Track, Tracker
from model.silhouettes.video import Video

log = logging.getLogger(__name__)

RECORDS = ".silhouettes"  # folder in the tree; readers of trees ignore hidden names
MIN_DECODED = 0.9  # of the number of frames that the file states, which is an estimate in some formats
VERSION = 1  # raise it whenever the same video gives other silhouettes
COMPLETE = {"complete": True, "description": {}, "frames": int, "tracks": {str: int}}  # schema of a record
Segmenter = Callable[[np.ndarray], list[Detection]]


@dataclass(frozen=True)
class Settings:
    """view: name of the folder of the view. min_frames: per sequence. min_height: of a silhouette, in pixels.
    segmenter: name, and checksum of its weights.
    """

    view: str = "000"
    min_frames: int = 25
    min_height: int = 48
    segmenter: str = "background"


@dataclass(frozen=True)
class Result:
    """Number of frames per sequence by the name of the track. `seconds` is 0 for a video that was already complete."""

    video: str
    tracks: dict[str, int]
    frames: int
    seconds: float


def extract(
    video: Video, tree: Path, settings: Settings, make_segmenter: Callable[[Video], Segmenter], quiet: bool = False
) -> Result:
    """Write the sequences of one video, unless they are complete.

    Raises:
        UserError: if nobody moves, the camera moves, or the tree cannot be written.
    """
    if not is_plain_name(video.name):
        raise UserError(f"{video.path}: the name of the video becomes the name of a folder; rename it")
    record = tree / RECORDS / f"{video.name}.json"
    with locked(record.with_suffix(".lock"), tree):
        source = {"version": VERSION, "source": _stamp(video.path), "settings": asdict(settings)}
        known = _read_record(record)
        if known and known["description"] == source:
            folders = {name: _folder(tree, name, video, settings) for name in known["tracks"]}
            if all(len(list(f.glob("*.png"))) == known["tracks"][name] for name, f in folders.items()):
                return Result(video.name, known["tracks"], known["frames"], 0.0)
        start = time.perf_counter()
        with os_errors_as_user_errors(tree):
            _remove_earlier(tree, video, record.exists())
            write_json(record, {"complete": False})  # its tracks belong to this command, also if the run is killed
        segmenter = make_segmenter(video)
        result = _follow(video, tree, settings, segmenter, start, quiet)
        write_json(
            record,
            {"complete": True, "description": source, "frames": result.frames, "tracks": result.tracks},
        )
    return result


def _follow(video: Video, tree: Path, settings: Settings, segmenter: Segmenter, start: float, quiet: bool) -> Result:
    tracks: dict[str, int] = {}
    detected = 0

    def write(track: Track) -> None:
        name = f"{video.name}-{len(tracks) + 1:03d}"
        with atomic_folder(_folder(tree, name, video, settings)) as part:
            for number, image in track.images.items():
                (part / f"{name}-{number:06d}.png").write_bytes(image)
        tracks[name] = len(track.images)

    tracker = Tracker(lambda d: encode_png(d.in_picture(video.size)), write, settings.min_frames, settings.min_height)
    number = 0
    with progress_bar(total=video.frame_count or None, unit="frames", what=video.name, quiet=quiet) as bar:
        # One thread decodes while this one tracks. The segmenter has a state, so frames stay in order.
        for number, frame in enumerate(prefetch(lambda frame: frame, video.frames(), 1, 4), 1):
            detections = segmenter(frame)
            detected += len(detections)
            tracker.update(number, detections)
            bar.update()
    tracker.close()
    if number < MIN_DECODED * video.frame_count:
        log.warning("%s: only %d of its %d frames can be decoded; the file may be damaged", video.path, number,
                    video.frame_count)  # fmt: skip
    if not detected:
        raise UserError(f"{video.path}: nothing moves in its {number} frames; film walking people with a fixed camera")
    return Result(video.name, tracks, number, time.perf_counter() - start)


def _read_record(path: Path) -> dict | None:
    """Return the record of a complete video. None if there is none, or it is damaged or of an interrupted run."""
    try:
        return parse_checked(path.read_bytes(), COMPLETE)
    except (FileNotFoundError, ValueError):
        return None


def _folder(tree: Path, track: str, video: Video, settings: Settings) -> Path:
    return tree / track / video.name / settings.view


def _stamp(path: Path) -> list:
    """Return size and modification time of a file, or of the files in a folder."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _remove_earlier(tree: Path, video: Video, known: bool) -> None:
    """Delete the sequences of an earlier or interrupted run. Raises UserError if another program wrote them."""
    pattern = re.compile(rf"{re.escape(video.name)}-\d{{3,}}")
    folders = [f for f in tree.iterdir() if pattern.fullmatch(f.name)] if tree.is_dir() else []
    if folders and not known:
        raise UserError(f"{folders[0]}: exists, but this command has not written it; use another --output")
    for folder in folders:
        shutil.rmtree(folder)
