"""Test the printed text, the files and the page without figures of a result."""

import csv
import functools
import json
import logging
import signal
import sys

import numpy as np
import pytest
from html_outline import check_page
from people import TAKES, made_embeddings, made_index

from model.evaluation.cross_view import evaluate_index
from model.evaluation.protocols import protocol_of
from model.evaluation.result import CrossViewResult
from model.report.page import report_page
from model.report.report_inputs import ReportInputs
from model.report.tables import result_text, write_results

DETAILS = {"command": "test.py --iter 80000 <now>", "config": {"lr": 1e-4, "best": float("nan")}}


@functools.cache
def result_of(dataset: str = "CASIA-B", views: tuple[str, ...] = ("000", "018", "090"), takes=TAKES) -> CrossViewResult:
    index = made_index("abcdefg", takes, views)
    return evaluate_index(made_embeddings(index, 0.9, seed=4), index, dataset)


def test_the_three_blocks_are_printed_in_order():
    result = result_of()
    lines = result_text(result).splitlines()
    expected = []
    for kind, figures in (("Include", result.including()), ("Exclude", result.excluding())):
        text = ",\t".join(f"{condition}: {value:.3f}" for condition, value in figures.items())
        expected += [f"===Rank-1 ({kind} identical-view cases)===", text]
    assert lines[:4] == expected
    assert lines[4] == "===Rank-1 of each angle (Exclude identical-view cases)==="
    assert lines[5].split()[0] == "view:" and [v.strip("[]") for v in lines[5].split()[-3:]] == list(result.views)
    printed = [float(v) for v in lines[7].split("[")[1].strip("]").split()]
    assert printed == pytest.approx(list(result.per_probe_view()["BG"].values()), abs=0.005)


def test_rank_5_and_map_are_printed_including_and_excluding_identical_views():
    result = result_of()
    lines = result_text(result).splitlines()
    for block, including, excluding in (
        ("Rank-5", result.including(5)["CL"], result.excluding(5)["CL"]),
        ("mAP", *result.mean_average_precision()["CL"].values()),
    ):
        first, second = lines[lines.index(f"==={block}===") + 1 :][:2]
        assert first.startswith("including identical views\t") and f"CL: {including:.3f}" in first
        assert second.startswith("excluding identical views\t") and f"CL: {excluding:.3f}" in second


def test_published_figures_are_printed_next_to_ours_if_the_protocol_has_any():
    text = result_text(result_of())
    lines = text.splitlines()
    ours, original, om = (next(x for x in lines if x.startswith(label)) for label in ("ours", "original", "om on"))
    assert f"{result_of().including()['NM']:.3f}" in ours
    assert original.split("|")[1].split() == ["95.405", "88.284", "72.041"]
    assert original.split("|")[2].split() == ["94.964", "87.239", "70.355"]
    assert om.split("|")[1].split() == ["95.512", "-", "-"] and "93.744" in text
    assert "95.405" not in result_text(result_of("Synthetic"))


def test_a_single_view_is_named_instead_of_nan_and_notes_are_printed():
    text = result_text(result_of(views=("090",)))
    assert "nan" not in text.lower() and "single view" in text
    assert "note: condition CL is skipped" in result_text(result_of(takes=TAKES[:8]))


def test_files_hold_the_result(tmp_path):
    result = result_of()
    written = write_results(result, tmp_path / "new" / "folder", "run", DETAILS)
    value = json.loads(written["json"].read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert value["rank1"]["NM"]["including"] == result.including()["NM"]
    assert value["details"]["command"] == DETAILS["command"] and value["details"]["config"]["best"] is None
    with written["csv"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 3 * 3
    ranks = [f"rank{k}" for k in range(1, 21)]
    assert list(rows[0]) == ["condition", "probe_view", "gallery_view", *ranks, "map", "probes", "gallery"]
    row = next(r for r in rows if (r["condition"], r["probe_view"], r["gallery_view"]) == ("BG", "018", "090"))
    assert float(row["rank3"]) == result.accuracy[1, 1, 2, 2] and float(row["map"]) == result.average_precision[1, 1, 2]
    assert (row["probes"], row["gallery"]) == ("14", "28")
    names = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert names == {path.name for path in written.values()}, "a temporary file is left"


def test_netcdf_keeps_values_and_labels(tmp_path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("netCDF4")
    result = result_of()
    path = write_results(result, tmp_path, "run", DETAILS)["nc"]
    with xarray.open_dataset(path, engine="netcdf4") as dataset:
        np.testing.assert_array_equal(dataset["accuracy"], result.accuracy)
        assert dataset["condition"].values.tolist() == ["NM", "BG", "CL"]
        assert dataset["probe_view"].values.tolist() == ["000", "018", "090"]
        assert json.loads(dataset.attrs["details"])["command"] == DETAILS["command"]


def test_an_interrupt_inside_the_locks_of_xarray_does_not_block(tmp_path, monkeypatch):
    """Ctrl-C arrives immediately after a lock was acquired, while the file is written."""
    locks = pytest.importorskip("xarray.backends.locks")
    acquire, acquired, interrupted = locks.acquire, [], []

    def acquire_and_interrupt(lock, **options):
        acquired.append(acquire(lock, **options))
        if len(acquired) in interrupted:
            signal.raise_signal(signal.SIGINT)
        return acquired[-1]

    monkeypatch.setattr(locks, "acquire", acquire_and_interrupt)
    write_results(result_of(), tmp_path, "whole", DETAILS)
    interrupted.append(len(acquired) + len(acquired) // 2)
    previous = signal.signal(signal.SIGALRM, lambda number, frame: pytest.fail("still waiting"))
    signal.alarm(20)
    try:
        with pytest.raises(KeyboardInterrupt):
            write_results(result_of(), tmp_path, "r", DETAILS)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    assert not (tmp_path / "r.nc").exists()


@pytest.mark.parametrize("package", ["xarray", "netCDF4"])
def test_without_its_packages_netcdf_is_skipped_with_a_warning(tmp_path, monkeypatch, caplog, package):
    monkeypatch.setitem(sys.modules, package, None)  # its import raises ImportError
    with caplog.at_level(logging.WARNING):
        written = write_results(result_of(), tmp_path, "run", DETAILS)
    assert set(written) == {"json", "csv", "html"}
    assert "run.nc is not written: xarray or netCDF4 cannot be imported" in caplog.text


@pytest.mark.parametrize("views", [("000", "018", "090"), ("090",)])
def test_the_page_is_well_formed_and_self_contained(views):
    result = result_of(views=views)
    page = report_page(ReportInputs(result, DETAILS)).html
    outline = check_page(page)
    sections = [attributes["id"] for tag, attributes in outline.tags if tag == "section"]
    assert sections[-2:] == ["ranks", "made"] and len(sections) == len(set(sections))
    assert "test.py --iter 80000 <now>" in outline.text, "escaping does not change the text"
    assert "url(" not in page, "a page without figures has images"
    cells = [a for tag, a in outline.tags if tag == "td" and "title" in a]
    np.testing.assert_allclose([float(a["title"]) for a in cells], result.cells().flatten())
    assert sum(a.get("class") == "identical" for a in cells) == 3 * len(views)


def test_published_figures_per_view_have_the_published_means():
    original = protocol_of("CASIA-B").published[0]
    assert "AAAI 2019" in original.source
    for condition, of_view in original.per_view.items():
        assert len(of_view) == 11
        assert np.mean(list(of_view.values())) == pytest.approx(original.excluding[condition], abs=0.006)
