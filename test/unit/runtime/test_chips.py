"""Runs in which several chips share a list: all results are in one folder, and the figures are per chip and summed."""

import json

import pytest
from ascend import assert_results, names_in, replace_ais_bench_by_msit, run_command_line

from model.common.errors import UsageError, UserError
from model.runtime import __main__ as command
from model.runtime.chips import parse_device_ids, run_on_chips
from model.runtime.performance import table
from model.runtime.performance_files import read_all_figures

pytestmark = pytest.mark.slow


@pytest.fixture
def run(here, monkeypatch):
    """Return a function that runs a model on several devices."""

    def run_model(runtime, model, ids, *arguments):
        options = ["--runtime", runtime, "--model", model, "--device_id", ids, "--output", here / "r", "--quiet"]
        return run_command_line(monkeypatch, command, *options, *arguments)

    return run_model


@pytest.mark.parametrize(
    ("runtime", "batch_size", "ids", "shares", "fillers"),
    [
        ("benchmark", 1, "2,0", [2, 3], 0),
        ("benchmark", 4, "0,1,3", [4, 1], 3),
        ("ais_bench", 1, "2,0", [3, 2], 0),
        ("ais_bench", 4, "0,1,3", [3, 2], 3),  # ais_bench divides the list into equal numbers of files
        ("acl", 4, "1,0", [4, 1], None),  # only one case, because its processes are slow: they import torch
    ],
)
def test_chips_share_the_list(deployed, here, run, runtime, batch_size, ids, shares, fillers):
    summary = run(runtime, deployed.om(batch_size), ids, "--info", deployed.info)
    first = ids.partition(",")[0]
    results = here / "r" / f"dumpOutput_device{first}"
    assert_results(results, deployed)
    record = json.loads(results.with_name(f"{results.name}_record.json").read_text())
    assert len(record["bins"]) == len(record["results"]) == 5
    assert [device["sequences"] for device in summary["devices"]] == shares
    assert [str(device["device_id"]) for device in summary["devices"]] == ids.split(",")[: len(shares)]
    assert summary["sequences"] == 5 and (fillers is None or summary["fillers"] == fillers)
    rates = [device["device_throughput"] for device in summary["devices"]]
    assert summary["device_throughput"] == pytest.approx(sum(rates))
    assert not [name for name in names_in(here / "r") if "share" in name and not name.endswith("_summary.json")]
    for device in summary["devices"]:
        written = here / "r" / f"perf_vision_batchsize_{batch_size}_device_{device['device_id']}.json"
        assert json.loads(written.read_text())["result"] == device["result"] == str(results)
    *chips, total = read_all_figures(here / "facts.json")
    assert [row.device for row in chips] == rates and total.chips == 2
    assert total.device == pytest.approx(sum(rates)) and total.runtime == f"{runtime}, 2 devices"
    printed = table([*chips, total])
    assert "all chips" in printed and f"{runtime}, device {first}" in printed


@pytest.mark.parametrize("version", ["typer", "msit", "old", "lose", "silent"])
def test_versions_of_ais_bench(deployed, here, task, monkeypatch, caplog, version):
    """If ais_bench does not know --divide_input or loses a result, each device is used by a separate process."""
    if version == "msit":
        replace_ais_bench_by_msit(monkeypatch, here)
    else:
        monkeypatch.setenv(f"STANDIN_{version.upper()}", "1")
    mine = task("ais_bench", 1, batch_size=1)
    if version == "lose":
        with pytest.raises(
            UserError, match=r"^device 0: ais_bench wrote no result for 1 of 2 sequences \(0000\), alth"
        ):
            run_on_chips(mine, [0, 1])
    else:
        summary = run_on_chips(mine, [0, 1])
        assert_results(mine.result_folder, deployed)
        rates = [device["device_throughput"] for device in summary["devices"]]
        assert rates == [None, None] if version == "silent" else all(rates)
    reasons = {
        "old": ["each device runs in its own process, because ais_bench failed with exit status 2: "
                "__main__.py: error: unrecognized arguments: --divide_input 1"],
        "lose": ["each device runs in its own process, because ais_bench wrote no result for 2 of 5 sequences "
                 "(0000, 0003), although its exit status is 0"],
    }  # fmt: skip
    assert caplog.messages == reasons.get(version, [])


def test_a_failing_chip_is_named_and_existing_results_are_kept(deployed, here, task):
    """The stand-in of ais_bench has devices 0 to 7."""
    results, mine = here / "result" / "dumpOutput_device0", task("ais_bench", 1, batch_size=1)
    run_on_chips(mine, [0, 1])
    before = {path.name: path.read_bytes() for path in results.iterdir()}
    with pytest.raises(UserError, match=r"^device 99: ais_bench failed.*device_99\.log"):
        run_on_chips(mine, [0, 99])
    assert {path.name: path.read_bytes() for path in results.iterdir()} == before
    assert_results(results, deployed)
    summary = here / "result" / "perf_vision_batchsize_1_device_0.json"
    assert not summary.exists(), "the results of this share were removed"


def test_a_killed_process_is_one_line(here, task, monkeypatch):
    (here / "killed").mkdir()
    (here / "killed" / "acl.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    monkeypatch.syspath_prepend(here / "killed")  # only the processes of the devices import it
    with pytest.raises(UserError, match=r"^devices 0, 1: the process of one of them was killed; check the free memory"):
        run_on_chips(task("acl", 1), [0, 1])
    assert not (here / "result" / "dumpOutput_device0").exists()


def test_pure_inference_on_several_chips(deployed, here, run, capsys):
    summary = run("benchmark", deployed.om(4), "0,1", "--loop", "3")
    assert summary["sequences"] == 24 and len(read_all_figures(here / "facts.json")) == 3
    printed = capsys.readouterr().out
    assert "sum of 2 chips" in printed and "device 1    12 sequences, " in printed


def test_onnx_runtime_runs_once(deployed, run, capsys):
    summary = run("auto", deployed.om(4).with_suffix(".onnx"), "0,1", "--info", deployed.info)
    assert "devices" not in summary and "--device_id 0,1 has no effect" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "0,", "-1", "a", "0;1", "0,1,0", "0, 1", "99999999999", "²"])
def test_invalid_device_ids(text):
    with pytest.raises(UsageError, match="--device_id"):
        parse_device_ids(text)
    assert parse_device_ids("3,0") == [3, 0]
