"""Test results: means, JSON, xarray, and the hits of each subject, which give the same rank-1 as the tables."""

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
    """A weight of 2 has the same effect as counting the subject twice."""
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


# Means, JSON and xarray


@pytest.fixture(scope="module")
def pair():
    return complete(subjects="abc", views=("000", "018"))


def test_cells_are_rounded_before_averaging():
    # There are six probes per cell, so hits / 6 needs rounding.
    result = complete(subjects="abc", views=("000", "018", "036"))
    cells = result.accuracy[0, :, :, 0]
    assert (np.round(cells, 2) != cells).any()
    assert result.including()["NM"] == pytest.approx(np.round(cells, 2).mean(), abs=1e-12)
    assert result.including(rounded=False)["NM"] == pytest.approx(cells.mean(), abs=1e-12)
    precision = result.average_precision[0]
    expected = {"including": precision.mean(), "excluding": precision[~np.eye(3, dtype=bool)].mean()}
    assert result.mean_average_precision(rounded=False)["NM"] == pytest.approx(expected)


def test_json_contains_all_documented_keys(pair):
    value = json.loads(json.dumps(pair.to_json(), allow_nan=False))
    assert value["rank1"]["BG"]["including"] == pair.including()["BG"]
    assert value["rank1"]["BG"]["per_probe_view"] == pair.per_probe_view()["BG"]
    np.testing.assert_array_equal(value["rank1"]["CL"]["matrix"], np.round(pair.accuracy[2, :, :, 0], 2))
    np.testing.assert_array_equal(value["rank1"]["CL"]["full_precision"]["matrix"], pair.accuracy[2, :, :, 0])
    for k in range(1, 6):
        assert value["rank"][str(k)]["NM"]["excluding"] == pair.excluding(k)["NM"]
    assert value["map"]["NM"]["including"] == pair.mean_average_precision()["NM"]["including"]
    assert value["views"] == ["000", "018"] and value["conditions"] == ["NM", "BG", "CL"]
    assert value["protocol"]["name"] == "CASIA-B" and "including" in value["identical_views"]
    assert value["probes"]["NM"] == {"000": 6, "018": 6} and value["galleries"] == {"000": 12, "018": 12}


def test_xarray_axes_are_labelled(pair):
    pytest.importorskip("xarray")
    cell = pair.to_xarray()["accuracy"].sel(condition="BG", probe_view="018", gallery_view="000", rank=2)
    assert float(cell) == pair.accuracy[1, 1, 0, 1]


def test_rank_out_of_range_is_rejected(pair):
    for rank in (0, pair.ranks + 1):
        with pytest.raises(ValueError, match=f"rank must be 1 to {pair.ranks}"):
            pair.including(rank)
