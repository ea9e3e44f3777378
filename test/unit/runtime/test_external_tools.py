"""Runs of benchmark, ais_bench and msit on stand-ins that reject what the real tools reject or do not document."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from ascend import (
    assert_embeddings,
    executable,
    make_om,
    names_in,
    place_benchmark,
)

from model.common.errors import UserError
from model.export.manifest import read_info, write_info
from model.runtime.ais_bench_tool import _results, run_ais_bench
from model.runtime.benchmark_tool import benchmark_command, run_benchmark, tool_name
from model.runtime.performance_files import read_figures
from model.runtime.result_files import read_results
from model.runtime.staging import Task

pytestmark = pytest.mark.slow


class Tool(NamedTuple):
    name: str
    run: Callable[[Task], dict[str, Any]]
    suffix: str  # of the result files


BENCHMARK = Tool(tool_name(), run_benchmark, "_1")
AIS_BENCH = Tool("ais_bench", run_ais_bench, "_0")
both_tools = pytest.mark.parametrize("tool", [BENCHMARK, AIS_BENCH], ids=["benchmark", "ais_bench"])


def task(deployed, here, model=4, **changes):
    values = {"om": deployed.om(model), "info": deployed.info, "quiet": True}
    return Task(**values | {"result_folder": here / "result" / "dumpOutput_device0"} | changes)


def refusal(tool, deployed, here, **changes):
    """Return the one-line error of a run, which leaves only its log."""
    with pytest.raises(UserError) as error:
        tool.run(task(deployed, here, **changes))
    assert "\n" not in str(error.value)
    assert not (here / "result" / "dumpOutput_device0").exists()
    assert not [name for name in names_in(here / "result") if not name.endswith(".log")]
    return str(error.value)


def assert_results(folder, deployed):
    embeddings, labels = read_results(folder, deployed.manifest, (62, 8))
    assert_embeddings(embeddings, deployed)
    assert labels.subject.tolist() == ["075", "075", "076", "076", "077"]


@both_tools
@pytest.mark.parametrize("batch_size", [1, 4])
def test_embeddings_equal_torch_without_results_of_fillers(deployed, here, tool, batch_size):
    """Five sequences in batches of four get three fillers, because benchmark rejects incomplete batches."""
    summary = tool.run(task(deployed, here, batch_size))
    results = here / "result" / "dumpOutput_device0"
    assert names_in(results) == [f"{i:04d}{tool.suffix}.bin" for i in range(5)]
    assert_results(results, deployed)
    assert (summary["sequences"], summary["fillers"], summary["batch_size"]) == (5, -5 % batch_size, batch_size)


def test_figures_of_benchmark(deployed, here):
    summary = run_benchmark(task(deployed, here))
    text = here / "result" / "perf_vision_batchsize_4_device_0.txt"
    figures = read_figures(text)
    assert (summary["e2e_throughput"], summary["device_throughput"]) == (figures.end_to_end, figures.device)
    assert summary["latency_ms"] == {"mean": pytest.approx(4000 / figures.device)}
    assert json.loads(text.with_suffix(".json").read_text()) == summary
    assert names_in(here / "result") == [
        "benchmark_batchsize_4_device_0.log", "dumpOutput_device0", "dumpOutput_device0_record.json",
        "perf_vision_batchsize_4_device_0.json", "perf_vision_batchsize_4_device_0.txt",
    ]  # fmt: skip


def test_figures_of_ais_bench(deployed, here):
    summary = run_ais_bench(task(deployed, here))
    tool_summary = json.loads((here / "result" / "dumpOutput_device0_summary.json").read_text())
    times = tool_summary["npu_compute_time_list"]
    assert len(times) == 2 and summary["e2e_throughput"] is None
    assert "--batchsize" in tool_summary["args"]
    assert summary["device_throughput"] == pytest.approx(4000 / np.mean(times))
    assert summary["latency_ms"]["p90"] == pytest.approx(np.percentile(times, 90))
    written = here / "result" / "perf_vision_batchsize_4_device_0.json"
    assert json.loads(written.read_text()) == summary


def test_figures_of_ais_bench_without_its_summary_file(deployed, here, monkeypatch):
    """The printed lines, between progress bars, contain the same figures without the times of the batches."""
    monkeypatch.setenv("STANDIN_SILENT", "1")
    summary = run_ais_bench(task(deployed, here))
    assert summary["device_throughput"] == pytest.approx(4000 / summary["latency_ms"]["mean"])
    assert summary["performance"].endswith("ais_bench_batchsize_4_device_0.log") and summary["problem"] is None
    assert_results(here / "result" / "dumpOutput_device0", deployed)


@pytest.mark.parametrize("variant", ["inference", "broken", "none"])
def test_results_are_kept_with_an_unreadable_performance_file(deployed, here, monkeypatch, variant):
    monkeypatch.setenv("STANDIN_PERFORMANCE", variant)
    summary = run_benchmark(task(deployed, here))
    assert_results(here / "result" / "dumpOutput_device0", deployed)
    if variant == "inference":
        assert summary["device_throughput"] > 0 and summary["problem"] is None
    else:
        problem = {"broken": "device_0.txt: [e2e] throughputRate is missing", "none": "did not write"}
        assert summary["device_throughput"] is None and problem[variant] in summary["problem"]


@both_tools
def test_other_device(deployed, here, tool):
    results = here / "result" / "dumpOutput_device3"
    assert tool.run(task(deployed, here, result_folder=results, device_id=3))["provider"] == "device 3"
    assert len(names_in(results)) == 5
    assert (here / "result" / "perf_vision_batchsize_4_device_3.json").is_file()


def test_command_of_the_documents(here):
    command = benchmark_command(here / "benchmark.x86_64", "gaitset_submit.om", "CASIA-B-bin.info", 16, 0)
    assert " ".join(command[1:]) == (
        "-model_type=vision -device_id=0 -batch_size=16 -om_path=gaitset_submit.om "
        "-input_text_path=CASIA-B-bin.info -input_width=64 -input_height=64 -output_binary=True -useDvpp=False"
    )


def test_newest_command_line_of_ais_bench(deployed, here, monkeypatch, capfd):
    """Its option names contain dashes, so the first command fails, and the second one succeeds."""
    monkeypatch.setenv("STANDIN_TYPER", "1")
    summary = run_ais_bench(task(deployed, here, quiet=False))
    assert summary["device_throughput"] > 0 and summary["latency_ms"]["p99"] > 0
    printed = read_figures(here / "result" / "ais_bench_batchsize_4_device_0.log")  # its table has four decimals
    assert printed.device == pytest.approx(summary["device_throughput"])
    assert printed.latency_ms == {
        name: pytest.approx(summary["latency_ms"][name], abs=1e-4) for name in ("mean", "p50", "p99")
    }
    assert_results(here / "result" / "dumpOutput_device0", deployed)
    commands = [line for line in capfd.readouterr().err.splitlines() if line.startswith("+ ")]
    assert len(commands) == 2 and "--output_dirname" in commands[0] and "--output-dirname" in commands[1]


def test_error_of_the_newest_command_line_is_quoted_without_its_box(deployed, here, monkeypatch):
    monkeypatch.setenv("STANDIN_TYPER", "1")
    message = refusal(AIS_BENCH, deployed, here, device_id=300)
    assert (
        "failed with exit status 2: argument --device: device:300 is invalid. valid value range is [0, 255]" in message
    )


@both_tools
def test_files_that_tools_reject(deployed, here, tool):
    """Links, group-writable files and unusual names are replaced by copies, and results keep the original stems.

    Blanks split the list of benchmark, and ais_bench shortens names at the first dot.
    """
    folder = here / "my bins (1)"
    folder.mkdir(mode=0o775)
    paths = [entry.path for entry in read_info(deployed.info)]
    for i, path in enumerate(paths):
        target = folder / f"walk {i}.v{i}.bin"
        if i == 0:
            target.symlink_to(path)
        else:
            target.write_bytes(path.read_bytes())
            target.chmod(0o666)
    write_info(here / "my list.info", [folder / f"walk {i}.v{i}.bin" for i in range(5)])
    om = here / "my Gängset+_bs4.om"
    om.symlink_to(deployed.om(4))
    (here / "result").mkdir(mode=0o777)
    tool.run(task(deployed, here, om=om, info=here / "my list.info"))
    results = here / "result" / "dumpOutput_device0"
    assert names_in(results) == [f"walk {i}.v{i}{tool.suffix}.bin" for i in range(5)]
    found = [np.fromfile(results / f"walk {i}.v{i}{tool.suffix}.bin", "<f4").reshape(62, 8) for i in range(5)]
    assert_embeddings(np.stack(found), deployed)
    assert (folder / "walk 1.v1.bin").stat().st_mode & 0o777 == 0o666  # the original is not changed


@both_tools
@pytest.mark.parametrize("name", ["结果", "my Größe (1)"])
def test_folders_that_tools_reject(deployed, here, monkeypatch, tool, name):
    """The tool then works in the folder for temporary files, also if the name is that of the working directory."""
    place = here / name
    (place / "tmp").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(here))
    tool.run(task(deployed, here, result_folder=place / "dump"))
    place_benchmark(place)
    monkeypatch.chdir(place)
    tool.run(task(deployed, here, result_folder=Path("dump1")))
    for results in ("dump", "dump1"):
        assert_results(place / results, deployed)
    assert not [path for path in (*here.iterdir(), *place.iterdir()) if path.name.startswith("tool-")]


def test_temporary_folder_that_the_tool_rejects(deployed, here, monkeypatch):
    place = here / "结果"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with pytest.raises(
        UserError, match=r"failed with exit status 2: \[ERROR\] path contains illegal char, legal chars"
    ):
        run_ais_bench(task(deployed, here, result_folder=place / "dump"))


@both_tools
@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"batch_size": 2},
         {"_1": "failed with exit status 1: [ERROR] size mismatch: -batch_size=2, but the model's is 4; the assumed "
          "batch size of gaitset_submit_bs4.om is 2 (--batch_size); the full output is in ",
          # The run of ais_bench succeeds, but with a wrong throughput.
          "_0": "gaitset_submit_bs4.om: its batch size is 4, not 2; use --batch_size 4 or the om"}),
        ({"device_id": 9},
         {"_1": "device 9 does not exist",
          "_0": "[ERROR] acl open device 9 failed SetDevice failed.ret=507033 (does the device exist"}),
    ],
)  # fmt: skip
def test_wrong_batch_size_or_device(deployed, here, tool, changes, messages):
    message = refusal(tool, deployed, here, **changes)
    assert messages[tool.suffix] in message
    if tool is BENCHMARK and "batch_size" in changes:
        assert "benchmark_batchsize_2_device_0.log" in message


@both_tools
def test_om_for_another_chip(deployed, here, tool):
    om = make_om(deployed.om(1).with_suffix(".onnx"), here / "other.om", 1, soc_version="Ascend910B1")
    message = refusal(tool, deployed, here, om=om)
    assert "[ERROR] load model" in message and "was it converted for this chip (--soc_version)" in message


@both_tools
def test_input_files_of_another_length_than_the_om(deployed, here, tool):
    """The shape of an om file cannot be read, so the tool reports the error."""
    (here / "0000.bin").write_bytes(bytes(6 * 64 * 44 * 4))
    write_info(here / "six.info", [here / "0000.bin"])
    om = make_om(deployed.om(1).with_suffix(".onnx"), here / "m.om", 1)
    message = refusal(tool, deployed, here, om=om, info=here / "six.info")
    expected = {"_1": "size mismatch: bins/0000.bin has 67584 bytes", "_0": "arg0 tensorsize: 45056 filesize: 67584"}
    assert f"{tool.name} failed with exit status 1: [ERROR] {expected[tool.suffix]}" in message


@both_tools
def test_missing_result_of_the_tool(deployed, here, monkeypatch, tool):
    monkeypatch.setenv("STANDIN_LOSE", "1")
    message = refusal(tool, deployed, here)
    assert f"{tool.name} succeeded but wrote no result for 1 of 5 sequences (0000); see " in message


def test_benchmark_that_crashes_or_cannot_be_executed(deployed, here):
    executable(here / tool_name(), "#!/bin/sh\necho loading\nkill -SEGV $$\n")
    assert f"{tool_name()} was terminated by SIGSEGV: loading" in refusal(BENCHMARK, deployed, here)
    executable(here / tool_name(), "\x7fELF of another machine")
    assert "cannot be run (Exec format error)" in refusal(BENCHMARK, deployed, here)


def test_missing_part_of_the_wheels(deployed, here, monkeypatch):
    """There are two wheels, and the last line of Python names the missing module."""
    package = here / "half" / "ais_bench"
    (package / "infer").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "infer" / "__init__.py").touch()
    (package / "__main__.py").write_text("import aclruntime\n")
    monkeypatch.setenv("PYTHONPATH", str(here / "half"))
    message = refusal(AIS_BENCH, deployed, here)
    assert "ais_bench failed with exit status 1: ModuleNotFoundError: No module named 'aclruntime'; " in message


@both_tools
def test_failed_run_keeps_earlier_results(deployed, here, tool):
    results = here / "result" / "dumpOutput_device0"
    results.mkdir(parents=True)
    (results / "0000_1.bin").write_bytes(b"of before")
    with pytest.raises(UserError):
        tool.run(task(deployed, here, device_id=9))
    assert (results / "0000_1.bin").read_bytes() == b"of before"
    tool.run(task(deployed, here))
    assert len(names_in(results)) == 5


@pytest.mark.parametrize(
    "summary",
    [
        "{", "[]", '{"filesinfo": [1]}', '{"filesinfo": {"0": 5}}',
        '{"filesinfo": {"0": {"infiles": 3, "outfiles": [1]}}}',
        '{"filesinfo": {"0": {"infiles": [1], "outfiles": [2]}}}', "[" * 100_000,
        json.dumps({"filesinfo": {"0": {"infiles": ["0000.bin"], "outfiles": ["x" * 3000]}}}),
        json.dumps({"filesinfo": {"0": {"infiles": ["0000.bin"], "outfiles": ["a\0b"]}}}),
        json.dumps({"filesinfo": {"0": {"infiles": ["0000.bin"], "outfiles": ["../../../etc/passwd"]}}}),
    ],
    ids=lambda text: text[:50],
)  # fmt: skip
def test_damaged_summary_yields_no_results(tmp_path, summary):
    (tmp_path / "r_summary.json").write_text(summary)
    assert _results(tmp_path / "r", ["0000", "0001"]) == {}
