"""Runs with all runtimes: embeddings from a list of files and directly from a store, and pure inference.

All runtimes must compute the same embeddings as PyTorch.
"""

import json
import shlex
from unittest.mock import MagicMock

import pytest
from ascend import FRAMES, assert_embeddings, assert_results, names_in, replace_ais_bench_by_msit, run_command_line
from options_page import parser_of
from tiny_store import TinyStore

from model.common.errors import UsageError, UserError
from model.export.input_files import FixedLength, write_input_files
from model.runtime import __main__ as command
from model.runtime.choice import choose
from model.runtime.performance_files import read_figures
from model.runtime.runners import embed, run_and_record

pytestmark = pytest.mark.slow

ALL = ("benchmark", "ais_bench", "acl", "onnxruntime")


@pytest.mark.parametrize("runtime", ALL)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_store_directly(deployed, here, runtime, batch_size):
    choice = choose(runtime, deployed.om(batch_size))
    embeddings = embed(choice, deployed.store, FixedLength(FRAMES), here / "work", quiet=True)
    assert_embeddings(embeddings, deployed)
    assert not (here / "work").exists() or names_in(here / "work") == []


@pytest.mark.parametrize("runtime", ALL)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_list_with_the_command(deployed, here, monkeypatch, capsys, runtime, batch_size):
    """Five sequences in batches of four need three fillers, for which no result is written."""
    model = deployed.om(batch_size).with_suffix("")
    arguments = ["--runtime", runtime, "--model", model, "--info", deployed.info, "--output", "r", "--device_id", "1"]
    summary = run_command_line(monkeypatch, command, *arguments, "--batch_size", batch_size, "--quiet")
    results = here / "r" / "dumpOutput_device1"
    assert names_in(results) == [f"{i:04d}_{int(runtime != 'ais_bench')}.bin" for i in range(5)]
    assert_results(results, deployed)
    assert (summary["runtime"], summary["batch_size"], summary["sequences"]) == (runtime, batch_size, 5)
    count = "batches" if runtime in ("acl", "onnxruntime") else "fillers"
    assert summary[count] == {"batches": -(-5 // batch_size), "fillers": -5 % batch_size}[count]
    assert summary["provider"] == ("CPUExecutionProvider" if runtime == "onnxruntime" else "device 1")
    written = here / "r" / f"perf_vision_batchsize_{batch_size}_device_1.json"
    assert json.loads(written.read_text()) == summary
    assert written.with_suffix(".txt").is_file() == (runtime != "ais_bench") == (summary["e2e_throughput"] is not None)
    printed = capsys.readouterr().out
    assert f"{summary['device_throughput']:.2f} sequences/s" in printed
    assert runtime == "ais_bench" or f"{summary['e2e_throughput']:.2f} sequences/s end to end" in printed
    assert ("one chip only" in printed) == (runtime != "onnxruntime")
    assert "as requested" in printed.splitlines()[0]


@pytest.mark.parametrize(("quiet", "disable"), [([], None), (["--quiet"], True)])
def test_the_command_shows_a_progress_bar_unless_quiet(deployed, here, monkeypatch, quiet, disable):
    """tqdm shows a bar on a terminal if `disable` is None."""
    bar = MagicMock()
    monkeypatch.setattr("model.common.messages.tqdm", bar)
    model = deployed.om(4).with_suffix(".onnx")
    run_command_line(monkeypatch, command, "--model", model, "--info", deployed.info, "--output", "r", *quiet)
    assert [call.kwargs["disable"] for call in bar.call_args_list] == [disable]


@pytest.mark.parametrize("dataset", ["Synthetic", None])
def test_the_command_that_comes_next_names_the_data_set_of_the_input_files(tmp_path, dataset):
    bins, info = tmp_path / "some bin", tmp_path / "some bin.info"
    write_input_files(TinyStore([2]), None, bins, info, FixedLength(2), dataset=dataset or "", quiet=True)
    program, script, *words = shlex.split(command._next_command(info, tmp_path / "results"))
    assert (program, script) == ("python", "test.py")
    options = parser_of(script).parse_args(words)
    assert (options.dataset, options.bin_path) == (dataset, bins) and options.post_process
    info.with_suffix(".json").unlink()
    assert "--dataset" not in command._next_command(info, tmp_path / "results")


@pytest.mark.parametrize("runtime", ALL)
@pytest.mark.parametrize("kind", [{}, {"info": None, "loop": 3}], ids=["list", "pure"])
def test_batch_size_other_than_requested(here, task, runtime, kind):
    message = r"-batch_size=2, but the model's is 4|gaitset_submit_bs4\.o\w+: its batch size is 4, expected 2; use"
    with pytest.raises(UserError, match=message):
        run_and_record(task(runtime, batch_size=2, **kind))
    assert not [path for path in here.glob("result/*") if not path.name.endswith((".log", "_summary.json"))]


def test_input_files_of_another_length_than_the_om(deployed, here):
    with pytest.raises(UserError, match=r"size mismatch: bins/0000\.bin"):
        embed(choose("benchmark", deployed.om(4)), deployed.store, FixedLength(9), here, quiet=True)
    assert not [name for name in names_in(here) if name.startswith("deployed-")]


def test_warning_where_figures_are_missing(deployed, here, monkeypatch, capsys):
    monkeypatch.setenv("STANDIN_PERFORMANCE", "broken")
    arguments = ["--runtime", "benchmark", "--model", deployed.om(1), "--info", deployed.info, "--quiet"]
    run_command_line(monkeypatch, command, *arguments)
    printed = capsys.readouterr().out
    assert "throughput  unknown" in printed
    assert "warning: no performance figures: result/perf_vision_batchsize_1" in printed
    assert len(names_in(here / "result" / "dumpOutput_device0")) == 5


# Pure inference


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
    # The latency is per batch. The tolerance is necessary because the tools print six digits of the throughput.
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
