"""The command `python -m model.synthetic`: parse, write the tree, print one line."""

from __future__ import annotations

import argparse
from pathlib import Path

from model.common.command_line import CommandParser, positive
from model.common.cores import core_count
from model.common.errors import UsageError, run_command
from model.devices.device import resolve_device, set_precision
from model.synthetic.camera import FPS, PATH, VIEWS
from model.synthetic.packed import write_store
from model.synthetic.preview import animation, contact_sheet, write_animation, write_preview
from model.synthetic.recipe import Recipe
from model.synthetic.tree import write_tree
from model.synthetic.walkers import SEQ_TYPES

DESCRIPTION = f"""\
Write raw silhouettes of synthetic walkers, in the layout of CASIA-B:

  DIR/<subject>/<seq_type>/<view>/<subject>-<seq_type>-<view>-<frame>.png
  DIR/001/nm-01/000/001-nm-01-000-001.png

240 x 320 pixels, 8-bit grey, a white person (255) on black (0), {FPS} frames a second. Subjects walk along
one line of {PATH} m, seen by eleven cameras at once: 000 from the front, 090 from the left side, 180 from
behind. A walk longer than the line starts over at its beginning, in step.

  nm-01 .. nm-06   everyday clothes
  bg-01, bg-02     with a shoulder bag, a bag in the hand or a backpack
  cl-01, cl-02     in a coat or down jacket

A subject's body and gait follow from --seed and the subject's number alone, clothes and mood of the day from
these and the take, faults of the segmentation from these and the view: any part is the same, byte for byte,
alone or within the whole, whatever the number of processes. DIR/synthetic.json records the arguments; a
folder made with the same arguments is completed, any other folder that is not empty is refused.

--store DIR writes aligned frames straight into a packed store instead, as pretreatment and training would make it of
the raw tree; train.py and test.py take it as --data_path. On a GPU that is a few hundred thousand frames a second.
"""

EXAMPLES = """\
examples:
  # a small set to try things with: 12 subjects, 1,320 sequences
  python -m model.synthetic --output_path work/synthetic --subjects 12 --frames 30

  # as many subjects, takes and views as CASIA-B has, with other people
  python -m model.synthetic --output_path work/synthetic-B --subjects 124 --frames 60 --seed 7

  # the same people as above, but only some of them, from two sides, in two takes
  python -m model.synthetic --output_path work/some --first_subject 20 --subjects 5 --frames 60 \\
      --seed 7 --views 000,090 --takes nm-01,bg-01

  # look before you leap: a contact sheet, and walkers.gif, in which they walk
  python -m model.synthetic --subjects 4 --takes nm-01,bg-01,cl-01 --preview walkers.png

  # as many as CASIA-B has, aligned and packed on a GPU
  python -m model.synthetic --store work/walkers --subjects 124 --frames 80 --device cuda

exit status: 0 done, 1 the job failed, 2 bad arguments
"""


def main() -> None:
    options = build_parser().parse_args()
    recipe = Recipe(
        subjects=options.subjects,
        frames=options.frames,
        seed=options.seed,
        first_subject=options.first_subject,
        views=options.views,
        takes=options.takes,
        noise=options.noise,
        cameras=options.cameras,
        bodies=options.bodies,
        gaits=options.gaits,
    )
    if options.output_path is None and options.store is None and options.preview is None:
        raise UsageError("nothing to write: give --output_path DIR, --store DIR, --preview FILE.png or several of them")
    if options.preview is not None:
        _preview(options.preview, recipe)
    written = []
    if options.output_path is not None:
        written.append(write_tree(options.output_path, recipe, options.worker_num, options.quiet))
    if options.store is not None:
        device = resolve_device(options.device)
        set_precision(device)
        written.append(write_store(options.store, recipe, device, options.quiet))
    for done in written:
        print(
            f"{done['subjects']} subjects, {done['sequences']} sequences, {done['frames']} frames in "
            f"{done['seconds']:.1f} s ({done['frames_per_second']:.0f} frames/s) in {done['output_path']}"
        )


def _preview(path: Path, recipe: Recipe) -> None:
    if path.is_dir():
        raise UsageError(f"{path}: is a folder, --preview needs the name of a PNG file")
    takes = recipe.takes if len(recipe.takes) <= 3 else tuple(t for t in recipe.takes if t.endswith("-01"))
    numbers = recipe.numbers[:8]
    moving = path.with_suffix(".gif")
    write_preview(path, contact_sheet(recipe.world, numbers, takes, recipe.views))
    write_animation(moving, animation(recipe.world, numbers[:4], takes, recipe.views))
    print(f"contact sheet of {len(numbers)} subjects, takes {', '.join(takes)}, in {path}; walking, in {moving}")


def build_parser() -> CommandParser:
    parser = CommandParser(prog="python -m model.synthetic", description=DESCRIPTION, epilog=EXAMPLES)
    where = parser.add_argument_group("where")
    where.add_argument("--output_path", type=Path, metavar="DIR", help="a new or empty folder for the tree")
    where.add_argument("--store", type=Path, metavar="DIR", help="a new folder for a packed store")
    where.add_argument(
        "--preview",
        type=Path,
        metavar="FILE.png",
        help="also draw a contact sheet of the first 8 subjects, of the first take of each condition if more than 3 "
        "takes are asked for, and FILE.gif, in which the first 4 walk; alone, they are all that is written",
    )
    what = parser.add_argument_group("what")
    what.add_argument("--subjects", type=positive, default=12, metavar="N", help="how many people (default 12)")
    what.add_argument(
        "--frames",
        type=positive,
        default=60,
        metavar="N",
        help="frames in each sequence (default 60, about one crossing of the line)",
    )
    what.add_argument("--seed", type=_natural, default=0, metavar="S", help="another seed, other people (default 0)")
    what.add_argument("--first_subject", type=positive, default=1, metavar="K", help="number of the first (default 1)")
    what.add_argument("--views", type=_names, default=VIEWS, metavar="LIST", help="e.g. 000,090 (default all 11)")
    what.add_argument("--takes", type=_names, default=SEQ_TYPES, metavar="LIST", help="e.g. nm-01,bg-01 (default all)")
    what.add_argument(
        "--noise",
        type=_strength,
        default=1.0,
        metavar="X",
        help="strength of the segmentation faults: 0 none, 1 as in CASIA-A (default 1)",
    )
    what.add_argument(
        "--cameras",
        type=_strength,
        default=0.0,
        metavar="X",
        help="0: CASIA-B's eleven fixed cameras; above: how far each take's cameras are from those (default 0)",
    )
    what.add_argument(
        "--bodies", type=_strength, default=1.0, metavar="X", help="how much bodies differ: 0 not at all (default 1)"
    )
    what.add_argument(
        "--gaits", type=_strength, default=1.0, metavar="X", help="how much gaits differ: 0 not at all (default 1)"
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--worker_num",
        type=positive,
        default=core_count(),
        metavar="N",
        help="processes (default all cores)",
    )
    how.add_argument("--device", default="cpu", metavar="NAME", help="of --store: cpu, cuda, npu or auto (default cpu)")
    how.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _natural(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or above, not {text!r}")
    return int(text)


def _strength(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number, 0 or above, not {text!r}")
    return number


if __name__ == "__main__":
    run_command(main)
