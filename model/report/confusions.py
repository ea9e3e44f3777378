"""Compute the report's sections on mistakes: confused people, difficult views, and silhouettes of hard mistakes."""

from collections import Counter
from typing import Any

import numpy as np

from model.evaluation.mistakes import Confusion, hardest
from model.evaluation.subject_hits import mean_of_known
from model.report.animation import film_strip
from model.report.charts import Chart, Line, line_chart
from model.report.report_inputs import ReportInputs

MAX_PAIRS, MAX_SUBJECTS, MAX_MISTAKES = 15, 15, 12
MAX_CURVE_POINTS = 300


def confusion_tables(inputs: ReportInputs) -> dict[str, Any] | None:
    """Tables of confused people, hardest people and hardest view pairs; None without distances or with one person."""
    if inputs.distances is None or inputs.result.gallery_subjects == 1:
        return None
    most_frequent = inputs.confusions[:MAX_PAIRS]
    return {
        "pairs": [[c.subject, c.taken_for, c.times, 100 * c.times / c.look_ups, _breakdown(c)] for c in most_frequent],
        "subjects": _hardest_subjects(inputs) if most_frequent else [],
        "view_pairs": _hardest_view_pairs(inputs),
        "charts": [_rank1_curve(inputs)] if inputs.with_figures else [],
    }


def _breakdown(confusion: Confusion) -> str:
    """Return a text with the counts of a confusion per condition and its most frequent pair of views."""
    conditions = ", ".join(f"{name} {times:,}" for name, times in confusion.conditions.most_common())
    (probe, gallery), times = confusion.views.most_common(1)[0]
    return f"{conditions}; {probe} → {gallery} ({times:,})"


def _hardest_subjects(inputs: ReportInputs) -> list[list[Any]]:
    """Return table rows of the people with the lowest mean rank-1: name, rank-1 per condition, main confusion."""
    hits = inputs.result.subject_hits
    of_each = hits.percentages(inputs.kind, axis=2)  # [s, c]
    mean = np.nan_to_num(mean_of_known(of_each))
    most_frequent = {confusion.subject: confusion for confusion in reversed(inputs.confusions)}
    rows = []
    for i in np.argsort(mean, kind="stable")[:MAX_SUBJECTS]:
        confusion = most_frequent.get(hits.subjects[i])
        taken_for = f"{confusion.taken_for} ({confusion.times:,})" if confusion else "nobody"
        rows.append([hits.subjects[i], *of_each[i], taken_for])
    return rows


def _hardest_view_pairs(inputs: ReportInputs) -> list[list[Any]]:
    """Return table rows of the pairs of probe view and gallery view with the highest shares of wrong look-ups."""
    wrong: Counter[tuple[str, str]] = Counter()
    for confusion in inputs.confusions:
        wrong.update(confusion.views)
    plan, look_ups = inputs.distances.plan, inputs.look_ups
    counts = Counter(zip(plan.probe_view[look_ups.probe].tolist(), look_ups.view.tolist(), strict=True))
    total = {(plan.views[probe], plan.views[gallery]): n for (probe, gallery), n in counts.items()}
    order = sorted(wrong, key=lambda pair: (-wrong[pair] / total[pair], pair))[:MAX_PAIRS]
    return [[*pair, wrong[pair], 100 * wrong[pair] / total[pair]] for pair in order]


def _rank1_curve(inputs: ReportInputs) -> Chart:
    """Draw the rank-1 of all subjects in ascending order, one curve per condition."""
    hits = inputs.result.subject_hits
    lines, descriptions = [], []
    columns = zip(hits.conditions, hits.percentages(inputs.kind, axis=2).T, strict=True)
    for style, (condition, rank1) in enumerate(columns):
        ordered = np.sort(rank1[~np.isnan(rank1)])
        if len(ordered):
            steps = np.linspace(0, len(ordered) - 1, min(len(ordered), MAX_CURVE_POINTS)).round().astype(int)
            lines.append(Line(condition, 100 * (steps + 1) / len(ordered), ordered[steps], style))
            descriptions.append(f"{condition}: lowest {ordered[0]:.0f}, median {np.median(ordered):.0f} percent")
    settings = {"ylim": (-2, 102), "xlabel": "people (%)", "ylabel": "rank-1 (%)"}
    title = "Rank-1 per person, in ascending order"
    return line_chart("people", title, "; ".join(descriptions), lines, settings, "lower right")


def hardest_mistakes(inputs: ReportInputs) -> dict[str, Any] | None:
    """Silhouettes of the hardest mistakes, or of the closest decisions if all look-ups are correct.

    None without distances, or if no look-up has both a mate and an impostor.
    """
    if inputs.distances is None:
        return None
    positions = hardest(inputs.distances, inputs.look_ups, inputs.embedded.index.subject, MAX_MISTAKES).tolist()
    if not positions:
        return None
    wrong = bool(inputs.look_ups.missed[positions[0]])
    return {"wrong": wrong, "cards": [_card(inputs, position, wrong) for position in positions]}


def _card(inputs: ReportInputs, position: int, wrong: bool) -> dict[str, Any]:
    """Return the probe, the nearest sequence of another person and the nearest sequence of the probe's person."""
    distances, (index, _, frames_of) = inputs.distances, inputs.embedded
    probe, view = inputs.look_ups.probe[position], inputs.look_ups.view[position]
    rows = (
        ("probe", "", distances.plan.probe_rows[probe]),
        ("taken for" if wrong else "nearest other", "taken", distances.wrong_row[probe, view]),
        ("correct", "right", distances.mate_row[probe, view]),
    )
    sequences = [
        (role, css_class, index.name(int(row)), *film_strip(frames_of(int(row)))) for role, css_class, row in rows
    ]
    return {
        "condition": distances.plan.conditions[distances.plan.probe_condition[probe]],
        "distance": distances.wrong_distance[probe, view],
        "distance_to_match": distances.mate_distance[probe, view],
        "sequences": sequences,
    }
