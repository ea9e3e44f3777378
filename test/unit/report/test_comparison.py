"""Test the comparison of two results: printed text, JSON and page."""

import json

import pytest
from browser import browser
from html_outline import check_page
from people import made_embeddings, made_index
from scripts import load_script
from small_results import a_result

from model.common.errors import UserError, run_command
from model.common.json_files import write_json
from model.evaluation.cross_view import evaluate_index
from model.report.comparison import compare_files, comparison_text, read_run

SUBJECTS = tuple(f"s{number:02d}" for number in range(16))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a folder with results of the same sequences: a and b differ only by noise, and c is much better."""
    folder = tmp_path_factory.mktemp("runs")
    index = made_index(SUBJECTS)
    for name, spread, seed in (("a", 1.3, 0), ("b", 1.3, 1), ("c", 0.6, 0)):
        result = evaluate_index(made_embeddings(index, spread, seed), index, "CASIA-B")
        write_json(folder / f"{name}.json", {**result.to_json(), "details": {"model": f"{name}.ptm", "command": "x"}})
    return folder


def test_the_verdict_separates_noise_from_a_difference(runs):
    same, better = compare_files(runs / "a.json", runs / "b.json"), compare_files(runs / "a.json", runs / "c.json")
    assert "neither result is shown to be better" in same.verdict
    assert not same.rows["excluding"][0].more_than_chance
    assert better.verdict.startswith("B is better than A by ") and better.rows["excluding"][0].low > 0
    assert compare_files(runs / "c.json", runs / "a.json").verdict.startswith("A is better than B by ")


def test_the_compared_figures_equal_those_in_the_files(runs):
    comparison = compare_files(runs / "a.json", runs / "c.json")
    contents = [json.loads((runs / f"{name}.json").read_text()) for name in "ac"]
    for kind, rows in comparison.rows.items():
        for row in rows[1:]:
            first, second = (c["rank1"][row.condition]["full_precision"][kind] for c in contents)
            assert (row.first, row.second) == pytest.approx((first, second))
    text = comparison_text(comparison)
    assert "16 subjects" in text and "===Rank-1 in percent, excluding identical views===" in text
    assert text.splitlines()[-1] == comparison.verdict
    assert json.loads(json.dumps(comparison.to_json()))["rows"]["including"][0]["condition"] == "mean"


def test_results_of_other_probes_are_rejected(runs, tmp_path):
    content = json.loads((runs / "a.json").read_text())
    subjects = {**content["per_subject"], "subjects": ["x", *SUBJECTS[1:]]}
    for name, change, message in (
        ("old", {"per_subject": None}, "write it again with test.py --json"),
        ("other", {"protocol": {"name": "OUMVLP"}}, r"a\.json \(CASIA-B\) with .*other\.json \(OUMVLP\)"),
        ("takes", {"protocol": {**content["protocol"], "gallery": ["nm-01"]}}, "with the same --dataset, --gallery"),
        ("fewer", {"per_subject": subjects}, "only the first has s00"),
    ):
        write_json(tmp_path / f"{name}.json", {**content, **change})
        with pytest.raises(UserError, match=message):
            compare_files(runs / "a.json", tmp_path / f"{name}.json")
    with pytest.raises(UserError, match="no such file"):
        read_run(tmp_path / "none.json")


@pytest.mark.slow
def test_the_command_writes_text_json_and_a_page_for_browsers(runs, tmp_path, capsys):
    page = tmp_path / "c.html"
    pair = ["--compare", str(runs / "a.json"), str(runs / "c.json")]
    load_script("test").main([*pair, "--json", str(tmp_path / "c.json"), "--report", str(page)])
    printed = capsys.readouterr().out
    verdict = json.loads((tmp_path / "c.json").read_text())["verdict"]
    assert verdict in printed and str(page) in printed
    assert verdict in check_page(page.read_text()).text
    assert {p.name for p in (tmp_path / "c-figures").iterdir()} == {
        "difference.png", "people.png", "views-NM.png", "views-BG.png", "views-CL.png",
    }  # fmt: skip
    with browser(tmp_path / "profile") as tab:
        tab.open(page, 390)
        assert tab.value("document.documentElement.scrollWidth") <= 390
        assert tab.complaints == [] and len(tab.requests) == 1


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--compare", "a.json"], 2, "expected 2 arguments"),
        (["--compare", "a.json", "b.json"], 1, "a.json: no such file"),
        (["--throughput", "t.json"], 2, "--throughput"),
        (["--report", "--throughput", "t.json"], 1, "t.json"),
        (["--report", "--train_log", "t.jsonl"], 1, "t.jsonl: cannot be read as a training log"),
    ],
)
def test_a_wrong_option_of_the_report_is_one_line(tmp_path, monkeypatch, capsys, options, status, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: load_script("test").main(options))
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert ended.value.code == status and len(lines) == 1 and message in lines[0]


DAMAGES = {  # changes of the JSON of a result with four subjects and one view
    "empty": lambda r: r.clear(),
    "no subjects": lambda r: r.pop("per_subject"),
    "subjects are lists": lambda r: r["per_subject"].update(subjects=[[1]] * 4),
    "a subject twice": lambda r: r["per_subject"].update(subjects=["1", "1", "2", "3"]),
    "views are objects": lambda r: r.update(views=[{}]),
    "more hits than look-ups": lambda r: r["per_subject"]["conditions"]["NM"].update(including=[[10**6]] * 4),
    "numbers too large": lambda r: r["per_subject"]["conditions"]["NM"].update(probes=[[10**30]] * 4),
    "no protocol": lambda r: r.pop("protocol"),
    "protocol is a number": lambda r: r.update(protocol={"name": 5}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_result_is_a_user_error(tmp_path, damage):
    result = json.loads(json.dumps(a_result().to_json()))
    (tmp_path / "a.json").write_text(json.dumps(result))
    damage(result)
    (tmp_path / "b.json").write_text(json.dumps(result))
    for first, second in (("a", "b"), ("b", "a")):
        with pytest.raises(UserError, match=r"b\.json: not a result"):
            compare_files(tmp_path / f"{first}.json", tmp_path / f"{second}.json")
    assert compare_files(tmp_path / "a.json", tmp_path / "a.json").verdict
