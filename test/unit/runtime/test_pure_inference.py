"""Pure inference with all runtimes, on stand-ins of Ascend's tools."""

import json

import pytest
from ascend import names_in, replace_ais_bench_by_msit, run_command_line

from model.common.errors import UsageError
from model.runtime import __main__ as command
from model.runtime.performance_files import read_figures
from model.runtime.runners import run_and_record

pytestmark = pytest.mark.slow

ALL = ("benchmark", "ais_bench", "acl", "onnxruntime")


@pytest.fixture
def measured(here, task):
    """Return a function that measures a model with batches of zeros and returns the summary."""

    def measure(runtime, model_batch=4, loop=3, **changes):
        return run_and_record(task(runtime, model_batch, info=None, loop=loop, **changes))

    return measure


@pytest.mark.parametrize("runtime", ALL)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_figures_and_files(deployed, here, measured, runtime, batch_size):
    summary = measured(runtime, batch_size, device_id=1)
    assert (summary["runtime"], summary["loop"]) == (f"{runtime}, no data", 3)
    assert (summary["batch_size"], summary["sequences"]) == (batch_size, 3 * batch_size)
    assert summary["e2e_throughput"] is None and summary["result"] is None
    # The latency is that of a batch. The tools print six digits of the throughput.
    assert summary["device_throughput"] == pytest.approx(batch_size * 1000 / summary["latency_ms"]["mean"], rel=1e-4)
    written = here / "result" / f"pure_inference_batchsize_{batch_size}_device_1.json"
    assert json.loads(written.read_text()) == summary
    figures = read_figures(written)
    assert (figures.runtime, figures.batch_size) == (f"{runtime}, no data", batch_size)
    assert figures.device == summary["device_throughput"]
    om = deployed.om(batch_size).stem
    files = {
        "benchmark": [f"PureInfer_perf_of_{om}_in_device_1.txt", f"benchmark_pure_batchsize_{batch_size}_device_1.log"],
        "ais_bench": [f"ais_bench_pure_batchsize_{batch_size}_device_1{end}" for end in (".log", "_summary.json")],
    }
    assert names_in(here / "result") == sorted([*files.get(runtime, []), written.name])


def test_number_of_batches(here, measured, capfd):
    measured("ais_bench", 1, 7)
    summary = json.loads((here / "result" / "ais_bench_pure_batchsize_1_device_0_summary.json").read_text())
    assert summary["NPU_compute_time"]["count"] == len(summary["npu_compute_time_list"]) == 7
    assert "--input" not in summary["args"]
    measured("benchmark", 1, 7, quiet=False)
    printed = capfd.readouterr().err
    assert f"{here}/benchmark" in printed and " -round=7 -om_path=gaitset_submit.om " in printed
    assert "PureInfer Performance Summary" in (here / "result" / "benchmark_pure_batchsize_1_device_0.log").read_text()


@pytest.mark.parametrize("version", ["typer", "msit"])
def test_other_command_lines_of_ais_bench(here, measured, monkeypatch, version):
    if version == "typer":
        monkeypatch.setenv("STANDIN_TYPER", "1")
    else:
        replace_ais_bench_by_msit(monkeypatch, here)
    assert measured("ais_bench")["device_throughput"] > 0


def test_printed_figures_without_a_performance_file(measured, monkeypatch):
    monkeypatch.setenv("STANDIN_PERFORMANCE", "none")
    monkeypatch.setenv("STANDIN_SILENT", "1")
    for runtime in ("benchmark", "ais_bench"):
        assert measured(runtime)["device_throughput"] > 0


@pytest.mark.parametrize("runtime", ["acl", "benchmark"])
def test_command(deployed, here, monkeypatch, capsys, runtime):
    arguments = ["--runtime", runtime, "--model", deployed.folder / "gaitset_submit_bs4", "--output", "r", "--quiet"]
    assert run_command_line(monkeypatch, command, *arguments, "--loop", "2")["loop"] == 2
    printed = capsys.readouterr().out
    assert "sequences   8 in " in printed and "one chip only" in printed
    assert "results" not in printed and "next:" not in printed


def test_list_of_input_files_is_required_without_loop(here, monkeypatch):
    with pytest.raises(UsageError, match="--info: missing; give the list of input files, or --loop N"):
        run_command_line(monkeypatch, command, "--model", "m")
