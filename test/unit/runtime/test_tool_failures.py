"""Runs of benchmark and ais_bench that fail, each with an error in one line and without results."""

import json

import pytest
from ascend import executable, make_om, names_in

from model.common.errors import UserError
from model.export.manifest import write_info
from model.runtime.ais_bench_tool import _results
from model.runtime.benchmark_tool import tool_name
from model.runtime.runners import run_and_record

pytestmark = pytest.mark.slow

both_tools = pytest.mark.parametrize("tool", ["benchmark", "ais_bench"])


@pytest.fixture
def refusal(here, task):
    """Return a function that runs a task and returns its one-line error. The run leaves only its log."""

    def run(tool, **changes):
        with pytest.raises(UserError) as error:
            run_and_record(task(tool, **changes))
        assert "\n" not in str(error.value)
        assert not (here / "result" / "dumpOutput_device0").exists()
        assert not [name for name in names_in(here / "result") if not name.endswith(".log")]
        return str(error.value)

    return run


def test_error_of_the_newest_command_line_is_quoted_without_its_box(refusal, monkeypatch):
    monkeypatch.setenv("STANDIN_TYPER", "1")
    message = "failed with exit status 2: argument --device: device:300 is invalid. valid value range is [0, 255]"
    assert message in refusal("ais_bench", device_id=300)


@pytest.mark.parametrize(
    ("tool", "changes", "messages"),
    [
        ("benchmark", {"batch_size": 2},
         ["failed with exit status 1: [ERROR] size mismatch: -batch_size=2, but the model's is 4; the assumed "
          "batch size of gaitset_submit_bs4.om is 2 (--batch_size); the full output is in ",
          "benchmark_batchsize_2_device_0.log"]),
        # The run of ais_bench succeeds, but with a wrong throughput.
        ("ais_bench", {"batch_size": 2},
         ["gaitset_submit_bs4.om: its batch size is 4, not 2; use --batch_size 4 or the om"]),
        ("benchmark", {"device_id": 9}, ["device 9 does not exist"]),
        ("ais_bench", {"device_id": 9},
         ["[ERROR] acl open device 9 failed SetDevice failed.ret=507033 (does the device exist"]),
    ],
)  # fmt: skip
def test_wrong_batch_size_or_device(refusal, tool, changes, messages):
    found = refusal(tool, **changes)
    assert all(message in found for message in messages)


@both_tools
def test_om_for_another_chip(deployed, here, refusal, tool):
    om = make_om(deployed.om(1).with_suffix(".onnx"), here / "other.om", 1, soc_version="Ascend910B1")
    message = refusal(tool, model=om)
    assert "[ERROR] load model" in message and "was it converted for this chip (--soc_version)" in message


@pytest.mark.parametrize(
    ("tool", "expected"),
    [("benchmark", "size mismatch: bins/0000.bin has 67584 bytes"),
     ("ais_bench", "arg0 tensorsize: 45056 filesize: 67584")],
)  # fmt: skip
def test_input_files_of_another_length_than_the_om(deployed, here, refusal, tool, expected):
    """The shape of an om file cannot be read, so the tool reports the error."""
    (here / "0000.bin").write_bytes(bytes(6 * 64 * 44 * 4))
    write_info(here / "six.info", [here / "0000.bin"])
    om = make_om(deployed.om(1).with_suffix(".onnx"), here / "m.om", 1)
    message = refusal(tool, model=om, info=here / "six.info")
    name = tool_name() if tool == "benchmark" else tool
    assert f"{name} failed with exit status 1: [ERROR] {expected}" in message


@both_tools
def test_missing_result_of_the_tool(refusal, monkeypatch, tool):
    monkeypatch.setenv("STANDIN_LOSE", "1")
    name = tool_name() if tool == "benchmark" else tool
    assert f"{name} succeeded but wrote no result for 1 of 5 sequences (0000); see " in refusal(tool)


def test_benchmark_that_crashes_or_cannot_be_executed(here, refusal):
    executable(here / tool_name(), "#!/bin/sh\necho loading\nkill -SEGV $$\n")
    assert f"{tool_name()} was terminated by SIGSEGV: loading" in refusal("benchmark")
    executable(here / tool_name(), "\x7fELF of another machine")
    assert "cannot be run (Exec format error)" in refusal("benchmark")


def test_missing_part_of_the_wheels(here, refusal, monkeypatch):
    """There are two wheels, and the last line of Python names the missing module."""
    package = here / "half" / "ais_bench"
    (package / "infer").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "infer" / "__init__.py").touch()
    (package / "__main__.py").write_text("import aclruntime\n")
    monkeypatch.setenv("PYTHONPATH", str(here / "half"))
    message = "ais_bench failed with exit status 1: ModuleNotFoundError: No module named 'aclruntime'; "
    assert message in refusal("ais_bench")


@both_tools
def test_failed_run_keeps_earlier_results(here, task, tool):
    results = here / "result" / "dumpOutput_device0"
    results.mkdir(parents=True)
    (results / "0000_1.bin").write_bytes(b"of before")
    with pytest.raises(UserError):
        run_and_record(task(tool, device_id=9))
    assert (results / "0000_1.bin").read_bytes() == b"of before"
    run_and_record(task(tool))
    assert len(names_in(results)) == 5


@pytest.mark.parametrize(
    "summary",
    [
        "{", "[]", '{"filesinfo": [1]}', '{"filesinfo": {"0": 5}}',
        '{"filesinfo": {"0": {"infiles": 3, "outfiles": [1]}}}',
        '{"filesinfo": {"0": {"infiles": [1], "outfiles": [2]}}}', "[" * 100_000,
        *(json.dumps({"filesinfo": {"0": {"infiles": ["0000.bin"], "outfiles": [name]}}})
          for name in ("x" * 3000, "a\0b", "../../../etc/passwd")),
    ],
    ids=lambda text: text[:50],
)  # fmt: skip
def test_damaged_summary_yields_no_results(tmp_path, summary):
    (tmp_path / "r_summary.json").write_text(summary)
    assert _results(tmp_path / "r", ["0000", "0001"]) == {}
