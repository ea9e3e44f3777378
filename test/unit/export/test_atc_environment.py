"""The environment in which atc runs: the driver library, and the Python with CANN's packages."""

import sys
from pathlib import Path

import pytest
from cann_folder import ARCH, write_script
from tiny_onnx import converted

from model.common.errors import UserError
from model.export.atc import convert as converting
from model.export.atc.convert import environment_for

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("place", [f"{ARCH}/devlib", "runtime/lib64/stub"])
def test_atc_is_retried_with_the_driver_library_of_cann(cann, model, monkeypatch, place):
    monkeypatch.setenv("ATC_STANDIN_DRIVER", "1")
    with pytest.raises(UserError, match=r"status 127.*libascend_hal\.so.*comes with the NPU driver.*devlib"):
        converted(model)
    (cann / place).mkdir(parents=True)
    (cann / place / "libascend_hal.so").touch()
    facts = converted(model)
    assert f"retry with {cann / place} at the end of LD_LIBRARY_PATH" in Path(facts["log"]).read_text()


def test_the_driver_library_of_cann_is_searched_last(behave, model, monkeypatch, tmp_path):
    devlib = tmp_path / "devlib"
    devlib.mkdir()
    (devlib / "libascend_hal.so").touch()
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(tmp_path))
    monkeypatch.setenv("LD_LIBRARY_PATH", "/given")
    behave(f"""
        if [[ "$LD_LIBRARY_PATH" == "/given:{devlib}" ]]; then echo ok > $om.om; echo $success; exit 0; fi
        echo "atc.bin: error while loading shared libraries: libascend_hal.so: cannot open shared object file: No"
        exit 127""")
    converted(model)
    assert model.with_suffix(".om").read_text() == "ok\n"


def test_missing_packages_of_atcs_python_are_explained(cann, model, monkeypatch, tmp_path):
    monkeypatch.setenv("ATC_STANDIN_PYTHON", "1")
    bare = write_script(
        tmp_path / "bare" / "python3", "echo \"ModuleNotFoundError: No module named 'decorator'\" >&2; exit 1"
    )
    monkeypatch.setenv("PATH", f"{cann}/bin:{bare.parent}:/usr/bin:/bin")
    with pytest.raises(UserError) as caught:
        converted(model)
    assert "EC0010" in str(caught.value) and f"{bare} -m pip install attrs" in str(caught.value)


@pytest.mark.parametrize(("has_decorator", "kept"), [(False, False), (True, True)])
def test_atc_does_not_use_our_virtual_environment(monkeypatch, tmp_path, has_decorator, kept):
    """atc runs the first python3 on the PATH, which in an activated .venv is ours."""
    own = tmp_path / "bin"
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(converting.importlib.util, "find_spec", lambda _: object() if has_decorator else None)
    monkeypatch.setenv("PATH", f"{own}:/usr/bin")
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
    environment = environment_for("/cann/bin/atc")
    assert environment["PATH"] == (f"{own}:/usr/bin" if kept else "/usr/bin")
    assert ("VIRTUAL_ENV" in environment) == kept
    assert environment_for(str(own / "atc"))["PATH"] == f"{own}:/usr/bin"
