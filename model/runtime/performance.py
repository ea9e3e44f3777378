"""One table of what the tools measured, beside the figures published for this model.

    python -m model.runtime.performance result/perf_vision_batchsize_1_device_0.txt result/perf_..._16_device_0.txt
    python -m model.runtime.performance result/dumpOutput_device0_summary.json --chip Ascend310P3
    python -m model.runtime.performance throughput_bs1.json throughput_bs16.json --accuracy acc_bs1.json acc_bs16.json

Takes benchmark's performance and pure inference files, ais_bench's summary.json or its printed lines, and what
python -m model.runtime writes. With --accuracy also compares the rank-1 of test.py --json across batch sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from model.common.command_line import CommandParser, positive
from model.common.errors import UserError, run_command
from model.common.files import read_json, write_json
from model.runtime.performance_files import Figures, read_figures

CARD_CHIPS = {"Ascend310": 4}  # an Ascend 310 card carries four chips; the tools measure one
PUBLISHED_ACCURACY = 95.512  # om, NM, identical views included, percent
_PERCENTILES = ("mean", "p50", "p90", "p99")
_HEADER = ("runtime", "batch", "end to end", "one chip", "310 card (x4)", *_PERCENTILES)
_ON_HOST = "onnxruntime"


class Published(NamedTuple):
    """Sequences a second of a card, by batch size, as the model zoo published them for this model."""

    card: str
    chips: int
    throughput: dict[int, float]


# That those of the 310 are of the card follows from the zoo's rule, four times what benchmark says of one chip.
PUBLISHED = (
    Published("Ascend 310", 4, {1: 599.98, 16: 684.812}),
    Published("Ascend 310P", 1, {1: 849.55, 16: 941.825}),
    Published("T4", 1, {1: 354.39, 16: 379.23}),
)


def table(rows: Sequence[Figures]) -> str:
    """The rows and the published figures, for people. What a tool does not say is a dash."""
    header, lines = table_rows(rows)
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    text = [_padded(line, widths) for line in (header, *lines)]
    text.insert(len(rows) + 1, "published for this model:")
    return "\n".join(["throughput in sequences/s, latency in ms of a batch on the device", *text, *_remarks(rows)])


def table_rows(rows: Sequence[Figures]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Names of the columns, and the cells of a line for each row, then for each published figure."""
    theirs = [
        (published.card, str(batch), *_rates(None, rate / published.chips, rate if published.chips > 1 else None))
        for published in PUBLISHED
        for batch, rate in published.throughput.items()
    ]
    return _HEADER, [*map(_line, rows), *((*line, *["-"] * len(_PERCENTILES)) for line in theirs)]


def compare_accuracy(files: Sequence[Path]) -> tuple[bool, str]:
    """Whether the rank-1 in these files of `test.py --json` is the same, and a sentence about it."""
    found = {path: _rank1(path) for path in files}
    text = {path: ", ".join(f"{name} {value:.3f}" for name, value in rank1.items()) for path, rank1 in found.items()}
    agree = len({tuple(rank1.items()) for rank1 in found.values()}) == 1
    if agree:
        same = f"; the same in all {len(files)}" if len(files) > 1 else ""
        return True, f"rank-1, identical views included: {text[files[0]]}{same}"
    each = "; ".join(f"{path.name}: {text[path]}" for path in files)
    return False, f"warning: rank-1, identical views included, differs: {each}"


def _line(row: Figures) -> tuple[str, ...]:
    chips = CARD_CHIPS.get(row.chip or "", 1)
    card = row.device * chips if row.device is not None and chips > 1 else None
    batch = "-" if row.batch_size is None else str(row.batch_size)
    latency = (row.latency_ms.get(name) for name in _PERCENTILES)
    return (row.runtime, batch, *_rates(row.end_to_end, row.device, card, *latency))


def _padded(line: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(line, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])


def _rates(*values: float | None) -> tuple[str, ...]:
    return tuple(map(_number, values))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".rstrip("0").rstrip(".") if value < 10000 else f"{value:.6g}"


def _remarks(rows: Sequence[Figures]) -> list[str]:
    remarks = [f"the published om reached rank-1 {PUBLISHED_ACCURACY} % (NM, identical views included)"]
    if any(row.runtime != _ON_HOST and row.chip is None for row in rows):
        remarks.append(
            "which chip this is was not found out: if an Ascend 310, its card has four, so multiply by 4 "
            "before comparing with the published card"
        )
    if any(row.runtime == _ON_HOST for row in rows):
        remarks.append(f"{_ON_HOST}: this machine's processor, not an Ascend chip; `one chip` is inference alone")
    if any(row.runtime == "ais_bench" for row in rows):
        remarks.append("ais_bench does not measure end to end")
    return remarks + [f"warning: no figures of {row.runtime}: {row.problem}" for row in rows if row.problem]


def _rank1(path: Path) -> dict[str, float]:
    try:
        rank1 = read_json(path)["rank1"]
        figures = {condition: float(values["including"]) for condition, values in rank1.items()}
        if not figures or not all(0 <= value <= 100 for value in figures.values()):
            raise ValueError("no percents")
        return figures
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: no rank1 in it; expected is what test.py --json writes") from error


def main() -> None:
    options = _parser().parse_args()
    rows = [read_figures(path, options.batch_size) for path in options.files]
    if options.chip:
        rows = [row if row.runtime == _ON_HOST else replace(row, chip=options.chip) for row in rows]
    print(table(rows))
    content: dict[str, Any] = {"rows": [asdict(row) for row in rows], "published": [p._asdict() for p in PUBLISHED]}
    if options.accuracy:
        content["accuracy_agrees"], sentence = compare_accuracy(options.accuracy)
        print(sentence)
    if options.json:
        write_json(options.json, content)


def _parser() -> CommandParser:
    usage = "%(prog)s FILE ... [OPTION ...]"
    parser = CommandParser(prog="python -m model.runtime.performance", description=__doc__, usage=usage)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="performance files, one a row")
    parser.add_argument("--accuracy", nargs="+", type=Path, metavar="FILE", help="of test.py --json, to be compared")
    parser.add_argument("--batch_size", type=positive, metavar="N", help="of files that do not say theirs")
    parser.add_argument("--chip", metavar="NAME", help="such as Ascend310, whose cards have four")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write rows and published figures here")
    return parser


if __name__ == "__main__":
    run_command(main)
