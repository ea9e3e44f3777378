import json

import pytest

from model.common.errors import UserError
from model.runtime.performance import compare_accuracy, table
from model.runtime.performance_files import Figures

LATENCY = {"mean": 6.667, "p50": 6.6, "p90": 7.0, "p99": 8.25}


def cells(text, name):
    return [line.split() for line in text.splitlines() if line.startswith(f"{name}  ")]


def test_table_of_measured_and_published_figures():
    rows = [
        Figures("benchmark", 1, 140.0, 149.995, {"mean": 6.667}, chip="Ascend310"),
        Figures("ais_bench", 16, None, 171.203, LATENCY, chip="Ascend310"),
    ]
    text = table(rows)
    assert cells(text, "benchmark") == [["benchmark", "1", "140", "149.995", "599.98", "6.667", "-", "-", "-"]]
    assert cells(text, "ais_bench") == [["ais_bench", "16", "-", "171.203", "684.812", "6.667", "6.6", "7", "8.25"]]
    # The column of one chip contains 599.98 / 4 and 684.812 / 4. The column of the card contains the published values.
    assert cells(text, "Ascend 310") == [
        ["Ascend", "310", batch, "-", *rest, "-", "-", "-", "-"]
        for batch, *rest in (("1", "149.995", "599.98"), ("16", "171.203", "684.812"))
    ]
    assert "310P" not in text and "T4" not in text and "AOE" not in text
    assert "95.512 %" in text and "the chip is unknown" not in text
    widths = {len(line) for line in text.splitlines()[1:6] if not line.startswith("published")}
    assert len(widths) == 1  # all lines are aligned


P3 = ["606", "696", "703", "714", "720", "723"]
AOE = ["849.55", "941.825"]
EVERY = {"Ascend 310": ["149.995", "171.203"], "Ascend 310P3": P3, "Ascend 310P, AOE": AOE, "T4": ["354.39", "379.23"]}


@pytest.mark.parametrize(
    ("chip", "cards"),
    [
        ("Ascend310P3", {"Ascend 310P3": P3, "Ascend 310P, AOE": AOE}),
        ("Ascend310P1", {"Ascend 310P, AOE": AOE}),
        (None, EVERY),
        ("Ascend910B3", EVERY),
    ],
)
def test_published_results_of_the_chip(chip, cards):
    text = table([Figures("acl", 1, 100.0, 200.0, LATENCY, chip=chip)])
    published = text.partition("published for this model:\n")[2].splitlines()
    found = {
        card: [line[len(card) :].split()[2] for line in published if line.startswith(f"{card}  ")] for card in cards
    }
    assert found == cards
    assert sum(" " * 4 in line for line in published) == sum(map(len, cards.values()))
    assert "AOE: measured with an om file that AOE has tuned" in text


def test_sum_of_several_devices_has_its_own_column():
    rows = [
        Figures("ais_bench, device 0", 4, None, 100.0, LATENCY, chip="Ascend310"),
        Figures("ais_bench, 4 devices", 4, None, 400.0, chip="Ascend310", chips=4),
    ]
    lines = table(rows).splitlines()
    assert lines[1].split("  ")[-1] and "one chip  all chips  310 card (x4)" in lines[1]
    assert lines[2].split()[4:8] == ["-", "100", "-", "400"]
    assert lines[3].split()[4:8] == ["-", "-", "400", "-"]
    assert "ais_bench does not measure the end-to-end throughput" in lines[-1]


@pytest.mark.parametrize(("chip", "card", "unknown"), [("Ascend310P3", "-", False), (None, "-", True)])
def test_only_the_310_is_multiplied(chip, card, unknown):
    text = table([Figures("acl", 1, 100.0, 200.0, LATENCY, chip=chip)])
    assert cells(text, "acl")[0][3:5] == ["200", card]
    assert ("an Ascend 310 card has four chips, so multiply `one chip` by 4" in text) is unknown


def test_remark_about_cpu_figures():
    text = table([Figures("onnxruntime", 16, 5.5, 5.678, LATENCY)])
    assert "measured on the CPU, not on an Ascend chip" in text and "the chip is unknown" not in text


def test_unreadable_figures_are_dashes_with_a_warning():
    text = table([Figures("benchmark", 16, None, None, problem="perf.txt: [infer] is not in it")])
    assert cells(text, "benchmark")[0][2:] == ["-"] * 7
    assert "warning: no performance figures of benchmark: perf.txt: [infer] is not in it" in text


def accuracy(tmp_path, name, nm):
    path = tmp_path / name
    path.write_text(json.dumps({"rank1": {"NM": {"including": nm, "excluding": 1.0}, "BG": {"including": 88.284}}}))
    return path


def test_accuracy_comparison_of_batch_sizes(tmp_path):
    same = [accuracy(tmp_path, f"{i}.json", 95.512) for i in range(2)]
    figures = "rank-1, identical views included: NM 95.512, BG 88.284"
    assert compare_accuracy(same) == (True, f"{figures}; equal in all 2 files")
    assert compare_accuracy(same[:1])[1] == figures
    agree, message = compare_accuracy([same[0], accuracy(tmp_path, "x.json", 95.4)])
    assert not agree and "NM 95.400" in message
    assert message.startswith("warning: different rank-1, identical views included: 0.json: NM 95.512")


@pytest.mark.parametrize("content", ["{}", '{"rank1": {"NM": 3}}', '{"rank1": 3}', "[]"])
def test_invalid_accuracy_file(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=r"x\.json: no rank1 found \(.+\); expected a file of test\.py --json"):
        compare_accuracy([tmp_path / "x.json"])
