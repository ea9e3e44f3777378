"""Write the silhouettes of people who walk past a fixed camera, one sequence per person.

  TREE/<video>-<track>/<video>/<view>/<video>-<track>-<frame>.png
  TREE/walk-001/walk/000/walk-001-000042.png

A first pass over the video learns the background. A second pass follows everything that moves from frame to frame. A
sequence ends if the person meets another person. It also ends if the person touches the border of the picture or is too
small for several frames. The same person can therefore have several sequences. The tree is the input of
pretreatment.py. When the command runs again, it skips complete videos.

examples:
  # one video, with a preview of the sequences
  python -m model.silhouettes --video walk.mp4 --output work/walk --preview walk-preview.mp4

  # several videos and a folder of frames, from the side
  python -m model.silhouettes --video a.mp4 b.avi frames/ --output work/walks --view 090

  # a moving camera: torchvision's Mask R-CNN, with weights that you downloaded
  python -m model.silhouettes --video walk.mp4 --output work/walk --segmenter maskrcnn \\
      --weights maskrcnn_resnet50_fpn_coco.pth
"""

import argparse
import logging
import shlex
from pathlib import Path

from model.common.command_line import CommandParser, file_name, parsed_as, positive
from model.common.cores import core_count
from model.common.errors import UsageError, UserError, counted, run_command
from model.common.json_files import write_json
from model.common.messages import set_up_logging

log = logging.getLogger(__name__)

# Least share of the stated number of frames that is decoded without a warning. Some formats state only an estimate.
MIN_DECODED = 0.9


preview_file = parsed_as(Path, "a file that ends in .mp4 or .gif", lambda path: path.suffix.lower() in (".mp4", ".gif"))


def build_parser() -> CommandParser:
    parser = CommandParser(prog="python -m model.silhouettes", description=__doc__)
    paths = parser.add_argument_group("paths")
    paths.add_argument("--video", required=True, nargs="+", type=Path, help="video files, or folders of frames")
    paths.add_argument("--output", required=True, type=Path, metavar="TREE", help="root folder of the raw silhouettes")
    paths.add_argument("--preview", type=preview_file, metavar="FILE", help="write the video with a box and a number "
                       "for each person, as .mp4 or .gif. For several videos, write one file per video, whose name "
                       "contains the name of the video")  # fmt: skip
    paths.add_argument("--json", type=Path, help="write the numbers of frames of all videos and sequences to FILE")
    content = parser.add_argument_group("sequences")
    content.add_argument("--view", type=file_name, default="000", metavar="NAME", help="name of the folder of the view")
    content.add_argument("--min_frames", type=positive, default=25, help="least number of frames of a sequence")
    content.add_argument("--min_height", type=positive, default=48, help="least height of a silhouette in pixels; "
                         "frames with a side above 1024 pixels are scaled down to 1024 pixels first")  # fmt: skip
    how = parser.add_argument_group("running")
    how.add_argument("--segmenter", choices=("background", "maskrcnn"), default="background", help="background needs a "
                     "fixed camera; maskrcnn works with any camera, but is much slower")  # fmt: skip
    how.add_argument("--weights", type=Path, help="weights of torchvision's maskrcnn_resnet50_fpn for --segmenter "
                     "maskrcnn; they are never downloaded")  # fmt: skip
    how.add_argument("--device", default="auto", metavar="NAME", help="device for maskrcnn: auto, cpu, cuda or npu")
    how.add_argument("--quiet", action="store_true", help="show no progress bar")
    return parser


def main() -> int:
    options = build_parser().parse_args()
    if (options.segmenter == "maskrcnn") != (options.weights is not None):
        raise UsageError("--segmenter maskrcnn and --weights FILE belong together; give both or neither")
    set_up_logging(options.quiet)
    # Imported here, so that wrong arguments are reported at once.
    from model.data.raw.video import Video
    from model.silhouettes.extraction import Settings, extract_all

    videos = {video.name: video for video in map(Video.open, options.video)}
    if len(videos) < len(options.video):
        names = ", ".join(path.name for path in options.video)
        raise UsageError(f"--video: two of {names} have the same name, which becomes a folder name; rename one of them")
    preview, several = options.preview, len(videos) > 1
    previews = {n: preview.with_stem(f"{preview.stem}-{n}") if several else preview for n in videos} if preview else {}
    inputs = [path.resolve() for path in (*options.video, options.weights) if path]
    for path in (*previews.values(), options.json):
        if path and path.resolve() in inputs:
            raise UsageError(f"{path}: is read by the command; give --preview or --json a file other than this one")
    make_segmenter, identity, workers = _segmenter(options)
    settings = Settings(options.view, options.min_frames, options.min_height, identity)
    results = extract_all(list(videos.values()), workers, tree=options.output, settings=settings,
                          make_segmenter=make_segmenter, previews=previews)  # fmt: skip
    tracks = {}
    for video, result in zip(videos.values(), results, strict=True):
        tracks[video.name] = {"frames": result.frames, "tracks": result.tracks}
        if result.frames < MIN_DECODED * video.frame_count:
            log.warning("%s: only %d of its %d frames can be decoded; the file may be damaged", video.path,
                        result.frames, video.frame_count)  # fmt: skip
        speed = f"{result.frames / result.seconds:.0f} frames/s" if result.seconds else "already complete"
        print(f"{video.path}: {counted(result.frames, 'frame')}, {counted(len(result.tracks), 'sequence')}, {speed}")
        if previews:
            print(f"preview in {previews[video.name]}")
    if options.json:
        write_json(options.json, tracks)
    if not any(video["tracks"] for video in tracks.values()):
        raise UserError(f"{options.output}: no sequence: nobody is alone, complete and at least {options.min_height} "
                        f"pixels high for {options.min_frames} frames; film from closer, or lower --min_height or "
                        "--min_frames")  # fmt: skip
    print(f"next: python pretreatment.py --input_path {shlex.quote(str(options.output))} --output_path ...")
    return 0


def _segmenter(options: argparse.Namespace):
    """Return how to segment videos.

    Returns:
        Function that makes the segmenter of a video, name of the segmenter with the checksum of its weights, and
        largest number of processes.
    """
    if options.segmenter == "background":
        from model.silhouettes.background import BackgroundSegmenter

        return BackgroundSegmenter, options.segmenter, core_count()
    from model.checkpoints.metadata import checksum
    from model.devices.opening import resolve_device
    from model.silhouettes.mask_rcnn import MaskRCNNSegmenter

    segmenter = MaskRCNNSegmenter(options.weights, resolve_device(options.device))
    return lambda video: segmenter, f"{options.segmenter} {checksum(options.weights)}", 1


if __name__ == "__main__":
    run_command(main)
