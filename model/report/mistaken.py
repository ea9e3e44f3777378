"""Sections on mistakes: whom the model takes for whom, from which views, and what the hardest ones look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np

from model.evaluation.mistakes import Confusion, LookUps, confusions, hardest, look_ups
from model.report.charts import Line, line_chart
from model.report.html import Section, folded, heads, paragraph, side_by_side, table, words_row
from model.report.material import Material
from model.report.walker import walker

PAIRS_SHOWN, SUBJECTS_SHOWN, MISTAKES_SHOWN = 15, 15, 12


def who(material: Material) -> Section:
    if material.record is None or material.index is None:
        return Section("who", "", "")
    seen = look_ups(material.record)
    found = confusions(material.record, seen, material.index.subject)
    kind = "identical views left out" if seen.identical_left_out else "there is a single view"
    missed = int(seen.missed.sum())
    text = (
        f"{missed:,} of {len(seen.missed):,} look-ups ({100 * missed / max(1, len(seen.missed)):.1f} %) found someone "
        f"else ({kind}). A look-up is one probe in the gallery of one view."
    )
    body = paragraph(text)
    if found:
        body += side_by_side([_pairs(found), _subjects(material, found)])
        body += folded("Which pairs of views go wrong most often", _views(found, seen, material))
    if material.drawn and material.result.subject_hits is not None:
        body += f'<div class="figures">{_by_subject(material)}</div>'
    return Section("who", "Who is taken for whom", body, "Who")


def _pairs(found: Sequence[Confusion]) -> str:
    rows = [
        words_row(c.subject, [c.taken_for, f"{c.times:,}", f"{100 * c.times / c.look_ups:.1f}", most_often(c)])
        for c in found[:PAIRS_SHOWN]
    ]
    caption = f"The most frequent of {len(found):,} pairs" if len(found) > PAIRS_SHOWN else "All pairs"
    names = ["taken for", "times", "% of look-ups", "most often"]
    return table(caption, heads("who", names, last_is_words=True), rows)


def most_often(confusion: Confusion) -> str:
    conditions = ", ".join(f"{name} {times:,}" for name, times in confusion.conditions.most_common())
    (probe, gallery), times = confusion.views.most_common(1)[0]
    return f"{conditions}; {probe} looked up in {gallery} ({times:,})"


def _subjects(material: Material, found: Sequence[Confusion]) -> str:
    hits = material.result.subject_hits
    of_each = hits.of_each_subject(material.kind)  # [s, c]
    mean = np.nanmean(np.where(np.isnan(of_each).all(axis=1, keepdims=True), 0, of_each), axis=1)
    others: dict[str, Confusion] = {}
    for confusion in found:
        others.setdefault(confusion.subject, confusion)
    rows = []
    for place in np.argsort(mean, kind="stable")[:SUBJECTS_SHOWN]:
        name = hits.subjects[place]
        figures = ["–" if np.isnan(x) else f"{x:.1f}" for x in of_each[place]]
        taken = f"{others[name].taken_for} ({others[name].times:,})" if name in others else "nobody"
        rows.append(words_row(name, [*figures, taken]))
    caption = f"Rank-1 (%) of the hardest people, of {len(hits.subjects):,}"
    return table(caption, heads("who", [*hits.conditions, "mostly taken for"], last_is_words=True), rows)


def _views(found: Sequence[Confusion], seen: LookUps, material: Material) -> str:
    wrong: Counter[tuple[str, str]] = Counter()
    for confusion in found:
        wrong.update(confusion.views)
    plan = material.record.plan
    asked = Counter(zip(plan.probe_view[seen.probe].tolist(), seen.view.tolist(), strict=True))
    looked_up = {(plan.views[a], plan.views[b]): n for (a, b), n in asked.items()}
    order = sorted(wrong, key=lambda pair: (-wrong[pair] / looked_up[pair], pair))[:PAIRS_SHOWN]
    rows = [
        words_row(pair[0], [pair[1], f"{wrong[pair]:,}", f"{100 * wrong[pair] / looked_up[pair]:.1f}"])
        for pair in order
    ]
    rows = [r.replace(' class="words"', "") for r in rows]
    return table("All conditions together", heads("probe view", ["gallery view", "wrong", "% of look-ups"]), rows)


def _by_subject(material: Material) -> str:
    hits = material.result.subject_hits
    of_each = hits.of_each_subject(material.kind)
    lines, words = [], []
    for place, condition in enumerate(hits.conditions):
        ordered = np.sort(of_each[:, place][~np.isnan(of_each[:, place])])
        if len(ordered):
            steps = np.linspace(0, len(ordered) - 1, min(len(ordered), 300)).round().astype(int)
            lines.append(Line(condition, 100 * (steps + 1) / len(ordered), ordered[steps], place, marked=False))
            words.append(f"{condition}: lowest {ordered[0]:.0f}, median {np.median(ordered):.0f} percent")
    return material.show(
        line_chart("people", "Each person's rank-1, from the hardest to the easiest", "; ".join(words), lines,
                   "people (%)", "rank-1 (%)", y_range=(-2, 102), at="lower right")
    )  # fmt: skip


def hardest_mistakes(material: Material) -> Section:
    if material.record is None or material.frames_of is None:
        return Section("mistakes", "", "")
    seen = look_ups(material.record)
    places = hardest(material.record, seen, material.index.subject, MISTAKES_SHOWN)
    if not len(places):
        return Section("mistakes", "", "")
    wrong = bool(seen.missed[places[0]])
    title = "The hardest mistakes" if wrong else "No mistake; the closest calls"
    text = (
        "What the model was surest of and wrong in, one of each pair of people: left the probe, in the middle whom it "
        "was taken for, right the person's nearest sequence in the same gallery."
        if wrong
        else "Every look-up was right. Here the wrong person was nearest to being taken: left the probe, in the middle "
        "the nearest other person, right the right one, which was nearer."
    )
    still = '<p class="soft"><label><input type="checkbox" id="still"> hold still</label></p>'
    cards = "".join(_card(material, seen, place, wrong) for place in places.tolist())
    body = paragraph(text) + still + f'<div class="mistakes">{cards}</div>'
    return Section("mistakes", title, body, "Mistakes")


def _card(material: Material, seen: LookUps, place: int, wrong: bool) -> str:
    record, index = material.record, material.index
    probe, view = seen.probe[place], seen.view[place]
    rows = (
        ("probe", "", int(record.plan.probe_rows[probe])),
        ("taken for" if wrong else "nearest other", "taken", int(record.wrong_row[probe, view])),
        ("right one", "right", int(record.mate_row[probe, view])),
    )
    figures = []
    for name, kind, position in rows:
        labels = index.name(position)
        picture = walker(material.frames_of(position), f"{name}: {labels}")
        text = escape(labels).replace("/", "/<wbr>")
        figures.append(f'<div class="{kind}">{picture}<b>{name}</b><span>{text}</span></div>')
    mate, other = record.mate_distance[probe, view], record.wrong_distance[probe, view]
    condition = record.plan.conditions[record.plan.probe_condition[probe]]
    text = f"{condition}: distance {other:.2f}, to the right one {mate:.2f}"
    return f'<div class="mistake"><p>{escape(text)}</p><div class="three">{"".join(figures)}</div></div>'
