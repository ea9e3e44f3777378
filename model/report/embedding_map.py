"""Section on the embeddings: a few hundred of them as points on a map, near where their distances are small."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from model.data.index import SequenceIndex
from model.evaluation.mistakes import confusions, look_ups
from model.report.charts import MARKERS, WIDE, Chart
from model.report.html import Section, paragraph
from model.report.material import Material
from model.report.palette import SERIES

SUBJECTS, SEQUENCES = 10, 600
COMPONENTS = 50  # of PCA, before t-SNE
PERPLEXITY = 30.0


def embedding_map(material: Material) -> Section:
    """Subjects who are confused most, by colour and name, and conditions by shape."""
    if material.embeddings is None or material.record is None:
        return Section("map", "", "")
    index = material.index
    subjects = _subjects_to_show(material)
    rows = _rows_to_show(index, subjects)
    if len(rows) < 3:
        return Section("map", "", "")
    points = material.embeddings[rows].detach().flatten(1).float().cpu().numpy()
    places, method = project(points)
    names = index.subject[rows]
    conditions = np.array([name.partition("-")[0].upper() for name in index.seq_type[rows]])
    order = [c for c in (*material.result.conditions, *sorted(set(conditions.tolist()))) if c in conditions]
    shapes = dict(zip(dict.fromkeys(order), MARKERS, strict=False))
    says = f"{method} of {len(rows)} embeddings of {len(subjects)} people: {', '.join(subjects)}"
    chart = Chart("map", f"{method} of embeddings", says, _drawing(places, names, conditions, subjects, shapes), WIDE)
    text = (
        f"{len(rows)} sequences of the {len(subjects)} people who are confused most (colour and name), by condition "
        f"(shape). Groups that overlap are people who are hard to tell apart; {method} keeps neighbours together, and "
        "how far apart groups lie means little."
    )
    return Section("map", "The embeddings as a map", paragraph(text) + material.show(chart), "Map")


def project(points: np.ndarray) -> tuple[np.ndarray, str]:
    """`points` [n, d] on a plane, [n, 2], and by what: t-SNE of the first principal components, or these alone."""
    centred = points - points.mean(axis=0)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    components = left * lengths
    if len(points) <= 10:
        return components[:, :2], "PCA"
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(components[:, :COMPONENTS])
    return places, "t-SNE"


def _subjects_to_show(material: Material) -> list[str]:
    seen = look_ups(material.record)
    chosen: dict[str, None] = {}
    for confusion in confusions(material.record, seen, material.index.subject):
        chosen.update({confusion.subject: None, confusion.taken_for: None})
    chosen.update(dict.fromkeys(material.index.subjects))
    return sorted(list(chosen)[:SUBJECTS])


def _rows_to_show(index: SequenceIndex, subjects: list[str]) -> np.ndarray:
    rows = np.flatnonzero(np.isin(index.subject, subjects))
    # By random, because an even step through takes and views would meet some of them only.
    chosen = np.random.default_rng(0).permutation(len(rows))[:SEQUENCES]
    return rows[np.sort(chosen)]


def _drawing(
    places: np.ndarray, names: np.ndarray, conditions: np.ndarray, subjects: list[str], shapes: Mapping[str, str]
):
    def draw(axes, ink: Mapping[str, str]) -> None:
        for number, subject in enumerate(subjects):
            colour = ink[SERIES[number % len(SERIES)]]
            for condition, shape in shapes.items():
                own = (names == subject) & (conditions == condition)
                axes.scatter(*places[own].T, s=16, marker=shape, facecolors="none", edgecolors=colour, linewidths=0.9)
        for number, subject in enumerate(subjects):
            middle = np.median(places[names == subject], axis=0)
            box = {
                "boxstyle": "round,pad=0.15",
                "facecolor": ink["page"],
                "edgecolor": ink[SERIES[number % len(SERIES)]],
            }
            axes.text(*middle, subject, ha="center", va="center", fontsize=9, fontweight="bold", bbox=box)
        for condition, shape in shapes.items():
            axes.scatter([], [], s=22, marker=shape, facecolors="none", edgecolors=ink["text"], label=condition)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=len(shapes))
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        axes.spines[["left", "bottom"]].set_visible(False)

    return draw
