"""Align raw silhouettes to 64×64. Run this command once per data set, before training and testing.

    python pretreatment.py --input_path=CASIA-B --output_path=CASIA-B-64
    python pretreatment.py --input_path=CASIA-B --output_path=CASIA-B-64 --worker_num=8 --log=True
    python pretreatment.py --input_path=CASIA-B --output_path=CASIA-B-64 --skip_bad --json=summary.json
    python pretreatment.py --input_path=OUMVLP-raw --output_path=OUMVLP-64 --layout=oumvlp
    python pretreatment.py --input_path=BLACK-ON-WHITE --output_path=ALIGNED --invert

The output has the layout ROOT/<subject>/<condition-take>/<view>/<frame>. By default, the input has the same layout.
Other layouts of the input are named with --layout: oumvlp for Silhouette_<view>-<take>/<subject>, casia-a for
<subject>/<view>_<take>, hid for <subject>/<sequence> without views.
If you run the same command again, it processes only the frames that are missing, damaged or outdated.
Unreadable images are listed and lead to exit status 1, unless --skip_bad accepts them.
A few frames of each sequence decide how the sequence is read: masks of 0 and 1 are scaled, an alpha channel that varies
is the mask, and JPEG files and grey masks are thresholded. Inverted silhouettes and camera pictures end the run.
"""

import shlex
from pathlib import Path

from model.common.command_line import CommandParser, positive
from model.common.errors import run_command
from model.data.raw.folders import VIDEO_RECORDS
from model.data.raw.layouts import DEFAULT, LAYOUTS


def parser() -> CommandParser:
    parser = CommandParser(prog="pretreatment.py", description=__doc__)
    paths = parser.add_argument_group("paths")
    paths.add_argument("--input_path", required=True, help="root of the raw silhouettes (PNG, BMP or JPEG)")
    paths.add_argument("--output_path", required=True, help="root of the aligned tree, created if it does not exist")
    paths.add_argument("--layout", default=DEFAULT, choices=tuple(LAYOUTS), help="layout of the input")
    paths.add_argument("--log_file", help="log file, opened for appending (default: ./pretreatment.log, or the same "
                       "name in the output folder if the current folder is read-only)")  # fmt: skip
    paths.add_argument("--json", type=Path, help="write a summary to FILE")
    running = parser.add_argument_group("running")
    running.add_argument("--log", action="store_true", help="log every sequence, not only warnings and failures")
    running.add_argument("--worker_num", type=positive, help="number of worker processes (default: one per core)")
    running.add_argument("--invert", action="store_true", help="read silhouettes that are black on a white background")
    running.add_argument("--remove_specks", action="store_true", help="remove connected components with less than 5 %% "
                         "of the area of the largest component; the published alignment keeps them")  # fmt: skip
    running.add_argument("--skip_bad", action="store_true", help="exit with status 0 even if images are unreadable, "
                         "and leave out sequences that are not white silhouettes on black instead of "
                         "stopping")  # fmt: skip
    running.add_argument("--quiet", action="store_true", help="print only problems, no progress bar and no summary")
    return parser


def main() -> int:
    options = parser().parse_args()
    # These imports are here because worker processes import this file again, and because argument errors should be
    # reported at once.
    from dataclasses import asdict

    from model.common.json_files import write_json
    from model.common.messages import set_up_logging
    from model.data.raw.pretreatment import pretreat
    from model.data.raw.pretreatment_report import LogFile, default_log_file

    set_up_logging(options.quiet)
    log_file = options.log_file or default_log_file(options.output_path)
    summary = pretreat(
        options.input_path, options.output_path, options.worker_num, log=LogFile(log_file, options.log),
        invert=options.invert, specks=options.remove_specks, skip_bad=options.skip_bad,
        layout=options.layout,
    )  # fmt: skip
    if options.json:
        write_json(options.json, asdict(summary))
    if not options.quiet:
        print(summary, *summary.notes(), sep="\n")
        print(f"wrote {options.output_path}; the log is {log_file}")
        if not summary.failed:
            print(f"next: {_next_step(options.input_path, shlex.quote(options.output_path))}")
    return 1 if summary.failed else 0


def _next_step(source: str, aligned: str) -> str:
    if Path(source, VIDEO_RECORDS).is_dir():
        command = f"python -m model.identify enroll --gallery people.parquet --data_path {aligned}"
        return f"{command} (or `who` instead of `enroll`)"
    return f"python train.py --data_path {aligned} --dataset ..., or test.py with a --checkpoint"


if __name__ == "__main__":
    run_command(main)
