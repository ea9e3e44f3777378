"""Two results side by side, and whether they differ by more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.common.errors import UserError
from model.common.files import read_json
from model.evaluation.bootstrap import RESAMPLES, Difference, check_pairs, compare
from model.evaluation.subject_hits import SubjectHits

METHOD = (
    f"Intervals: {RESAMPLES:,} times as many subjects were drawn with replacement, the same for both results. p: how "
    "often a coin that exchanges the two results of each subject gives as large a difference; of the conditions it is "
    "Holm's. A difference is called more than chance when p is below 0.05 and the interval does not hold 0. It is the "
    "chance in whom one tests; training again with another --seed shows the other one."
)


@dataclass(frozen=True)
class Run:
    """A result as `test.py --json` wrote it."""

    name: str
    path: Path
    hits: SubjectHits
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """`rows` of each kind (excluding and including identical views, the first where there are several views)."""

    first: Run
    second: Run
    rows: Mapping[str, Sequence[Difference]]

    @property
    def kind(self) -> str:
        return next(iter(self.rows))

    @property
    def verdict(self) -> str:
        whole = self.rows[self.kind][0]
        bounds = f"95 % interval {whole.low:+.2f} to {whole.high:+.2f}, p = {whole.p:.2g}"
        if not whole.more_than_chance:
            return (
                f"B - A is {whole.difference:+.2f} points of rank-1 ({bounds}): chance alone would do that, so neither "
                "is shown to be better."
            )
        better, worse = ("B", "A") if whole.difference > 0 else ("A", "B")
        return (
            f"{better} is better than {worse} by {abs(whole.difference):.2f} points of rank-1 ({bounds}): more than "
            "chance in whom one tests."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "a": str(self.first.path),
            "b": str(self.second.path),
            "subjects": len(self.first.hits.subjects),
            "verdict": self.verdict,
            "rows": {kind: [row.to_json() for row in rows] for kind, rows in self.rows.items()},
            "method": METHOD,
        }


def read_run(path: Path) -> Run:
    """Raises UserError when `path` is no result, or one without what each subject reached."""
    content = read_json(path)
    try:
        hits = SubjectHits.from_json(content)
        if not isinstance(content["protocol"]["name"], str):
            raise ValueError("no protocol")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError) as error:
        raise UserError(
            f"{path}: no result with the rank-1 of each subject in it; write it anew with test.py --json ({error!r})"
        ) from error
    return Run(path.stem, path, hits, content)


def compare_files(first: Path, second: Path) -> Comparison:
    runs = read_run(first), read_run(second)
    protocols = [run.content["protocol"]["name"] for run in runs]
    if protocols[0] != protocols[1]:
        raise UserError(f"{first} is of {protocols[0]}, {second} of {protocols[1]}: nothing to compare")
    check_pairs(runs[0].hits, runs[1].hits)
    kinds = ["excluding", "including"] if runs[0].hits.enrolled.sum() > 1 else ["including"]
    return Comparison(*runs, {kind: compare(runs[0].hits, runs[1].hits, kind) for kind in kinds})


def comparison_text(found: Comparison) -> str:
    lines = [f"A: {found.first.path}", f"B: {found.second.path}", f"{len(found.first.hits.subjects)} subjects"]
    for kind, rows in found.rows.items():
        lines.append(f"===Rank-1 in percent, {kind} identical views===")
        lines.append(f"{'':>6} {'A':>8} {'B':>8} {'B - A':>8}  {'95 % interval':<18} {'p':>7}  more than chance?")
        lines += [
            f"{r.condition:>6} {r.first:8.3f} {r.second:8.3f} {r.difference:+8.3f}  "
            f"{f'{r.low:+.3f} to {r.high:+.3f}':<18} {r.p:7.4f}  {answer(r)}"
            for r in rows
        ]
    return "\n".join([*lines, found.verdict])


def answer(row: Difference) -> str:
    return f"yes, {'B' if row.difference > 0 else 'A'} is better" if row.more_than_chance else "no"
