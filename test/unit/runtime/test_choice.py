"""Which runtime is taken on machines with and without Ascend's tools, and what is told when none will do."""

import os
import sys

import pytest
from ascend import bare_machine, install_acl, install_ais_bench, place_benchmark

from model.common.errors import UserError
from model.runtime.choice import choose


@pytest.fixture
def here(monkeypatch, tmp_path):
    """A machine without tools, with the files of two models."""
    bare_machine(monkeypatch, tmp_path)
    monkeypatch.setitem(sys.modules, "acl", None)
    for name in ("both.om", "both.onnx", "om_only.om", "onnx_only.onnx"):
        (tmp_path / name).touch()
    return tmp_path


def test_without_tools_it_is_onnx_runtime_and_it_is_said_why(here):
    choice = choose("auto", here / "both")
    assert choice[:2] == ("onnxruntime", here / "both.onnx")
    assert "both.om is here, but nothing that runs it: no benchmark." in choice.why
    choice = choose("auto", here / "onnx_only")
    assert choice.runtime == "onnxruntime" and "there is no om beside it" in choice.why


def test_the_first_tool_that_is_there_is_taken(here, monkeypatch):
    install_acl(monkeypatch)
    assert choose("auto", here / "both")[:2] == ("acl", here / "both.om")
    install_ais_bench(monkeypatch)
    assert choose("auto", here / "both").runtime == "ais_bench"
    place_benchmark(here)
    choice = choose("auto", here / "both")
    assert choice.runtime == "benchmark" and "both here" in choice.why
    assert choose("auto", here / "both", direct=True).runtime == "acl"


def test_what_is_passed_over_is_told(here, monkeypatch):
    """A tool that somebody has named, in the wrong place, must not give way to another in silence."""
    install_ais_bench(monkeypatch)
    why = choose("auto", here / "both").why
    assert "both here (no benchmark." in why and "ais_bench found" not in why
    monkeypatch.setenv("BENCHMARK_TOOL", str(here / "nowhere"))
    assert f"(looked as BENCHMARK_TOOL={here / 'nowhere'})" in choose("auto", here / "both").why
    place_benchmark(here).chmod(0o644)
    monkeypatch.delenv("BENCHMARK_TOOL")
    assert "is not executable" in choose("auto", here / "both").why


def test_without_pyacl_the_direct_way_takes_a_tool(here):
    place_benchmark(here)
    assert choose("auto", here / "both", direct=True).runtime == "benchmark"


def test_an_onnx_file_is_taken_at_its_word_an_om_is_not(here):
    place_benchmark(here)
    assert choose("auto", here / "both.onnx").runtime == "onnxruntime"
    assert choose("auto", here / "both.om").runtime == "benchmark"


def test_an_om_that_nothing_runs_gives_way_to_its_onnx(here):
    assert choose("auto", here / "both.om")[:2] == ("onnxruntime", here / "both.onnx")


@pytest.mark.parametrize(
    ("runtime", "model", "told"),
    [
        ("auto", "none", "none: no om or ONNX file of that name; make them with test/pth2om.sh"),
        ("auto", "om_only", r"om_only\.om is here, but nothing that runs it: .*, and no ONNX file beside it"),
        ("onnxruntime", "om_only.om", "ONNX Runtime cannot run an om, and there is no ONNX file beside it"),
        ("onnxruntime", "none.onnx", r"none\.onnx: no such ONNX file; make it with pth2onnx\.py"),
        ("benchmark", "onnx_only.onnx", r"no om file for --runtime benchmark; .*onnx_only\.onnx is there; test/pth2om"),
        ("acl", "none", r"none: no om file for --runtime acl; test/pth2om\.sh makes one"),
        ("benchmark", "both.om", r"no benchmark\.\w+ found"),
        ("ais_bench", "both.om", "no ais_bench found"),
        ("acl", "both.om", "pyACL cannot be imported"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(here, runtime, model, told):
    with pytest.raises(UserError, match=told) as error:
        choose(runtime, here / model)
    assert "\n" not in str(error.value) and error.value.exit_status == 1


def test_unknown_name(here):
    with pytest.raises(UserError, match="--runtime tensorrt: no such runtime here, there is auto, benchmark") as error:
        choose("tensorrt", here / "both")
    assert error.value.exit_status == 2


def test_names_to_which_atc_added_the_system(here, monkeypatch):
    """The newest counts; what an earlier conversion left beside it does not."""
    install_acl(monkeypatch)
    added = here / "both_linux_aarch64.om"
    added.touch()
    for om, age in ((added, 100), (here / "both.om", 50)):
        os.utime(om, (1e9 - age, 1e9 - age))
    assert choose("acl", here / "both").model == here / "both.om"
    os.utime(added, (1e9, 1e9))
    assert choose("acl", here / "both").model == added
    assert choose("onnxruntime", added).model == here / "both.onnx"
