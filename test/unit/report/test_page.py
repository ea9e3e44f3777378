"""The page with figures: what it says against plain counts, how large it gets, and how a real browser shows it."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from browser import browser, find_browser
from people import made_embeddings, made_frames, made_index

from model.common.errors import UserError
from model.data.index import SequenceIndex
from model.evaluation.cross_view import evaluate_index
from model.evaluation.distance_record import DistanceRecord
from model.evaluation.mistakes import confusions, hardest, look_ups
from model.report import charts
from model.report.material import Material
from model.report.page import write_report
from model.report.training_curves import log_of_checkpoint, read_log, thinned
from model.report.walker import strip
from model.runtime.performance_files import Figures

MOST_BYTES = 3_000_000


def material_of(index: SequenceIndex, embeddings: torch.Tensor, dataset: str = "CASIA-B", **more) -> Material:
    record = DistanceRecord()
    result = evaluate_index(embeddings, index, dataset, record=record)
    details = {"command": "test.py --report", "model": "a<b>.ptm", "time": "2026-11-25T00:00:00+00:00"}
    return Material(result, details, record, index, embeddings, made_frames, **more)


def write_log(folder):
    lines = [
        {"iteration": i, "hard_loss_metric": 1 / i, "full_loss_metric": 0.2 / i, "full_loss_num": 900 / i,
         "mean_dist": 1.0, "lr": 1e-4, "hard_or_full": "full", "iterations_per_second": 5.0}
        for i in range(1, 700)
    ]  # fmt: skip
    lines[200:200] = [{"iteration": 200, "rank1": 40.0}, {"iteration": 400, "rank1": 60.0}]
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"iteration": 7')
    return folder / "train.jsonl"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A material with everything, and its page."""
    folder = tmp_path_factory.mktemp("report")
    index = made_index(views=("000", "018", "036", "054", "072", "090"))
    throughput = [Figures("onnxruntime", 16, 6.1, 6.3, {"mean": 2600.0}), Figures("benchmark", 1, 150.0, 152.0)]
    material = material_of(index, made_embeddings(index), training=write_log(folder), throughput=throughput)
    figures = write_report(material, folder / "page.html")
    return material, folder / "page.html", figures


class Outline(HTMLParser):
    """Whether every opened element was closed in order, all ids, and all attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.attributes, self.tags = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in ("meta", "br", "input", "wbr", "path", "use"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.attributes += attributes

    def handle_endtag(self, tag):
        if tag not in ("path", "use"):
            assert self.open.pop() == tag


def test_the_page_is_whole_and_stands_alone(whole):
    _, page, _ = whole
    text = page.read_text(encoding="utf-8")
    assert len(text.encode()) < MOST_BYTES
    outline = Outline(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(outline.tags)
    assert "http" not in text and "@import" not in text
    assert all(target.startswith(("data:image/png;", "#")) for target in re.findall(r"url\((.{20})", text))
    ids = [value for name, value in outline.attributes if name == "id"]
    assert len(ids) == len(set(ids)), [name for name, n in Counter(ids).items() if n > 1]
    wanted = {value[1:] for name, value in outline.attributes if name in ("href", "xlink:href")}
    wanted |= set(re.findall(r"url\(#([^)]*)\)", text))
    assert wanted <= set(ids)
    sections = [
        "published",
        "views",
        "cells",
        "ranks",
        "verification",
        "who",
        "mistakes",
        "map",
        "training",
        "throughput",
    ]
    assert [i for i in ids if i in (*sections, "made")] == [*sections, "made"]
    assert "#fe01" not in text, "a colour that stands for a role is left in a drawing"
    assert "a&lt;b&gt;.ptm" in text and "nan" not in text.lower().split()


def test_every_figure_is_a_png_too(whole):
    from PIL import Image

    material, _, figures = whole
    names = {path.stem for path in figures.iterdir()}
    assert names == {chart.name for chart in material.charts}
    assert {
        "cells-NM",
        "cells-BG",
        "cells-CL",
        "views-CL",
        "cmc",
        "roc",
        "distances-NM",
        "map",
        "loss",
        "people",
    } <= names
    for path in figures.iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG" and min(image.size) > 300
            assert len(set(image.convert("L").resize((60, 60)).tobytes())) > 3, f"{path.name} is empty"


def test_published_rows_by_view_have_the_published_means():
    from model.evaluation.protocols import protocol_of

    original = protocol_of("CASIA-B").published[0]
    assert "AAAI 2019" in original.source
    for condition, of_view in original.per_view.items():
        assert len(of_view) == 11
        assert np.mean(list(of_view.values())) == pytest.approx(original.excluding[condition], abs=0.006)


def test_confusions_are_counted_by_hand(whole):
    material, page, _ = whole
    index, x = material.index, material.embeddings.flatten(1).double().numpy()
    gallery = [i for i in range(len(index)) if index.seq_type[i][:4] == "nm-0" and index.seq_type[i] < "nm-05"]
    probes = [i for i in range(len(index)) if i not in set(gallery)]
    pairs, asked = Counter(), Counter()
    for p in probes:
        for view in {*index.view.tolist()} - {str(index.view[p])}:
            near = min((np.linalg.norm(x[p] - x[g]), g) for g in gallery if index.view[g] == view)[1]
            asked[str(index.subject[p])] += 1
            if index.subject[near] != index.subject[p]:
                pairs[str(index.subject[p]), str(index.subject[near])] += 1
    found = confusions(material.record, look_ups(material.record), index.subject)
    assert {(c.subject, c.taken_for): c.times for c in found} == dict(pairs)
    assert all(c.look_ups == asked[c.subject] and c.conditions.total() == c.views.total() == c.times for c in found)
    assert [c.times for c in found] == sorted(pairs.values(), reverse=True)
    first = found[0]
    assert f"{first.subject} for {first.taken_for} ({first.times:,} times)" in page.read_text()
    assert f"{sum(pairs.values()):,} of {sum(asked.values()):,} look-ups" in page.read_text()


def test_the_hardest_mistakes_are_those_whose_right_one_is_farthest_off(whole):
    material, page, _ = whole
    record, index = material.record, material.index
    seen = look_ups(record)
    places = hardest(record, seen, index.subject, 4)
    ratios = seen.nearness[places]
    assert seen.missed[places].all() and (np.diff(ratios) <= 0).all()
    assert ratios[0] == seen.nearness[seen.missed].max()
    pairs = [
        (
            index.subject[record.plan.probe_rows[seen.probe[i]]],
            index.subject[record.wrong_row[seen.probe[i], seen.view[i]]],
        )
        for i in places
    ]
    assert len(set(pairs)) == 4 and all(a != b for a, b in pairs)
    assert page.read_text().count('class="walker"') == 3 * page.read_text().count('class="mistake"') > 0


def test_without_a_mistake_the_closest_calls_are_shown(tmp_path):
    index = made_index(("a", "b", "c"))
    material = material_of(index, made_embeddings(index, spread=0.05))
    write_report(material, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "No mistake; the closest calls" in text and "Nobody was taken for anybody else" in text
    assert "nearest other" in text and "taken for</b>" not in text


@pytest.mark.parametrize(
    ("dataset", "takes", "views"),
    [("OUMVLP", ("00", "01"), ("000", "015", "030")), ("CASIA-A", ("nm-01", "nm-02", "nm-03", "nm-04"), ("000", "090")),
     ("Synthetic", ("nm-01", "nm-05"), ("090",))],
)  # fmt: skip
def test_other_protocols_and_a_single_view(tmp_path, dataset, takes, views):
    index = made_index(("a", "b", "c", "d"), takes, views)
    material = material_of(index, made_embeddings(index), dataset)
    write_report(material, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    Outline(text)
    assert ("identical views left out" in text) == (len(views) > 1)
    assert "as published" not in text


def test_a_walker_is_its_frames_side_by_side():
    import io

    from PIL import Image

    frames = made_frames(3)
    image = np.asarray(Image.open(io.BytesIO(strip(frames))).convert("L"))
    np.testing.assert_array_equal(image, np.concatenate(list(frames), axis=1))


def test_the_log_of_a_training_is_found_beside_its_checkpoint_and_thinned(tmp_path):
    checkpoint = tmp_path / "checkpoint" / "GaitSet" / "GaitSet_X_1-00200-encoder.ptm"
    (tmp_path / "log" / "GaitSet_X_1").mkdir(parents=True)
    assert log_of_checkpoint(checkpoint) is None and log_of_checkpoint(tmp_path / "model.onnx") is None
    log = write_log(tmp_path / "log" / "GaitSet_X_1")
    assert log_of_checkpoint(checkpoint) == log
    assert len(read_log(log)) == 701, "the line that was cut off is passed over"
    x, y = thinned(list(range(1000)), [2.0 * i for i in range(1000)])
    assert len(x) <= 300 and y == pytest.approx(2 * x)
    with pytest.raises(UserError, match="cannot be read as the log"):
        read_log(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    "line",
    [
        "{}", "[1]", "5", "null", "[" * 100_000, '{"iteration": "x", "rank1": 5}', '{"iteration": 5, "rank1": null}',
        '{"iteration": 5, "rank1": NaN}', '{"iteration": 5, "full_loss_metric": 1}', '{"iteration": 5',
    ],
    ids=lambda line: line[:40],
)  # fmt: skip
def test_a_damaged_line_of_a_log_is_passed_over(tmp_path, line):
    log = write_log(tmp_path)
    before = read_log(log)
    with log.open("a") as file:
        file.write(f"\n{line}\n")
    assert read_log(log) == before


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"needs matplotlib: pip install -r requirements\.txt"):
        charts.check_matplotlib()


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    command = find_browser()
    if command is None:
        pytest.skip("no chromium on the PATH (or in CHROMIUM): apt-get install chromium")
    with browser(command, tmp_path_factory.mktemp("browser") / "profile") as page:
        yield page


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1200, False), (1200, True)])
def test_a_browser_shows_it_without_a_complaint_and_without_the_network(whole, tab, tmp_path, width, dark):
    _, path, _ = whole
    tab.complaints.clear()
    tab.requests.clear()
    tab.open(path, width, dark=dark)
    assert tab.complaints == []
    assert [url for url in tab.requests if not url.startswith(("data:", path.as_uri()))] == []
    assert tab.value("document.documentElement.scrollWidth") <= width, "it has to be scrolled sideways"
    assert tab.value("[...document.images].length") == 0
    drawn = "[...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().width > 250)"
    assert tab.value(drawn), "a figure has no room"
    smallest = (
        "Math.min(...[...document.querySelectorAll('svg text')].filter(t => t.textContent.trim())"
        ".map(t => t.getBoundingClientRect().height))"
    )
    assert tab.value(smallest) >= 9, "letters of a figure are too small to read"
    tab.screenshot(tmp_path / "page.png")
    from PIL import Image

    with Image.open(tmp_path / "page.png") as image:
        assert image.size[0] == width and image.size[1] > 3000
        corner = image.convert("L").getpixel((2, 2))
    assert corner < 60 if dark else corner > 200


def test_walkers_walk_until_they_are_held(whole, tab):
    _, path, _ = whole
    moving = "getComputedStyle(document.querySelector('.walker')).animationPlayState"
    tab.open(path, 1200)
    assert tab.value(moving) == "running"
    tab.value("document.querySelector('#still').click()")
    assert tab.value(moving) == "paused"
    tab.open(path, 1200, reduced_motion=True)
    assert tab.value("getComputedStyle(document.querySelector('.walker')).animationName") == "none"
