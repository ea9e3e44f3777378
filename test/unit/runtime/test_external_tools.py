"""Runs with benchmark, ais_bench and msit, and the search for these tools.

The tests use stand-ins, which reject the same arguments and files as the real tools.
"""

import json
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from ascend import (
    STANDINS,
    assert_embeddings,
    assert_results,
    executable,
    names_in,
    place_benchmark,
    replace_ais_bench_by_msit,
)

from model.common.errors import UserError
from model.export.manifest import read_info, write_info
from model.runtime.ais_bench_tool import find_ais_bench
from model.runtime.benchmark_tool import benchmark_command, find_benchmark, tool_name
from model.runtime.performance_files import read_figures
from model.runtime.runners import run_and_record

pytestmark = pytest.mark.slow

SUFFIX = {"benchmark": "_1", "ais_bench": "_0"}  # ends of the names of result files
both_tools = pytest.mark.parametrize("tool", SUFFIX)


def test_figures_of_benchmark(here, task):
    summary = run_and_record(task("benchmark"))
    text = here / "result" / "perf_vision_batchsize_4_device_0.txt"
    figures = read_figures(text)
    assert (summary["e2e_throughput"], summary["device_throughput"]) == (figures.end_to_end, figures.device)
    assert summary["latency_ms"] == {"mean": pytest.approx(4000 / figures.device)}
    assert json.loads(text.with_suffix(".json").read_text()) == summary
    assert names_in(here / "result") == [
        "benchmark_batchsize_4_device_0.log", "dumpOutput_device0", "dumpOutput_device0_record.json",
        "perf_vision_batchsize_4_device_0.json", "perf_vision_batchsize_4_device_0.txt",
    ]  # fmt: skip


def test_figures_of_ais_bench(here, task):
    summary = run_and_record(task("ais_bench"))
    tool_summary = json.loads((here / "result" / "dumpOutput_device0_summary.json").read_text())
    times = tool_summary["npu_compute_time_list"]
    assert len(times) == 2 and summary["e2e_throughput"] is None
    assert "--batchsize" in tool_summary["args"]
    assert summary["device_throughput"] == pytest.approx(4000 / np.mean(times))
    assert summary["latency_ms"]["p90"] == pytest.approx(np.percentile(times, 90))
    written = here / "result" / "perf_vision_batchsize_4_device_0.json"
    assert json.loads(written.read_text()) == summary


def test_figures_of_ais_bench_without_its_summary_file(deployed, here, task, monkeypatch):
    """The figures are read from the printed lines between progress bars. Only the times of the batches are missing."""
    monkeypatch.setenv("STANDIN_SILENT", "1")
    summary = run_and_record(task("ais_bench"))
    assert summary["device_throughput"] == pytest.approx(4000 / summary["latency_ms"]["mean"])
    assert summary["performance"].endswith("ais_bench_batchsize_4_device_0.log") and summary["problem"] is None
    assert_results(here / "result" / "dumpOutput_device0", deployed)


@pytest.mark.parametrize(
    ("variant", "problem"),
    [("inference", None), ("broken", "device_0.txt: [e2e] throughputRate is missing"), ("none", "did not write")],
)
def test_results_are_kept_with_an_unreadable_performance_file(deployed, here, task, monkeypatch, variant, problem):
    monkeypatch.setenv("STANDIN_PERFORMANCE", variant)
    summary = run_and_record(task("benchmark"))
    assert_results(here / "result" / "dumpOutput_device0", deployed)
    if problem is None:
        assert summary["device_throughput"] > 0 and summary["problem"] is None
    else:
        assert summary["device_throughput"] is None and problem in summary["problem"]


def test_command_of_the_documents(task):
    command = benchmark_command(Path("benchmark.x86_64"), "gaitset_submit.om", task("benchmark", batch_size=16))
    assert " ".join(command) == (
        "benchmark.x86_64 -model_type=vision -device_id=0 -batch_size=16 -om_path=gaitset_submit.om "
        "-input_text_path=bins.info -input_width=64 -input_height=64 -output_binary=True -useDvpp=False"
    )


def test_newest_command_line_of_ais_bench(deployed, here, task, monkeypatch, capfd):
    """The option names of the newest version contain dashes, so the first command fails and the second succeeds."""
    monkeypatch.setenv("STANDIN_TYPER", "1")
    summary = run_and_record(task("ais_bench", quiet=False))
    assert summary["device_throughput"] > 0 and summary["latency_ms"]["p99"] > 0
    printed = read_figures(here / "result" / "ais_bench_batchsize_4_device_0.log")  # prints times with four decimals
    assert printed.device == pytest.approx(summary["device_throughput"])
    assert printed.latency_ms == {
        name: pytest.approx(summary["latency_ms"][name], abs=1e-4) for name in ("mean", "p50", "p99")
    }
    assert_results(here / "result" / "dumpOutput_device0", deployed)
    commands = [line for line in capfd.readouterr().err.splitlines() if line.startswith("+ ")]
    assert len(commands) == 2 and "--output_dirname" in commands[0] and "--output-dirname" in commands[1]


def test_msit_with_its_option_names(deployed, here, task, monkeypatch):
    replace_ais_bench_by_msit(monkeypatch, here)
    assert find_ais_bench() == [str(here / "msit"), "benchmark"]
    assert run_and_record(task("ais_bench"))["version"] == "msit benchmark"
    assert_results(here / "result" / "dumpOutput_device0", deployed)


@both_tools
def test_files_that_tools_reject(deployed, here, task, tool):
    """The tools get copies of links, of group-writable files and of files with unusual names.

    The results keep the original stems. The names are unusual in two ways: benchmark splits the lines of its list at
    blanks, and ais_bench shortens names at the first dot.
    """
    folder = here / "my bins (1)"
    folder.mkdir(mode=0o775)
    targets = [folder / f"walk {i}.v{i}.bin" for i in (3, 0, 4, 1, 2)]  # the list is not sorted by name
    for target, file in zip(targets, read_info(deployed.info), strict=True):
        if target == targets[0]:
            target.symlink_to(file)
        else:
            target.write_bytes(file.read_bytes())
            target.chmod(0o666)
    write_info(here / "my list.info", targets)
    om = here / "my Gängset+_bs4.om"
    om.symlink_to(deployed.om(4))
    (here / "result").mkdir(mode=0o777)
    run_and_record(task(tool, model=om, info=here / "my list.info"))
    results = here / "result" / "dumpOutput_device0"
    names = [f"{target.stem}{SUFFIX[tool]}.bin" for target in targets]
    assert names_in(results) == sorted(names)
    found = [np.fromfile(results / name, "<f4").reshape(62, 8) for name in names]
    assert_embeddings(np.stack(found), deployed)
    assert targets[1].stat().st_mode & 0o777 == 0o666  # the original is not changed


@both_tools
@pytest.mark.parametrize("name", ["结果", "my Größe (1)"])
def test_folders_that_tools_reject(deployed, here, task, monkeypatch, tool, name):
    """If the tool rejects the result folder or the working directory, it runs in the folder for temporary files."""
    place = here / name
    (place / "tmp").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(here))
    run_and_record(task(tool, result_folder=place / "dump"))
    place_benchmark(place)
    monkeypatch.chdir(place)
    run_and_record(task(tool, result_folder=Path("dump1")))
    for results in ("dump", "dump1"):
        assert_results(place / results, deployed)
    assert not [path for path in (*here.iterdir(), *place.iterdir()) if path.name.startswith("tool-")]


def test_temporary_folder_that_the_tool_rejects(here, task, monkeypatch):
    place = here / "结果"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    message = r"failed with exit status 2: \[ERROR\] path contains illegal char, legal chars"
    with pytest.raises(UserError, match=message):
        run_and_record(task("ais_bench", result_folder=place / "dump"))


# The search for the tools, and their names


def test_python_of_msit(here, monkeypatch):
    monkeypatch.delenv("PYTHONPATH")
    python = executable(here / "python3.9", f'#!/bin/sh\nPYTHONPATH="{STANDINS}/python" exec "{sys.executable}" "$@"\n')
    for first in (f"#!{python}", f"#!/usr/bin/env {python}"):
        executable(here / "msit", f"{first}\n")
        monkeypatch.setenv("PATH", f"{here}:/usr/bin:/bin")
        assert find_ais_bench() == [str(python), "-m", "ais_bench"]


def test_python_of_the_environment_variable(here, monkeypatch):
    monkeypatch.setenv("AIS_BENCH_PYTHON", sys.executable)
    assert find_ais_bench() == [sys.executable, "-m", "ais_bench"]
    for wrong in ("/usr/bin/false", str(here / "gone")):
        monkeypatch.setenv("AIS_BENCH_PYTHON", wrong)
        with pytest.raises(UserError, match=f"AIS_BENCH_PYTHON={wrong}: not a Python with the module ais_bench"):
            find_ais_bench()


def test_tool_for_language_models_with_the_same_name(here, monkeypatch):
    (here / "ais_bench" / "benchmark").mkdir(parents=True)
    (here / "ais_bench" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(here))
    with pytest.raises(UserError, match="ais_bench not found"):
        find_ais_bench()


def test_search_path_of_benchmark(deployed, here, monkeypatch):
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    with pytest.raises(
        UserError, match=rf"{tool_name()} not found in the working directory, the folder of .*; set BENCHMARK_TOOL"
    ):
        find_benchmark(deployed.om(1))
    assert find_benchmark(here / "some.om") == here / tool_name()
    monkeypatch.setenv("PATH", f"{here}:/usr/bin")
    assert find_benchmark(deployed.om(1)) == here / tool_name()
    other = place_benchmark(here / "elsewhere")
    assert find_benchmark(deployed.om(1)) == other
    for given in (here, here / tool_name()):
        monkeypatch.setenv("BENCHMARK_TOOL", str(given))
        assert find_benchmark(deployed.om(1)) == here / tool_name()


def test_benchmark_that_is_not_executable(deployed, here):
    (here / tool_name()).chmod(0o644)
    with pytest.raises(UserError, match=r"not executable; run chmod \+x "):
        find_benchmark(deployed.om(1))


@pytest.mark.parametrize(
    ("machine", "name"),
    [("x86_64", "benchmark.x86_64"), ("AMD64", "benchmark.x86_64"), ("aarch64", "benchmark.aarch64"),
     ("arm64", "benchmark.aarch64")],
)  # fmt: skip
def test_name_of_benchmark_by_processor(monkeypatch, machine, name):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert tool_name() == name
