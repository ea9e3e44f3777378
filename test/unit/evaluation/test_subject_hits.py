"""Hits per subject: their sums equal the tables, JSON restores them, and loops give the same counts."""

import json

import numpy as np
import pytest
from people import made_embeddings, made_index
from small_results import ragged

from model.evaluation.cross_view import evaluate_index
from model.evaluation.subject_hits import SubjectHits


def complete(**labels):
    index = made_index(**labels)
    return evaluate_index(made_embeddings(index), index, "CASIA-B")


def with_gaps():
    index, embeddings = ragged()
    return evaluate_index(embeddings, index, "CASIA-B")


RESULTS = {"complete": complete(), "with gaps": with_gaps(), "one view": complete(views=("090",))}


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_unit_weights_give_the_printed_rank1(result):
    hits = result.subject_hits
    for kind in ("including", "excluding"):
        printed = getattr(result, kind)(rounded=False)
        ours = hits.rank1(kind, np.ones(len(hits.subjects)))
        np.testing.assert_allclose(ours, list(printed.values()), rtol=1e-12)


def test_weights_repeat_subjects():
    """A weight of 2 has the same effect as a second subject with the same embeddings."""
    hits = RESULTS["complete"].subject_hits
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


def assert_equal_hits(ours: SubjectHits, theirs: SubjectHits) -> None:
    for name in ("subjects", "conditions", "views", "enrolled", "probes", "including", "excluding"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_json_round_trip(result):
    assert_equal_hits(SubjectHits.from_json(json.loads(json.dumps(result.to_json()))), result.subject_hits)


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
        assert result.subject_hits.percentages("excluding", axis=2)[s, 2] == pytest.approx(100 * np.mean(right))


def test_subjects_are_in_natural_order_also_from_older_files():
    result = complete(subjects=("2", "10", "1"))
    own = json.loads(json.dumps(result.to_json()))
    per_subject = own["per_subject"]
    assert per_subject["subjects"] == ["1", "2", "10"]
    older = [0, 2, 1]  # 1, 10, 2
    per_subject["subjects"] = [per_subject["subjects"][i] for i in older]
    for tables in per_subject["conditions"].values():
        for kind, rows in tables.items():
            tables[kind] = [rows[i] for i in older]
    assert_equal_hits(SubjectHits.from_json(own), result.subject_hits)
