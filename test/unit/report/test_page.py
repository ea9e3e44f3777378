"""Test the page with figures: its content against simple counts, its size, and its appearance in a browser."""

import sys
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from browser import browser
from html_outline import check_page
from matplotlib.figure import Figure
from people import made_embeddings, made_frames, made_index
from PIL import Image
from small_results import write_training_log

from model.common.errors import UserError
from model.data.index import SequenceIndex
from model.evaluation.cross_view import evaluate_index
from model.evaluation.distance_statistics import DistanceStatistics
from model.evaluation.mistakes import hardest
from model.evaluation.protocols import Protocol, protocol_of
from model.evaluation.streaming import Streaming
from model.report.charts import check_matplotlib
from model.report.embedding_map import embedding_map
from model.report.page import report_page, write_page, write_report
from model.report.palette import LIGHT
from model.report.report_inputs import EmbeddedSequences, ReportInputs
from model.runtime.performance_files import Figures

pytestmark = pytest.mark.slow

MAX_BYTES = 3_000_000
ACCURACY_SECTIONS = ["published", "views", "cells", "ranks"]
SECTIONS = [*ACCURACY_SECTIONS, "verification", "who", "mistakes", "map", "training", "throughput", "made"]


def inputs_of(index: SequenceIndex, spread: float = 1.1, dataset: str | Protocol = "CASIA-B", **more) -> ReportInputs:
    distances, embeddings = DistanceStatistics(), made_embeddings(index, spread)
    result = evaluate_index(embeddings, index, dataset, Streaming(statistics=distances))
    details = {"command": "test.py --report", "model": "a<b>.ptm", "time": "2026-11-25T00:00:00+00:00"}
    embedded = EmbeddedSequences(index, embeddings, made_frames)
    return ReportInputs(result, details, distances, embedded, with_figures=True, **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return inputs with all optional data, the page of these inputs, and the path of the page."""
    folder = tmp_path_factory.mktemp("report")
    index = made_index(views=("000", "018", "036", "054", "072", "090"))
    throughput = [Figures("onnxruntime", 16, 6.1, 6.3, {"mean": 2600.0}), Figures("benchmark", 1, 150.0, 152.0)]
    inputs = inputs_of(index, training_log=write_training_log(folder / "train.jsonl"), throughput=throughput)
    page = report_page(inputs)
    write_page(folder / "page.html", page)
    return inputs, page, folder / "page.html"


def test_the_page_is_well_formed_and_self_contained(whole):
    _, page, path = whole
    text = path.read_text(encoding="utf-8")
    assert text == page.html and len(text.encode()) < MAX_BYTES
    ids = check_page(text).values("id")
    assert [name for name in ids if name in SECTIONS] == SECTIONS
    assert "#fe01" not in text, "a placeholder colour is left in a drawing"
    assert "a&lt;b&gt;.ptm" in text and "95.405" in text


def test_every_chart_is_also_a_png(whole):
    _, page, path = whole
    figures = list(path.with_name("page-figures").iterdir())
    names = {figure.stem for figure in figures}
    assert names == {chart.name for chart in page.charts}
    required = "cells-NM cells-BG cells-CL views-CL cmc roc distances-NM map loss people"
    assert set(required.split()) <= names
    for figure in figures:
        with Image.open(figure) as image:
            assert image.format == "PNG" and min(image.size) > 300
            assert len(set(image.convert("L").resize((60, 60)).tobytes())) > 3, f"{figure.name} is empty"


def test_confusions_equal_a_count_by_plain_loops(whole):
    inputs, page, _ = whole
    index, x = inputs.embedded.index, inputs.embedded.embeddings.flatten(1).double().numpy()
    gallery = [i for i in range(len(index)) if index.seq_type[i][:4] == "nm-0" and index.seq_type[i] < "nm-05"]
    probes = [i for i in range(len(index)) if i not in set(gallery)]
    pairs, look_ups = Counter(), Counter()
    for p in probes:
        for view in {*index.view.tolist()} - {str(index.view[p])}:
            nearest = min((np.linalg.norm(x[p] - x[g]), g) for g in gallery if index.view[g] == view)[1]
            look_ups[str(index.subject[p])] += 1
            if index.subject[nearest] != index.subject[p]:
                pairs[str(index.subject[p]), str(index.subject[nearest])] += 1
    found = inputs.confusions
    assert {(c.subject, c.taken_for): c.times for c in found} == dict(pairs)
    assert all(c.look_ups == look_ups[c.subject] for c in found)
    assert all(c.conditions.total() == c.views.total() == c.times for c in found)
    assert [c.times for c in found] == sorted(pairs.values(), reverse=True)
    first = found[0]
    assert f"{first.subject} taken for {first.taken_for} ({first.times:,} times)" in page.html
    assert f"{pairs.total():,} of {look_ups.total():,} look-ups" in page.html


def test_the_hardest_mistakes_have_the_farthest_correct_match(whole):
    inputs, page, _ = whole
    distances, look_ups, subject = inputs.distances, inputs.look_ups, inputs.embedded.index.subject
    positions = hardest(distances, look_ups, subject, 4)
    ratios = look_ups.distance_ratio[positions]
    assert look_ups.missed[positions].all() and (np.diff(ratios) <= 0).all()
    assert ratios[0] == look_ups.distance_ratio[look_ups.missed].max()
    probes, views = look_ups.probe[positions], look_ups.view[positions]
    own, other = subject[distances.plan.probe_rows[probes]], subject[distances.wrong_row[probes, views]]
    assert len(set(zip(own, other, strict=True))) == 4 and (own != other).all()
    assert page.html.count('class="animation"') == 3 * page.html.count('class="mistake"') > 0


def test_without_a_mistake_the_closest_decisions_are_shown(tmp_path):
    inputs = inputs_of(made_index(("a", "b", "c")), spread=0.05)
    assert write_report(replace(inputs, with_figures=False), tmp_path / "r.html") == tmp_path / "r-figures"
    text = (tmp_path / "r.html").read_text()
    assert "No mistakes: the closest decisions" in text and "No probe was matched to another person" in text
    assert "nearest other" in text and "taken for</b>" not in text
    assert "<svg" in text, "write_report always draws figures"


@pytest.mark.parametrize(
    ("dataset", "takes", "views"),
    [("OUMVLP", ("00", "01"), ("000", "015", "030")), ("CASIA-A", ("nm-01", "nm-02", "nm-03", "nm-04"), ("000", "090")),
     ("Synthetic", ("nm-01", "nm-05"), ("090",))],
)  # fmt: skip
def test_other_protocols_and_a_single_view(tmp_path, dataset, takes, views):
    text, charts = report_page(inputs_of(made_index(("a", "b", "c", "d"), takes, views), dataset=dataset))
    check_page(text)
    heat_maps = [chart for chart in charts if chart.name.startswith("cells-")]
    for chart in heat_maps:  # the page does not draw them
        chart.write_png(tmp_path / f"{chart.name}.png")
    assert len(heat_maps) == len(list(tmp_path.iterdir())) > 0
    assert ("look-ups with identical views are excluded" in text) == (len(views) > 1)
    assert "as published" not in text and 'id="published"' not in text


def test_the_page_says_that_one_person_gives_the_same_figures_for_any_model(tmp_path):
    inputs = inputs_of(made_index(("anna",)))
    text, charts = report_page(inputs)
    outline = check_page(text)
    assert "The gallery shows one person only" in outline.text and "rank-1 is 100 % for any model" in outline.text
    for sentence in ("No probe was matched to another person", "Of 100 probes", "Every look-up was correct"):
        assert sentence not in outline.text
    for chart in charts:
        chart.write_png(tmp_path / f"{chart.name}.png")


def test_the_smallest_possible_test_draws_all_figures_without_a_warning(tmp_path):
    """Two enrolled people and one probe give one genuine and one impostor pair."""
    index = made_index(("anna", "bert"), ("nm-01", "nm-05"), ("090",))
    inputs = inputs_of(index.take(np.flatnonzero([index.name(i) != "bert/nm-05/090" for i in range(len(index))])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_report(inputs, tmp_path / "r.html")
    assert 'id="verification"' in (tmp_path / "r.html").read_text()


def test_the_map_draws_every_sequence_of_many_conditions():
    inputs = inputs_of(made_index(("a", "b", "c"), [f"walk{i}" for i in range(12)]), dataset=protocol_of(
        "mine", ["walk0"], ["walk[1-9]*"]
    ))  # fmt: skip
    shown, axes = embedding_map(inputs), Figure().add_subplot()
    shown["charts"][0].draw(axes, LIGHT)
    assert sum(len(points.get_offsets()) for points in axes.collections) == shown["sequences"] == 3 * 12 * 3


def test_closest_decisions_leave_out_views_without_another_person():
    index = made_index(("anna", "bert"), ("nm-01", "nm-05"), ("000", "090"))
    keep = [i for i in range(len(index)) if index.name(i) != "bert/nm-01/000"]
    inputs = inputs_of(index.take(np.array(keep)), spread=0.01)
    shown = hardest(inputs.distances, inputs.look_ups, inputs.embedded.index.subject, 9)
    assert len(shown) and (inputs.look_ups.view[shown] == inputs.result.views.index("090")).all()


def test_without_matplotlib_the_error_names_the_command_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"matplotlib cannot be imported .*; run pip install -r requirements\.txt"):
        check_matplotlib()


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser") / "profile") as page:
        yield page


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1200, False), (1200, True)])
def test_a_browser_shows_the_page_without_complaints_and_network(whole, tab, tmp_path, width, dark):
    _, _, path = whole
    tab.complaints.clear()
    tab.requests.clear()
    tab.open(path, width, dark=dark)
    assert tab.complaints == []
    assert [url for url in tab.requests if not url.startswith(("data:", path.as_uri()))] == []
    assert tab.value("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    assert tab.value("[...document.images].length") == 0
    wide = "[...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().width > 250)"
    assert tab.value(wide), "a figure is too narrow"
    heights = "[...document.querySelectorAll('svg text')].filter(t => t.textContent.trim()).map(HEIGHT)"
    heights = heights.replace("HEIGHT", "t => t.getBoundingClientRect().height")
    assert min(tab.value(heights)) >= 9, "the text of a figure is too small"
    tab.screenshot(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        assert image.size[0] == width and image.size[1] > 3000
        corner = image.convert("L").getpixel((2, 2))
    assert corner < 60 if dark else corner > 200


def test_animations_run_until_they_are_paused(whole, tab):
    _, _, path = whole
    state = "getComputedStyle(document.querySelector('.animation')).animationPlayState"
    tab.open(path, 1200)
    assert tab.value(state) == "running"
    tab.value("document.querySelector('#still').click()")
    assert tab.value(state) == "paused"
    tab.open(path, 1200, reduced_motion=True)
    assert tab.value("getComputedStyle(document.querySelector('.animation')).animationName") == "none"
