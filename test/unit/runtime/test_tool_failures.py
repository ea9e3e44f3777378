"""Runs of benchmark and ais_bench that fail, the reasons that are found in their output, and their input files."""

import json
import os
from pathlib import Path

import pytest
from ascend import STANDINS, bare_machine, executable, make_om, names_in

from model.common.errors import UserError
from model.export.manifest import write_info
from model.runtime.ais_bench_tool import _results
from model.runtime.benchmark_tool import tool_name
from model.runtime.external_tool import chip_name, reason_of
from model.runtime.runners import run_and_record
from model.runtime.staging import _link_or_copy, staged
from model.runtime.task import Task

pytestmark = pytest.mark.slow

both_tools = pytest.mark.parametrize("tool", ["benchmark", "ais_bench"])


@pytest.fixture
def refusal(here, task):
    """Return a function that runs a task and returns its error, which is one line. Only the log of the run remains."""

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
        # ais_bench itself would succeed here, but report a wrong throughput.
        ("ais_bench", {"batch_size": 2},
         ["gaitset_submit_bs4.om: its batch size is 4, expected 2; use --batch_size 4, or the om file for batch"]),
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
    assert "[ERROR] load model" in message and "was it converted for this chip (--soc_version) by this or" in message


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
    expected = f"{name} wrote no result for 1 of 5 sequences (0000), although its exit status is 0; see "
    assert expected in refusal(tool)


def test_benchmark_that_crashes_or_cannot_be_executed(here, refusal):
    executable(here / tool_name(), "#!/bin/sh\necho loading\nkill -SEGV $$\n")
    assert f"{tool_name()} was terminated by SIGSEGV: loading" in refusal("benchmark")
    executable(here / tool_name(), "\x7fELF of another machine")
    assert "cannot be run (Exec format error)" in refusal("benchmark")


def test_missing_part_of_the_wheels(here, refusal, monkeypatch):
    """ais_bench consists of two wheels. If one wheel is missing, the last line of the output names its module."""
    package = here / "half" / "ais_bench"
    (package / "infer").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "infer" / "__init__.py").touch()
    (package / "__main__.py").write_text("import aclruntime\n")
    monkeypatch.setenv("PYTHONPATH", str(here / "half"))
    message = "ais_bench failed with exit status 1: ModuleNotFoundError: No module named 'aclruntime'; "
    assert message in refusal("ais_bench")


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


# Input files of the tools, and the reason of a failure


@pytest.mark.parametrize(
    ("name", "batch_size"),
    [("gaitset_submit.om", 1), ("gaitset_submit_bs16.om", 16), ("gaitset_submit_bs16_linux_aarch64.om", 16),
     ("gaitset_submit_linux_x86_64.om", 1), ("model_bs4_old.om", 1), ("run_bs2/gaitset_submit.om", 1)],
)  # fmt: skip
def test_batch_size_of_a_name(name, batch_size):
    om = Path("somewhere_bs8") / name
    assert Task("benchmark", om, Path("i"), Path("r")).batch() == batch_size
    assert Task("benchmark", om, Path("i"), Path("r"), batch_size=5).batch() == 5


def test_failed_run_leaves_no_files(tmp_path, task):
    with pytest.raises(UserError, match="on purpose"), staged(task("benchmark")) as stage:
        assert stage.folder.stat().st_mode & 0o777 == 0o700, "the tools reject folders that others can read"
        raise UserError("on purpose")
    assert names_in(tmp_path / "result") == []


def test_full_disk_is_one_line(task):
    with pytest.raises(UserError, match=r"result: running the list failed \(.*No space left"):  # noqa: SIM117
        with staged(task("benchmark")):
            raise OSError(28, "No space left on device")


def test_missing_om_and_folder_with_other_files(deployed, tmp_path):
    (tmp_path / "notes.txt").touch()
    for om, message in ((tmp_path / "none.om", r"none\.om: no such om"), (deployed.om(1), r"also holds notes\.txt")):
        with pytest.raises(UserError, match=message), staged(Task("benchmark", om, deployed.info, tmp_path)):
            pass


def test_files_are_linked_if_possible(tmp_path):
    (tmp_path / "fine").write_bytes(b"1")
    (tmp_path / "open").write_bytes(b"2")
    (tmp_path / "open").chmod(0o664)
    (tmp_path / "link").symlink_to("fine")
    for name, links in [("fine", 2), ("open", 1), ("link", 3)]:
        _link_or_copy(tmp_path / name, tmp_path / f"placed {name}")
        facts = (tmp_path / f"placed {name}").lstat()
        assert facts.st_nlink == links and not facts.st_mode & 0o022
    assert (tmp_path / "placed open").read_bytes() == b"2"


def test_copy_on_another_file_system(tmp_path, monkeypatch):
    def no_link(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    (tmp_path / "a").write_bytes(b"1")
    _link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"1" and (tmp_path / "b").stat().st_nlink == 1


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "no output"),
        ("starting\n\nSegmentation fault\n", "Segmentation fault"),
        ("[INFO] a\n[ERROR] first\n[ERROR] second\nTraceback\nRuntimeError\n", "[ERROR] first"),
        ("usage: x\nx: error: argument --model: no\n", "x: error: argument --model: no"),
        ("a\nEZ9999: Inner Error!\n", "EZ9999: Inner Error!"),
        ("a\nEZ9999: Inner Error!\nEZ9999  the k-axis differs[FUNC:Infer][FILE:a.cc][LINE:1]\nb\n",
         "EZ9999: the k-axis differs"),
        ("[ERROR] load failed\nEZ9999: Inner Error!\n        no memory[FUNC:x]\n",
         "[ERROR] load failed (EZ9999: no memory)"),
        ("[INFO] acl init success\n[INFO] error: 0\n[ERROR] bad\n", "[ERROR] bad"),
        ("bad model\n[INFO] end to finalize acl\n", "bad model"),
        ("[INFO] only this\n", "[INFO] only this"),
        ("bad file\rInference array Processing:  50%|███  | 1/2\rInference array Processing: 100%|██████| 2/2\n────\n",
         "bad file"),
        ("Usage: x\nTry 'x --help' for help.\n╭─ Error ────╮\n│ No such │\n│ option  │\n╰────────────╯\n",
         "No such option"),
        ("\x1b[31m[ERROR] bad\x1b[0m file\n[\x1b[1;32mSOLUTION\x1b[0m] visit\n", "[ERROR] bad file"),
        ("Usage: x\n+- Error ----+\n| No option  |\n+------------+\n", "No option"),
        ("Traceback\nModuleNotFoundError: No module named 'x'\n", "ModuleNotFoundError: No module named 'x'"),
        (f"[ERROR] {'x' * 999}", f"[ERROR] {'x' * 189}..."),
        ("[ERROR] load model failed",
         "[ERROR] load model failed (was it converted for this chip (--soc_version) by this or an older CANN "
         "version?)"),
    ],
)  # fmt: skip
def test_reason_of_a_failure(output, reason):
    assert reason_of(output) == reason


def test_chip_name_of_npu_smi(monkeypatch, tmp_path):
    bare_machine(monkeypatch, tmp_path)
    assert chip_name() is None
    (tmp_path / "npu-smi").symlink_to(STANDINS / "npu-smi")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for chips, name in [("310,310,310,310", "Ascend310"), ("310P3", "Ascend310P3"), ("310,310P3", None), ("", None)]:
        monkeypatch.setenv("NPU_SMI_CHIPS", chips)
        assert chip_name() == name
    executable(tmp_path / "npu-smi.broken", "#!/bin/sh\nexit 1\n").replace(tmp_path / "npu-smi")
    assert chip_name() is None
