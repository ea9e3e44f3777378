"""Measure the speed of making walkers: raw PNG frames on the CPU, and aligned frames in a packed store on a device.

  # 4 subjects as a raw tree and as a store, both made on the CPU
  python test/bench/walkers.py
  # the size of CASIA-B; the raw tree is made on the CPU, the store on a GPU
  python test/bench/walkers.py --device cuda --subjects 124
  # a short check
  python test/bench/walkers.py --subjects 1 --frames 2 --takes nm-01 --views 000,090

The times include writing the files, but not starting the process. The last line is JSON.
"""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from measuring import parser_of, report

from model.common.cores import core_count
from model.devices.device import describe
from model.devices.opening import open_device
from model.synthetic.camera import VIEWS
from model.synthetic.settings import SEQ_TYPES, WalkerSettings
from model.synthetic.store_writer import write_store
from model.synthetic.tree_writer import write_tree

SHOWN = ("frames", "seconds", "frames_per_second")


def main() -> None:
    parser = parser_of(__doc__, subjects=4, frames=80, takes=",".join(SEQ_TYPES), views=",".join(VIEWS))
    parser.add_argument("--device", default="cpu", help="device that makes the store (default: cpu)")
    parser.add_argument("--tree_subjects", type=int, help="subjects in the tree; 0 makes no tree (default: --subjects)")
    parser.add_argument(
        "--rounds", type=int, default=2, help="number of runs that make the store; the first run is slower (default: 2)"
    )
    parser.add_argument("--folder", help="folder for temporary files (default: the folder of the system)")
    options = parser.parse_args()
    device = open_device(options.device)
    parts = {"takes": tuple(options.takes.split(",")), "views": tuple(options.views.split(","))}
    settings = WalkerSettings(subjects=options.subjects, frames=options.frames, **parts)
    in_tree = options.subjects if options.tree_subjects is None else options.tree_subjects
    figures: dict = {}
    with tempfile.TemporaryDirectory(prefix="gaitset-bench-", dir=options.folder) as temporary:
        folder = Path(temporary)
        if in_tree:
            done = write_tree(folder / "tree", replace(settings, subjects=in_tree), core_count())
            figures["tree"] = {key: done[key] for key in SHOWN}
        for _ in range(options.rounds):
            shutil.rmtree(folder / "store", ignore_errors=True)
            done = write_store(folder / "store", settings, device)
            figures.setdefault("store", []).append({key: done[key] for key in SHOWN})
    report("making walkers", cores=core_count(), store_device=describe(device), **figures)


if __name__ == "__main__":
    main()
