"""Means, JSON and xarray of a result."""

import json

import numpy as np
import pytest
from people import made_embeddings, made_index

from model.evaluation.cross_view import evaluate_index
from model.evaluation.result import CrossViewResult


def result_of(views: tuple[str, ...]) -> CrossViewResult:
    index = made_index("abc", views=views)
    return evaluate_index(made_embeddings(index), index, "CASIA-B", ranks=5)


@pytest.fixture(scope="module")
def pair() -> CrossViewResult:
    return result_of(("000", "018"))


def test_cells_are_rounded_before_averaging():
    # There are six probes per cell, so hits / 6 needs rounding.
    result = result_of(("000", "018", "036"))
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


@pytest.mark.parametrize("rank", [0, 6])
def test_rank_out_of_range_is_rejected(pair, rank):
    with pytest.raises(ValueError, match="rank must be 1 to 5"):
        pair.including(rank)
