"""Write raw silhouettes of synthetic walkers, in the layout of CASIA-B.

  DIR/<subject>/<seq_type>/<view>/<subject>-<seq_type>-<view>-<frame>.png
  DIR/001/nm-01/000/001-nm-01-000-001.png

Frames are 8-bit grey images, 240 pixels high and 320 wide: a white person (255) on black (0). The frame rate is 25
frames/s. Subjects walk along a line of 4.4 m. Eleven cameras see them at the same time: view 000 from the front, 090
from the left side, 180 from behind. A subject who reaches the end of the line continues at its beginning, without a
break in the steps.

  nm-01 to nm-06   everyday clothes
  bg-01, bg-02     everyday clothes and a shoulder bag, a hand bag or a backpack
  cl-01, cl-02     a coat or a down jacket

Body and gait depend on --seed and the number of the subject. Clothes and posture also depend on the take, and
segmentation noise also depends on the take and the view. A sequence therefore has the same bytes in a data set with
more or fewer subjects, takes or views, and for any number of processes. DIR/synthetic.json contains the arguments. The
command completes a folder that was made with the same arguments, and rejects any other folder that is not empty.

--store DIR writes aligned frames directly into a packed store. The frames are those that pretreatment.py makes of the
raw tree, except for a few pixels that differ by 1. train.py and test.py read the store as --data_path. A GPU makes a
few hundred thousand frames per second. --preview and --video need neither a raw tree nor a store.

examples:
  # a small data set: 12 subjects, 1,320 sequences
  python -m model.synthetic --output_path work/synthetic --subjects 12 --frames 30

  # as many subjects, takes and views as CASIA-B; each --seed gives different people
  python -m model.synthetic --output_path work/synthetic-B --subjects 124 --frames 60 --seed 7

  # five of these 124 people, from two views, in two takes
  python -m model.synthetic --output_path work/some --first_subject 20 --subjects 5 --frames 60 \\
      --seed 7 --views 000,090 --takes nm-01,bg-01

  # a contact sheet of four subjects, and the animation walkers.gif
  python -m model.synthetic --subjects 4 --takes nm-01,bg-01,cl-01 --preview walkers.png

  # a video of three walkers, as an input for model.silhouettes
  python -m model.synthetic --video walkers.mp4

  # as many subjects as CASIA-B, aligned and packed on a GPU
  python -m model.synthetic --store work/walkers --subjects 124 --frames 80 --device cuda

exit status: 0 done, 1 the job failed, 2 bad arguments
"""

from dataclasses import fields, replace
from itertools import groupby
from pathlib import Path

from model.common.command_line import CommandParser, parsed_as, positive
from model.common.cores import core_count
from model.common.errors import UsageError, counted, run_command
from model.common.messages import set_up_logging
from model.data.raw.silhouette import write_png
from model.devices.opening import open_device
from model.synthetic.preview import animation, contact_sheet, write_animation
from model.synthetic.settings import WalkerSettings
from model.synthetic.store_writer import write_store
from model.synthetic.tree_writer import write_tree
from model.synthetic.video import WALKERS, write_video

_names = parsed_as(lambda text: tuple(filter(None, map(str.strip, text.split(",")))), "names separated by commas")
_preview_file = parsed_as(
    Path, "a file that ends in .png", lambda path: path.suffix.lower() == ".png" and not path.is_dir()
)
_video = parsed_as(Path, "a file that ends in .mp4", lambda path: path.suffix.lower() == ".mp4")


def main() -> None:
    options = build_parser().parse_args()
    set_up_logging(options.quiet)
    settings = WalkerSettings(**{field.name: getattr(options, field.name) for field in fields(WalkerSettings)})
    if not (options.output_path or options.store or options.preview or options.video):
        raise UsageError("nothing to write: give at least one of --output_path, --store, --preview and --video")
    if options.preview is not None:
        _preview(options.preview, settings)
    if options.video is not None:
        print(f"{WALKERS} walkers, {counted(write_video(options.video, settings), 'frame')}, in {options.video}")
    summaries = []
    if options.output_path is not None:
        summaries.append(write_tree(options.output_path, settings, options.worker_num))
    if options.store is not None:
        device = open_device(options.device)
        summaries.append(write_store(options.store, settings, device))
    for one in summaries:
        written = ", ".join(counted(one[f"{noun}s"], noun) for noun in ("subject", "sequence", "frame"))
        speed = "{seconds:.1f} s ({frames_per_second:.0f} frames/s)".format(**one)
        print(f"{written} in {speed} in {one['output_path']}")


def _preview(path: Path, settings: WalkerSettings) -> None:
    takes = settings.takes
    if len(takes) > 3:
        takes = tuple(next(group) for _, group in groupby(takes, key=lambda take: take[:2]))
    shown, gif = replace(settings, takes=takes, subjects=min(settings.subjects, 8)), path.with_suffix(".gif")
    write_png(path, contact_sheet(shown).contiguous().numpy())
    write_animation(gif, animation(replace(shown, subjects=min(shown.subjects, 4))))
    sheet = f"contact sheet of {counted(shown.subjects, 'subject')}, takes {', '.join(takes)}"
    print(f"{sheet}, in {path}; animation in {gif}")


def build_parser() -> CommandParser:
    description, examples = __doc__.split("examples:\n")
    epilog = f"examples:\n{examples.rstrip()}"
    parser = CommandParser(prog="python -m model.synthetic", description=description, epilog=epilog)
    output = parser.add_argument_group("output")
    output.add_argument("--output_path", type=Path, metavar="DIR", help="folder for the raw tree: new, empty, "
                        "or made earlier with the same arguments")  # fmt: skip
    output.add_argument("--store", type=Path, metavar="DIR", help="new folder for a packed store of aligned frames")
    output.add_argument("--preview", type=_preview_file, metavar="FILE.png", help="draw FILE.png, a contact sheet of "
                        "the first 8 subjects, and FILE.gif, an animation of the first 4 subjects. If more than 3 "
                        "takes are selected, both show only the first take of each condition")  # fmt: skip
    output.add_argument("--video", type=_video, metavar="FILE.mp4", help="film the first 3 subjects in the first "
                        "selected take: at most 48 frames, from the side, with shadows and a textured "
                        "background")  # fmt: skip
    content = parser.add_argument_group("walkers")
    for setting in fields(WalkerSettings):
        is_list = isinstance(setting.default, tuple)
        how = {"type": _names, "metavar": "LIST"} if is_list else {"type": type(setting.default)}
        content.add_argument(f"--{setting.name}", default=setting.default, help=setting.metadata["meaning"], **how)
    process = parser.add_argument_group("running")
    process.add_argument("--worker_num", type=positive, default=core_count(), help="number of processes that write the "
                         "raw tree (default: one per core)")  # fmt: skip
    process.add_argument("--device", default="cpu", metavar="NAME", help="device for --store: cpu, cuda, npu or auto")
    process.add_argument("--quiet", action="store_true", help="show no progress bar")
    return parser


if __name__ == "__main__":
    run_command(main)
