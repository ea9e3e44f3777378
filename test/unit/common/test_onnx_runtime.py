"""ONNX Runtime is imported in only one place, and without telemetry."""

import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from scripts import ROOT
from tiny_onnx import tiny_model

# The stand-ins run in other programs, which inherit the environment, so they may import ONNX Runtime directly.
STANDINS = ROOT / "test/unit/support/standins"

# Statements and calls that import ONNX Runtime without `import_onnxruntime`.
IMPORT = re.compile(r"""(?m)^\s*(import .*|from )\bonnxruntime\b|(import_module|__import__)\(["']onnxruntime\b""")


def test_only_one_module_imports_onnxruntime():
    found = []
    for path in (*ROOT.glob("*.py"), *ROOT.glob("model/**/*.py"), *ROOT.glob("test/**/*.py")):
        text = path.read_text(encoding="utf-8")
        if STANDINS not in path.parents and path != Path(__file__) and IMPORT.search(text):
            found.append(path.relative_to(ROOT).as_posix())
    assert found == ["model/common/onnx_runtime.py"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import numpy, onnxruntime as ort", True),
        ("def f():\n    from onnxruntime.quantization import quantize", True),
        ("importlib.import_module('onnxruntime.tools')", True),
        ("import onnxruntime_extensions", False),
    ],
)
def test_the_check_finds_all_kinds_of_imports(line, found):
    assert bool(IMPORT.search(line)) is found


PROGRAMS = {
    "session": """
from model.runtime.ort_runtime import OrtRuntime
OrtRuntime({model!r}, threads=1)
""",
    "quantizer, and a subprocess": """
import subprocess, sys
from model.common.onnx_runtime import import_onnxruntime
import_onnxruntime("onnxruntime.quantization")
subprocess.run([sys.executable, "-c", "import onnxruntime"], check=True)
""",
}


@pytest.mark.skipif(os.name != "posix", reason="the home folder is named by other variables")
@pytest.mark.parametrize("name", PROGRAMS)
def test_onnxruntime_writes_nothing_into_the_home_folder(tmp_path, name):
    """ONNX Runtime disables its telemetry on CI systems, so the environment has none of their variables."""
    home, model = tmp_path / "home", tmp_path / "model.onnx"
    home.mkdir()
    onnx.save(tiny_model(), model)
    program = PROGRAMS[name].format(model=str(model))
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "ORT_DISABLE_TELEMETRY": "0"}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True, timeout=120)
    assert list(home.rglob("*")) == []
