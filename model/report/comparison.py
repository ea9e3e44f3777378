"""Compare two results, and decide whether their difference is statistically significant."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.common.errors import UserError
from model.common.schema import read_checked
from model.evaluation.bootstrap import RESAMPLES, Difference, check_pairs, compare
from model.evaluation.subject_hits import SubjectHits

METHOD = (
    f"Intervals: {RESAMPLES:,} bootstrap resamples of the subjects, the same for both results. p: permutation test "
    "that swaps the two results of each subject at random; the p-values of the conditions are corrected by Holm's "
    "method. A difference is significant if p is below 0.05 and the interval excludes 0. The interval and p measure "
    "chance in the choice of the test subjects. To measure chance in training, train again with a different --seed."
)


@dataclass(frozen=True)
class Run:
    """A result as `test.py --json` writes it."""

    path: Path
    hits: SubjectHits
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Two results and the rows of their comparison.

    `rows` maps each kind of rank-1, "excluding" and "including" identical views, to one row for the mean and one row
    per condition. "excluding" is the first kind. With a single view, "including" is the only kind.
    """

    first: Run
    second: Run
    rows: Mapping[str, Sequence[Difference]]

    @property
    def kind(self) -> str:
        return next(iter(self.rows))

    @property
    def verdict(self) -> str:
        """The difference in mean rank-1, in one sentence."""
        mean = self.rows[self.kind][0]
        bounds = f"95 % interval {mean.low:+.2f} to {mean.high:+.2f}, p = {mean.p:.2g}"
        if not mean.more_than_chance:
            return (
                f"B - A is {mean.difference:+.2f} points of rank-1 ({bounds}): the difference is not significant, so "
                "neither result is shown to be better."
            )
        better, worse = ("B", "A") if mean.difference > 0 else ("A", "B")
        return (
            f"{better} is better than {worse} by {abs(mean.difference):.2f} points of rank-1 ({bounds}): the "
            "difference is significant."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "a": str(self.first.path),
            "b": str(self.second.path),
            "subjects": len(self.first.hits.subjects),
            "verdict": self.verdict,
            "rows": {kind: list(map(asdict, rows)) for kind, rows in self.rows.items()},
            "method": METHOD,
        }


def read_run(path: Path) -> Run:
    """Read a result of `test.py --json`.

    Raises:
        UserError: the file is not a result, or has no rank-1 per subject.
    """
    problem, advice = "not a result with the rank-1 of each subject", "write it again with test.py --json"
    content = read_checked(path, {"protocol": {"name": str}}, problem, advice)
    try:
        hits = SubjectHits.from_json(content)
    except ValueError as error:
        raise UserError(f"{path}: {problem} ({error}); {advice}") from error
    return Run(path, hits, content)


def compare_files(first: Path, second: Path) -> Comparison:
    """Compare two results of `test.py --json` that evaluate the same probes.

    Raises:
        UserError: a file is not a result, or the results have different protocols or different probes.
    """
    runs = read_run(first), read_run(second)
    protocols = [run.content["protocol"] for run in runs]
    if any(protocols[0].get(key) != protocols[1].get(key) for key in ("name", "gallery", "probes")):
        pair = f"{first} ({protocols[0]['name']}) with {second} ({protocols[1]['name']})"
        raise UserError(
            f"cannot compare {pair}: the protocols differ; evaluate both with the same --dataset, --gallery and --probe"
        )
    check_pairs(runs[0].hits, runs[1].hits)
    kinds = ["excluding", "including"] if runs[0].hits.enrolled.sum() > 1 else ["including"]
    return Comparison(*runs, {kind: compare(runs[0].hits, runs[1].hits, kind) for kind in kinds})


def comparison_text(comparison: Comparison) -> str:
    """Return the comparison as text: one table per kind of rank-1, and the verdict."""
    first, second = comparison.first, comparison.second
    lines = [f"A: {first.path}", f"B: {second.path}", f"{len(first.hits.subjects)} subjects"]
    for kind, rows in comparison.rows.items():
        lines.append(f"===Rank-1 in percent, {kind} identical views===")
        lines.append(f"{'':>6} {'A':>8} {'B':>8} {'B - A':>8}  {'95 % interval':<18} {'p':>7}  significant?")
        lines += [
            f"{r.condition:>6} {r.first:8.3f} {r.second:8.3f} {r.difference:+8.3f}  "
            f"{f'{r.low:+.3f} to {r.high:+.3f}':<18} {r.p:7.4f}  {answer(r)}"
            for r in rows
        ]
    return "\n".join([*lines, comparison.verdict])


def answer(row: Difference) -> str:
    """Return whether the difference is significant and, if so, which result is better."""
    return f"yes, {'B' if row.difference > 0 else 'A'} is better" if row.more_than_chance else "no"
