"""Hits per subject: their sums equal the tables, JSON restores them, and loops give the same counts."""

from __future__ import annotations

import json

import numpy as np
import pytest
from people import made_embeddings, made_index
from small_results import ragged

from model.evaluation.cross_view import evaluate_index
from model.evaluation.subject_hits import SubjectHits


def results():
    index = made_index()
    yield evaluate_index(made_embeddings(index), index, "CASIA-B")
    index, embeddings = ragged()
    yield evaluate_index(embeddings, index, "CASIA-B")
    index = made_index(views=("090",))
    yield evaluate_index(made_embeddings(index), index, "CASIA-B")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_unit_weights_give_the_printed_rank1(number):
    result = list(results())[number]
    hits = result.subject_hits
    for kind, precise in (
        ("including", result.including(rounded=False)),
        ("excluding", result.excluding(rounded=False)),
    ):
        ours = hits.rank1(kind, np.ones(len(hits.subjects)))
        np.testing.assert_allclose(ours, list(precise.values()), rtol=1e-12)


def test_weights_repeat_subjects():
    """A weight of 2 has the same effect as a second subject with the same embeddings."""
    hits = next(results()).subject_hits
    weights = np.array([2.0, 0, 1, 1, 3])
    for kind in ("including", "excluding"):
        expected = []
        for c in range(len(hits.conditions)):
            per_view = []
            for v in range(len(hits.views)):
                found = sum(w * getattr(hits, kind)[s, c, v] for s, w in enumerate(weights))
                look_ups = sum(w * hits.look_ups(kind)[s, c, v] for s, w in enumerate(weights))
                per_view.append(100 * found / look_ups)
            expected.append(sum(per_view) / len(per_view))
        np.testing.assert_allclose(hits.rank1(kind, weights), expected)
        np.testing.assert_allclose(hits.rank1(kind, np.stack([weights, np.ones(5)]))[0], expected)


def test_json_round_trip():
    for result in results():
        own = json.loads(json.dumps(result.to_json()))
        back = SubjectHits.from_json(own)
        for name in ("subjects", "conditions", "views"):
            assert getattr(back, name) == getattr(result.subject_hits, name)
        for name in ("enrolled", "probes", "including", "excluding"):
            np.testing.assert_array_equal(getattr(back, name), getattr(result.subject_hits, name))


def test_hits_of_each_subject_equal_a_loop():
    index = made_index(("a", "b", "c"), views=("000", "090"))
    embeddings = made_embeddings(index, seed=3)
    result = evaluate_index(embeddings, index, "CASIA-B")
    x = embeddings.flatten(1).numpy()
    gallery = [i for i in range(len(index)) if index.seq_type[i] in ("nm-01", "nm-02", "nm-03", "nm-04")]
    for s, subject in enumerate(("a", "b", "c")):
        right = []
        for p in np.flatnonzero((index.subject == subject) & np.isin(index.seq_type, ("cl-01", "cl-02"))):
            for view in {"000", "090"} - {str(index.view[p])}:
                near = min((np.linalg.norm(x[p] - x[g]), g) for g in gallery if index.view[g] == view)[1]
                right.append(index.subject[near] == subject)
        assert result.subject_hits.of_each_subject("excluding")[s, 2] == pytest.approx(100 * np.mean(right))


def test_subjects_are_in_natural_order_also_from_older_files():
    index = made_index(subjects=("2", "10", "1"))
    result = evaluate_index(made_embeddings(index), index, "CASIA-B")
    own = json.loads(json.dumps(result.to_json()))
    assert own["per_subject"]["subjects"] == ["1", "2", "10"]
    per_subject = own["per_subject"]
    older = [0, 2, 1]  # 1, 10, 2
    per_subject["subjects"] = [per_subject["subjects"][i] for i in older]
    for tables in per_subject["conditions"].values():
        for kind, rows in tables.items():
            tables[kind] = [rows[i] for i in older]
    back = SubjectHits.from_json(own)
    assert back.subjects == ("1", "2", "10")
    for name in ("probes", "including", "excluding"):
        np.testing.assert_array_equal(getattr(back, name), getattr(result.subject_hits, name))
