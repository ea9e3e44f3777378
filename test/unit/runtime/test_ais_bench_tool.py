"""Runs of ais_bench and msit on stand-ins with the checks of their newest releases."""

import json
import subprocess
import sys

import numpy as np
import pytest
from ascend import (
    STANDINS,
    assert_embeddings,
    bare_machine,
    executable,
    install_ais_bench,
    make_om,
    names_in,
    place_msit,
)

from model.common.errors import UserError
from model.export.manifest import read_info, write_info
from model.runtime.ais_bench_tool import _results, find_ais_bench, run_ais_bench
from model.runtime.external_tool import Task
from model.runtime.result_files import read_results


@pytest.fixture
def here(monkeypatch, tmp_path):
    bare_machine(monkeypatch, tmp_path)
    install_ais_bench(monkeypatch)
    return tmp_path


def task(deployed, here, model=4, **changes):
    values = {"om": deployed.om(model), "info": deployed.info, "quiet": True}
    return Task(**values | {"result_folder": here / "result" / "dumpOutput_device0"} | changes)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_embeddings_equal_torch_without_results_of_fillers(deployed, here, batch_size):
    summary = run_ais_bench(task(deployed, here, batch_size))
    results = here / "result" / "dumpOutput_device0"
    assert names_in(results) == [f"{i:04d}_0.bin" for i in range(5)]
    embeddings, labels = read_results(results, deployed.manifest, (62, 8))
    assert_embeddings(embeddings, deployed)
    assert labels.subject.tolist() == ["0", "1", "2", "3", "4"]
    assert (summary["sequences"], summary["fillers"]) == (5, -5 % batch_size)


def test_figures_of_the_summary(deployed, here):
    summary = run_ais_bench(task(deployed, here))
    tool_summary = json.loads((here / "result" / "dumpOutput_device0_summary.json").read_text())
    times = tool_summary["npu_compute_time_list"]
    assert len(times) == 2 and summary["e2e_throughput"] is None
    assert summary["device_throughput"] == pytest.approx(4000 / np.mean(times))
    assert summary["latency_ms"]["p90"] == pytest.approx(np.percentile(times, 90))
    written = here / "result" / "perf_vision_batchsize_4_device_0.json"
    assert json.loads(written.read_text()) == summary


def test_msit_with_its_option_names(deployed, here, monkeypatch):
    monkeypatch.delenv("PYTHONPATH")
    place_msit(here)
    monkeypatch.setenv("PATH", f"{here}:/usr/bin:/bin")
    assert find_ais_bench() == [str(here / "msit"), "benchmark"]
    assert run_ais_bench(task(deployed, here))["version"] == "msit benchmark"
    assert_embeddings(read_results(here / "result" / "dumpOutput_device0", deployed.manifest, (62, 8))[0], deployed)


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


def test_missing_ais_bench(here, monkeypatch):
    monkeypatch.delenv("PYTHONPATH")
    with pytest.raises(UserError, match=r"ais_bench not found .*; set AIS_BENCH_PYTHON to the Python with ais_bench"):
        find_ais_bench()


def test_tool_for_language_models_with_the_same_name(here, monkeypatch):
    (here / "ais_bench" / "benchmark").mkdir(parents=True)
    (here / "ais_bench" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(here))
    with pytest.raises(UserError, match="ais_bench not found"):
        find_ais_bench()


def test_files_and_folders_that_newer_releases_reject(deployed, here):
    """Links, group-writable files and unusual names are replaced by copies that the tool accepts."""
    folder = here / "bins of mine"
    folder.mkdir(mode=0o775)
    paths = [entry.path for entry in read_info(deployed.info)]
    for i, path in enumerate(paths):
        target = folder / f"a.{i}.bin"
        if i == 0:
            target.symlink_to(path)
        else:
            target.write_bytes(path.read_bytes())
            target.chmod(0o666)
    write_info(here / "mine.info", [folder / f"a.{i}.bin" for i in range(5)])
    om = here / "Gängset+_bs4.om"
    om.symlink_to(deployed.om(4))
    (here / "result").mkdir(mode=0o777)
    run_ais_bench(task(deployed, here, om=om, info=here / "mine.info"))
    results = here / "result" / "dumpOutput_device0"
    assert names_in(results) == [f"a.{i}_0.bin" for i in range(5)]
    embeddings = np.stack([np.fromfile(results / f"a.{i}_0.bin", "<f4").reshape(62, 8) for i in range(5)])
    assert_embeddings(embeddings, deployed)
    assert (folder / "a.1.bin").stat().st_mode & 0o777 == 0o666  # the original is not changed


def refusal(deployed, here, **changes):
    with pytest.raises(UserError) as error:
        run_ais_bench(task(deployed, here, **changes))
    assert "\n" not in str(error.value)
    assert not (here / "result" / "dumpOutput_device0").exists()
    assert not [name for name in names_in(here / "result") if not name.endswith(".log")]
    return str(error.value)


def test_om_of_another_batch_size(deployed, here):
    """The run would succeed, but with a wrong throughput."""
    message = refusal(deployed, here, batch_size=2)
    assert "gaitset_submit_bs4.om: its batch size is 4, not 2; use --batch_size 4 or the om" in message


def test_input_files_of_another_length_than_the_om(deployed, here):
    (here / "0000.bin").write_bytes(bytes(6 * 64 * 44 * 4))
    write_info(here / "six.info", [here / "0000.bin"])
    message = refusal(deployed, here, info=here / "six.info")
    assert "ais_bench failed with exit status 1: [ERROR] arg0 tensorsize: 180224 filesize: 67584 not match" in message


def test_missing_device(deployed, here):
    message = refusal(deployed, here, device_id=9)
    assert "[ERROR] acl open device 9 failed SetDevice failed.ret=507033 (does the device exist" in message


def test_om_for_another_chip(deployed, here):
    om = make_om(deployed.om(1).with_suffix(".onnx"), here / "other.om", 1, soc_version="Ascend310P3")
    message = refusal(deployed, here, om=om)
    assert (
        "[ERROR] load model from file failed" in message and "was it converted for this chip (--soc_version)" in message
    )


def test_folder_name_that_the_tool_rejects(deployed, here):
    place = here / "Größe"
    place.mkdir()
    with pytest.raises(
        UserError, match=r"failed with exit status 2: \[ERROR\] path contains illegal char, legal chars"
    ):
        run_ais_bench(task(deployed, here, result_folder=place / "dump"))


def test_missing_result_of_the_tool(deployed, here, monkeypatch):
    monkeypatch.setenv("STANDIN_LOSE", "1")
    message = refusal(deployed, here)
    assert "ais_bench succeeded but wrote no result for 1 of 5 sequences (0000); see " in message


def test_missing_part_of_the_wheels(deployed, here, monkeypatch):
    """There are two wheels, and the last line of Python names the missing module."""
    package = here / "half" / "ais_bench"
    (package / "infer").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "infer" / "__init__.py").touch()
    (package / "__main__.py").write_text("import aclruntime\n")
    monkeypatch.setenv("PYTHONPATH", str(here / "half"))
    message = refusal(deployed, here)
    assert "ais_bench failed with exit status 1: ModuleNotFoundError: No module named 'aclruntime'; " in message


def ais_bench(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ais_bench", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_the_stand_in_refuses(deployed, here):
    om, bins = deployed.om(1), deployed.folder / "bins"
    common = ["--model", om, "--input", bins]
    (here / "open").mkdir(mode=0o755)
    (here / "link.om").symlink_to(om)
    for arguments, message in [
        ([*common, "--output_dirname", "r"], "cann't be used alone"),
        ([*common, "--output", here / "r", "--output_dirname", "/r"], "do not support abs path"),
        ([*common, "--output", here / "open"], "permission should not be over 0o750"),
        ([*common, "--output", here / "r", "--output_dirname", "open"], "permission should not be over 0o750"),
        (["--model", here / "link.om", "--input", bins, "--output", here / "r"], "is a soft link"),
        (["--model", here / "none.om", "--input", bins, "--output", here / "r"], "not exist"),
        (["--model", om.with_suffix(".onnx"), "--input", bins, "--output", here / "r"], "is illegal"),
        ([*common, "--output", here / "r", "--batchsize", "0"], "invalid positive int"),
        ([*common, "--output", here / "r", "--device", "300"], "valid value range is [0, 255]"),
        (["--model", om, "--input", here / "open", "--output", here / "r"], "not find valid file"),
    ]:
        done = ais_bench(*arguments)
        assert done.returncode and message in done.stdout + done.stderr, arguments
    (here / "open" / "0.bin").write_bytes(b"")
    (here / "open" / "0.bin").chmod(0o664)
    assert "is group writable" in ais_bench("--model", om, "--input", here / "open", "--output", here / "r").stdout


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
    assert _results(tmp_path / "r_summary.json", tmp_path / "r", ["0000", "0001"]) == {}
