"""Selection of the runtime on machines with and without Ascend's tools, and the errors if none is available."""

import os
import re
import sys

import pytest
from ascend import bare_machine, install_acl, install_ais_bench, place_benchmark

from model.common.errors import UserError
from model.runtime.benchmark_tool import tool_name
from model.runtime.choice import choose


@pytest.fixture
def here(monkeypatch, tmp_path):
    """Simulate a machine without Ascend's tools, whose working directory contains empty om and ONNX files."""
    bare_machine(monkeypatch, tmp_path)
    monkeypatch.setitem(sys.modules, "acl", None)
    for name in ("both.om", "both.onnx", "om_only.om", "onnx_only.onnx"):
        (tmp_path / name).touch()
    return tmp_path


def test_onnx_runtime_without_tools_with_reason(here):
    choice = choose("auto", here / "both")
    assert choice[:2] == ("onnxruntime", here / "both.onnx")
    assert "no runtime for" in choice.why and "both.om is available: benchmark." in choice.why
    choice = choose("auto", here / "onnx_only")
    assert choice.runtime == "onnxruntime" and "there is no om file of this name" in choice.why


def test_first_available_tool_is_used(here, monkeypatch):
    install_acl(monkeypatch)
    assert choose("auto", here / "both")[:2] == ("acl", here / "both.om")
    install_ais_bench(monkeypatch)
    assert choose("auto", here / "both").runtime == "ais_bench"
    place_benchmark(here)
    choice = choose("auto", here / "both")
    assert choice.runtime == "benchmark" and "are available" in choice.why
    assert choose("auto", here / "both", direct=True).runtime == "acl"


def test_unavailable_tools_are_named(here, monkeypatch):
    """If BENCHMARK_TOOL is a wrong path, `auto` uses a different tool and must report the reason."""
    install_ais_bench(monkeypatch)
    why = choose("auto", here / "both").why
    assert "are available (benchmark." in why and "ais_bench not found" not in why
    monkeypatch.setenv("BENCHMARK_TOOL", str(here / "nowhere"))
    assert f"{tool_name()} not found in BENCHMARK_TOOL={here / 'nowhere'}" in choose("auto", here / "both").why
    place_benchmark(here).chmod(0o644)
    monkeypatch.delenv("BENCHMARK_TOOL")
    assert "not executable" in choose("auto", here / "both").why


def test_direct_run_without_pyacl_uses_a_tool(here):
    place_benchmark(here)
    assert choose("auto", here / "both", direct=True).runtime == "benchmark"


def test_onnx_file_selects_onnx_runtime(here):
    place_benchmark(here)
    assert choose("auto", here / "both.onnx").runtime == "onnxruntime"
    assert choose("auto", here / "both.om").runtime == "benchmark"


@pytest.mark.parametrize("runtime", ["auto", "onnxruntime", "acl"])
def test_a_checkpoint_in_place_of_a_model_names_the_export(here, runtime):
    model = here / "some encoder.ptm"
    model.touch()
    found = f"is a checkpoint, expected an om or ONNX file; export it first: pth2onnx.py --checkpoint '{model}'"
    with pytest.raises(UserError, match=re.escape(found)):
        choose(runtime, model)


def test_om_file_without_runtime_falls_back_to_onnx(here):
    assert choose("auto", here / "both.om")[:2] == ("onnxruntime", here / "both.onnx")


@pytest.mark.parametrize(
    ("runtime", "model", "message"),
    [
        ("auto", "none", "none: no om or ONNX file of this name; create them with test/pth2om.sh"),
        ("auto", "om_only", r"no runtime for .*om_only\.om is available: .*, and there is no ONNX file of this name"),
        ("onnxruntime", "om_only.om", "ONNX Runtime cannot run om files, and there is no ONNX file of this name"),
        ("onnxruntime", "none.onnx", r"none\.onnx: no such ONNX file; create it with pth2onnx\.py"),
        ("benchmark", "onnx_only.onnx",
         r"no om file for --runtime benchmark; only .*onnx_only\.onnx exists; create one with"),
        ("acl", "none", r"none: no om file for --runtime acl; create one with test/pth2om\.sh"),
        ("benchmark", "both.om", r"benchmark\.\w+ not found"),
        ("ais_bench", "both.om", r"ais_bench not found .*; set AIS_BENCH_PYTHON to the Python with ais_bench"),
        ("acl", "both.om", r"pyACL cannot be imported .* source its set_env\.sh"),
    ],
)  # fmt: skip
def test_missing_files_and_tools_are_one_line(here, runtime, model, message):
    with pytest.raises(UserError, match=message) as error:
        choose(runtime, here / model)
    assert "\n" not in str(error.value) and error.value.exit_status == 1


def test_models_by_length_need_their_runtime(here):
    (here / "m_f9.om").touch()
    with pytest.raises(UserError, match="pyACL cannot be imported"):
        choose("acl", here / "m", direct=True)
    with pytest.raises(UserError, match="m: no om or ONNX file of this name"):
        choose("auto", here / "m", direct=True)
    (here / "m_f4.onnx").touch()
    assert choose("auto", here / "m", direct=True)[::3] == ("onnxruntime", {4: here / "m_f4.onnx"})


def test_names_with_the_system_appended_by_atc(here, monkeypatch):
    """Of the files with and without the name of the system, the newest file is used."""
    install_acl(monkeypatch)
    added = here / "both_linux_aarch64.om"
    added.touch()
    for om, age in ((added, 100), (here / "both.om", 50)):
        os.utime(om, (1e9 - age, 1e9 - age))
    assert choose("acl", here / "both").model == here / "both.om"
    os.utime(added, (1e9, 1e9))
    assert choose("acl", here / "both").model == added
    assert choose("onnxruntime", added).model == here / "both.onnx"
