"""Enrol people in a gallery, and identify or verify people by how they walk, from aligned silhouettes.

examples:
  # enrol the people of an aligned tree; names are the top folders, or come from a table with the columns track,name
  python -m model.identify enroll --gallery people.parquet --data_path work/gallery-pre
  python -m model.identify enroll --gallery people.parquet --data_path work/gallery-pre --names tracks.csv

  # identify the people of another tree, and write a page and a JSON file
  python -m model.identify who --gallery people.parquet --data_path work/probe-pre --report who.html --json who.json

  # compare a track of a tree with an enrolled person, or two tracks, or two enrolled people
  python -m model.identify verify 2 anna --gallery people.parquet --data_path work/probe-pre

  python -m model.identify list --gallery people.parquet
  python -m model.identify remove anna --gallery people.parquet

Enrol and identify only people who agreed to it. If a gallery comes from a single recording, its sequences resemble each
other more than they resemble later recordings. In later recordings, more sequences of enrolled people are then called
unknown than the gallery suggests.
"""

from pathlib import Path

from model.common.command_line import CommandParser, positive, rate
from model.common.errors import UsageError, counted, run_command
from model.common.messages import set_up_logging
from model.settings.config_options import add_common_options, add_options

NAMES = {"enroll": 0, "who": 0, "verify": 2, "list": 0, "remove": 1}  # number of names of each action


def options_parser() -> CommandParser:
    usage = "%(prog)s ACTION [NAME ...] [OPTION ...]"
    parser = CommandParser(mixed=True, prog="python -m model.identify", usage=usage, description=__doc__)
    parser.add_argument("action", choices=NAMES, help="enroll, who, verify, list or remove")
    parser.add_argument("people", nargs="*", metavar="NAME", help="verify: two names, each of an enrolled person or of "
                        "a track, track/take or track/take/view of --data_path; remove: a person")  # fmt: skip
    add_common_options(parser)
    group = parser.add_argument_group("identification")
    group.add_argument("--gallery", dest="gallery_file", type=Path, required=True,
                       help="Parquet file with the enrolled people")  # fmt: skip
    add_options(group, "checkpoint", "batch_size")
    group.add_argument("--names", type=Path, help="enroll: CSV file with the columns track and name; tracks without a "
                       "name are not enrolled (default: the tracks are the names)")  # fmt: skip
    group.add_argument("--far", type=rate, default=0.01, help="false accept rate: share of unknown people who get a "
                       "name, and share of pairs of different people that verify accepts")  # fmt: skip
    group.add_argument("--best", type=positive, default=3, help="number of a person's nearest sequences whose "
                       "distances are averaged; with 1, decisions are those of rank-1 in test.py")  # fmt: skip
    group.add_argument("--report", type=Path, help="who: write an HTML page with animated silhouettes to this file")
    group.add_argument("--json", type=Path, help="write the result to this JSON file")
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = options_parser().parse_args(arguments)
    action, wanted = options.action, NAMES[options.action]
    if len(options.people) != wanted:
        raise UsageError(f"{action}: expected {counted(wanted, 'name')}, got {len(options.people)}; see "
                         "python -m model.identify --help")  # fmt: skip
    for name, of_action in (("names", "enroll"), ("report", "who")):
        if getattr(options, name) and action != of_action:
            raise UsageError(f"--{name} has no effect with {action}; use it with {of_action}")
    if action in ("enroll", "who") and not options.data_path:
        raise UsageError(f"{action}: no silhouettes are given; give an aligned tree with --data_path")
    set_up_logging(options.quiet)
    from model.common.json_files import write_json
    from model.identify.actions import ACTIONS

    result = ACTIONS[action](options)
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    run_command(main)
