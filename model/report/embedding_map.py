"""Compute the report's section on the embeddings: a two-dimensional t-SNE map of a few hundred embeddings."""

from collections.abc import Mapping
from itertools import cycle, product
from typing import Any

import numpy as np

from model.common.natural_order import natural_key
from model.report.charts import MARKERS, WIDE, Chart
from model.report.palette import SERIES
from model.report.report_inputs import ReportInputs

MAX_SUBJECTS, MAX_SEQUENCES = len(SERIES), 600
COMPONENTS = 50  # number of principal components that are the input of t-SNE
PERPLEXITY = 30.0
MIN_TSNE_POINTS = 11  # with fewer points, the map shows two principal components


def embedding_map(inputs: ReportInputs) -> dict[str, Any] | None:
    """Map of embeddings of the most confused subjects; None without distances or with fewer than three embeddings.

    Colours and names show the subjects, and marker shapes show the conditions.
    """
    if inputs.distances is None:
        return None
    index = inputs.embedded.index
    subjects = _most_confused_subjects(inputs)
    rows = np.flatnonzero(np.isin(index.subject, subjects))
    # Choose rows at random, because every n-th row could belong to the same takes or views.
    rows = rows[np.sort(np.random.default_rng(0).permutation(len(rows))[:MAX_SEQUENCES])]
    if len(rows) < 3:
        return None
    points, method = project(inputs.embedded.embeddings[rows].detach().flatten(1).float().cpu().numpy())
    conditions = np.array([name.partition("-")[0].upper() for name in index.seq_type[rows]])
    # The conditions of the probes come first, so that each of them has the same marker in every report.
    order = [c for c in (*inputs.result.conditions, *sorted(set(conditions.tolist()))) if c in conditions]
    markers = dict(zip(dict.fromkeys(order), cycle(MARKERS)))
    coloured = list(zip(subjects, SERIES, strict=False))
    description = f"{method} of {len(rows)} embeddings of {len(subjects)} people: {', '.join(subjects)}"
    names = index.subject[rows]

    def draw(axes, colours: Mapping[str, str]) -> None:
        # One colour per subject, one marker per condition.
        for (subject, role), (condition, marker) in product(coloured, markers.items()):
            x, y = points[(names == subject) & (conditions == condition)].T
            axes.scatter(x, y, s=16, marker=marker, facecolors="none", edgecolors=colours[role], linewidths=0.9)
        # Draw the names after all points, so that no point covers a name.
        for subject, role in coloured:
            centre = np.median(points[names == subject], axis=0)
            box = {"boxstyle": "round,pad=0.15", "facecolor": colours["page"], "edgecolor": colours[role]}
            axes.text(*centre, subject, ha="center", va="center", fontsize=9, fontweight="bold", bbox=box)
        for condition, marker in markers.items():
            axes.scatter([], [], s=22, marker=marker, facecolors="none", edgecolors=colours["text"], label=condition)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=min(5, len(markers)))
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[["left", "bottom"]].set_visible(False)

    return {
        "sequences": len(rows),
        "subjects": len(subjects),
        "method": method,
        "charts": [Chart("map", f"{method} of embeddings", description, draw, WIDE)],
    }


def project(points: np.ndarray) -> tuple[np.ndarray, str]:
    """Project `points` [n, d] onto a plane. Return [n, 2] and the method: "t-SNE", or "PCA" for few points."""
    centred = np.float64(points - points.mean(axis=0))
    # d is much larger than n, so the eigenvectors of the n x n products are faster than a singular value decomposition
    # (0.1 instead of 2.8 s for 600 embeddings).
    squares, directions = np.linalg.eigh(centred @ centred.T)  # eigenvalues in increasing order
    components = (directions * np.sqrt(squares.clip(min=0)))[:, ::-1]
    if len(points) < MIN_TSNE_POINTS:
        return components[:, :2], "PCA"
    from sklearn.manifold import TSNE  # takes seconds to import
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=0)
    # t-SNE takes thousands of short steps, in which threads mostly wait for each other. On two busy cores, two threads
    # took 20 CPU seconds, and one thread took 3 CPU seconds.
    with threadpool_limits(1):
        return tsne.fit_transform(components[:, :COMPONENTS]), "t-SNE"


def _most_confused_subjects(inputs: ReportInputs) -> list[str]:
    """Return the names of at most `MAX_SUBJECTS` subjects with the most frequent confusions, in natural order."""
    confused = [name for confusion in inputs.confusions for name in (confusion.subject, confusion.taken_for)]
    return sorted(list(dict.fromkeys([*confused, *inputs.embedded.index.subjects]))[:MAX_SUBJECTS], key=natural_key)
