"""Print a table that compares measured performance with the results published for this model.

    python -m model.runtime.performance result/perf_vision_batchsize_1_device_0.txt result/perf_..._16_device_0.txt
    python -m model.runtime.performance result/dumpOutput_device0_summary.json --chip Ascend310P3
    python -m model.runtime.performance throughput_bs1.json throughput_bs16.json --accuracy acc_bs1.json acc_bs16.json

The command reads the files of python -m model.runtime, the performance and pure-inference files of benchmark, and
summary.json or the printed output of ais_bench. With --accuracy, it also compares the rank-1 accuracy in files that
test.py --json has written.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from model.common.command_line import CommandParser, positive
from model.common.errors import UserError, run_command
from model.common.json_files import write_json
from model.common.schema import read_checked
from model.runtime.performance_files import Figures, read_all_figures

CARD_CHIPS = {"Ascend310": 4}  # an Ascend 310 card has four chips, and the tools measure one chip
PUBLISHED_ACCURACY = 95.512  # rank-1 of the om file in percent, for NM, identical views included
_ONE, _ALL_CHIPS, _CARD = "one chip", "all chips", "310 card (x4)"  # "all chips" is for sums of several chips
_COLUMNS = ("runtime", "batch", "end to end", _ONE, _ALL_CHIPS, _CARD, "mean", "p50", "p90", "p99")
_ON_HOST = "onnxruntime"


class Published(NamedTuple):
    """Throughput of one kind of card in sequences/s by batch size, as the model zoo publishes it for this model."""

    card: str
    chips: int
    throughput: dict[int, float]


# The Ascend 310 figures are per card: the model zoo multiplies the result of benchmark for one chip by four. The 310P
# figures were measured with an om file that AOE has tuned, the 310P3 figures with an om file that is not tuned.
PUBLISHED = (
    Published("Ascend 310", 4, {1: 599.98, 16: 684.812}),
    Published("Ascend 310P3", 1, {1: 606, 4: 696, 8: 703, 16: 714, 32: 720, 64: 723}),
    Published("Ascend 310P, AOE", 1, {1: 849.55, 16: 941.825}),
    Published("T4", 1, {1: 354.39, 16: 379.23}),
)


def table(rows: Sequence[Figures]) -> str:
    """Format measured and published results as a table with remarks. A dash stands for an unknown value.

    Args:
        rows: figures of the measured runs, one table row each.
    """
    columns, cells = table_rows(rows)
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    form = "  ".join([f"{{:<{widths[0]}}}", *(f"{{:>{width}}}" for width in widths[1:])])
    text = [form.format(*line) for line in (columns, *cells)]
    text.insert(len(rows) + 1, "published for this model:")
    return "\n".join(["throughput in sequences/s, latency in ms per batch on the device", *text, *_remarks(rows)])


def table_rows(rows: Sequence[Figures]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the column names and the cells of all rows: first the measured rows, then the published results."""
    columns = tuple(name for name in _COLUMNS if name != _ALL_CHIPS or any(row.chips > 1 for row in rows))
    lines: list[dict[str, Any]] = [_values(row) for row in rows]
    for published in published_for(rows):
        for batch, rate in published.throughput.items():
            of_card = {_CARD: rate} if published.chips > 1 else {}
            lines.append({"runtime": published.card, "batch": batch, _ONE: rate / published.chips, **of_card})
    return columns, [tuple(_cell(line.get(name)) for name in columns) for line in lines]


def published_for(rows: Sequence[Figures]) -> list[Published]:
    """Return the published results of the chips in `rows`, or all published results if none is of these chips."""
    chips = {row.chip for row in rows if row.chip}
    return [published for published in PUBLISHED if any(_is_of(published, chip) for chip in chips)] or list(PUBLISHED)


def _is_of(published: Published, chip: str) -> bool:
    """Return whether a published result is of this chip.

    "Ascend 310" matches only the chip Ascend310. "Ascend 310P, AOE" matches all chips whose names begin with
    Ascend310P.
    """
    name = published.card.partition(",")[0].replace(" ", "")
    return chip == name or (name.endswith("P") and chip.startswith(name))


def compare_accuracy(files: Sequence[Path]) -> tuple[bool, str]:
    """Return whether all files of `test.py --json` contain the same rank-1 accuracy, and a message with the values."""
    results = {path: _rank1(path) for path in files}
    text = {path: ", ".join(f"{name} {value:.3f}" for name, value in rank1.items()) for path, rank1 in results.items()}
    agree = len({tuple(rank1.items()) for rank1 in results.values()}) == 1
    if agree:
        same = f"; equal in all {len(files)} files" if len(files) > 1 else ""
        return True, f"rank-1, identical views included: {text[files[0]]}{same}"
    each = "; ".join(f"{path.name}: {text[path]}" for path in files)
    return False, f"warning: different rank-1, identical views included: {each}"


def _values(row: Figures) -> dict[str, Any]:
    """Return the known values of a row by column."""
    chips = CARD_CHIPS.get(row.chip or "", 1)
    card = row.device * chips if row.device is not None and row.chips == 1 and chips > 1 else None
    device = {_ONE if row.chips == 1 else _ALL_CHIPS: row.device, _CARD: card}
    return {**row.latency_ms, "runtime": row.runtime, "batch": row.batch_size, "end to end": row.end_to_end, **device}


def _cell(value: str | float | None) -> str:
    if value is None or isinstance(value, str):
        return value or "-"
    return f"{value:.3f}".rstrip("0").rstrip(".") if value < 10000 else f"{value:.6g}"


def _remarks(rows: Sequence[Figures]) -> list[str]:
    remarks = []
    if any("AOE" in published.card for published in published_for(rows)):
        remarks.append("AOE: measured with an om file that AOE has tuned. Tuning makes it 1.3 to 1.4 times as fast")
    remarks.append(f"rank-1 of the published om file: {PUBLISHED_ACCURACY} % (NM, identical views included)")
    if any(not _on_host(row) and row.chip is None for row in rows):
        remarks.append(
            "the chip is unknown: an Ascend 310 card has four chips, so multiply `one chip` by 4 to compare with the "
            "published results of such a card"
        )
    if any(_on_host(row) for row in rows):
        remarks.append(
            f"{_ON_HOST}: measured on the CPU, not on an Ascend chip; `{_ONE}` excludes reading and writing files"
        )
    if any(row.runtime.startswith("ais_bench") for row in rows):
        remarks.append("ais_bench does not measure the end-to-end throughput")
    return remarks + [f"warning: no performance figures of {row.runtime}: {row.problem}" for row in rows if row.problem]


def _on_host(row: Figures) -> bool:
    return row.runtime.startswith(_ON_HOST)


def _rank1(path: Path) -> dict[str, float]:
    problem, advice = "no rank1 found", "expected a file of test.py --json"
    rank1 = read_checked(path, {"rank1": {str: {"including": float}}}, problem, advice)["rank1"]
    figures = {condition: float(values["including"]) for condition, values in rank1.items()}
    if not figures or not all(0 <= value <= 100 for value in figures.values()):
        raise UserError(f"{path}: {problem}, or not in percent; {advice}")
    return figures


def main() -> None:
    options = _parser().parse_args()
    rows = [row for path in options.files for row in read_all_figures(path, options.batch_size)]
    if options.chip:
        rows = [row if _on_host(row) else replace(row, chip=options.chip) for row in rows]
    print(table(rows))
    content: dict[str, Any] = {"rows": [asdict(row) for row in rows], "published": [p._asdict() for p in PUBLISHED]}
    if options.accuracy:
        content["accuracy_agrees"], message = compare_accuracy(options.accuracy)
        print(message)
    if options.json:
        write_json(options.json, content)


def _parser() -> CommandParser:
    usage = "%(prog)s FILE ... [OPTION ...]"
    parser = CommandParser(prog="python -m model.runtime.performance", description=__doc__, usage=usage)
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="performance files of runs; each run is a row of the table")
    add("--accuracy", nargs="+", type=Path, metavar="FILE", help="files of test.py --json whose rank-1 to compare")
    add("--batch_size", type=positive, metavar="N", help="batch size of the files that do not contain a batch size")
    add("--chip", metavar="NAME", help="name of the chip that ran the model, such as Ascend310. Default: the name in "
        "each file")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="also write the rows and the published results to this file")
    return parser


if __name__ == "__main__":
    run_command(main)
