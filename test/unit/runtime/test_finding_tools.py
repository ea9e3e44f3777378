"""Where benchmark, ais_bench and msit are searched, and under which names."""

import platform
import sys

import pytest
from ascend import STANDINS, executable, place_benchmark

from model.common.errors import UserError
from model.runtime.ais_bench_tool import find_ais_bench
from model.runtime.benchmark_tool import find_benchmark, tool_name


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
