"""Convert ONNX to om with the stand-in for atc and with failing scripts, and prepare the environment of atc."""

import importlib.util
import shlex
import sys
from pathlib import Path

import onnx
import pytest
from cann_folder import ARCH, write_script
from standins.om_file import read_om
from tiny_onnx import converted

from model.common.errors import UserError
from model.export.atc.arguments import check_options
from model.export.atc.commands import environment_for
from model.export.atc.convert import Source, command_for

pytestmark = pytest.mark.slow


def test_convert_writes_the_om_next_to_its_model(cann, model):
    facts = converted(model, "Ascend310P3")
    header, content = read_om(model.with_suffix(".om"))
    names = {"input_name": "image_seq", "output_name": "feature"}
    assert header == {"soc_version": "Ascend310P3", "input_shape": [2, 4, 8, 6], **names}
    assert onnx.load_from_string(content) == onnx.load(model)
    assert facts["soc_version"] == "Ascend310P3" and facts["batch_size"] == 2 and facts["cann"] == "8.0.0"
    assert facts["bytes"] == model.with_suffix(".om").stat().st_size
    names = sorted(p.name for p in model.parent.iterdir())
    assert names == ["gaitset_submit.atc.log", "gaitset_submit.om", "gaitset_submit.onnx"]
    log = Path(facts["log"]).read_text()
    assert "--soc_version=Ascend310P3" in log and "ATC run success, welcome to the next use." in log
    assert "noise of the operator compiler" in log


def test_command_is_the_published_one():
    source = Source(Path("/m/gaitset_submit.onnx"), "image_seq", [16, 100, 64, 44])
    arguments = (Path("/cann/bin/atc"), source, Path("/m/gaitset_submit"))
    assert " ".join(command_for(*arguments, "Ascend310", [])) == (
        "/cann/bin/atc --framework=5 --model=/m/gaitset_submit.onnx --output=/m/gaitset_submit "
        "--input_shape=image_seq:16,100,64,44 --soc_version=Ascend310 --log=error"
    )
    assert command_for(*arguments, "Ascend310", ["--log=debug"])[-2:] == ["--soc_version=Ascend310", "--log=debug"]


@pytest.mark.parametrize("naming", ["_linux_x86_64", "_linux_aarch64"])
def test_an_om_named_after_the_host_is_renamed(cann, model, monkeypatch, naming):
    monkeypatch.setenv("ATC_STANDIN_NAMING", naming)
    converted(model)
    assert read_om(model.with_suffix(".om"))[0]["soc_version"] == "Ascend310"
    assert not list(model.parent.glob(f"*{naming}*"))


@pytest.mark.parametrize("newer", ["", "1"])
def test_a_refusal_is_one_line_with_advice_and_keeps_the_old_om(cann, model, monkeypatch, tmp_path, newer):
    monkeypatch.setenv("ATC_STANDIN_NEWER", newer)
    om, log = model.with_suffix(".om"), tmp_path / "log" / "atc.log"
    om.write_bytes(b"the good one")
    with pytest.raises(UserError) as caught:
        converted(model, "Ascend310P9", log_file=log)
    line = str(caught.value)
    assert "\n" not in line and line.startswith("atc failed with status 255: E10001: Value")
    assert "Ascend310P9" in line and "PID" not in line and "correct --soc_version" in line and str(log) in line
    assert om.read_bytes() == b"the good one"
    assert sorted(p.name for p in model.parent.iterdir()) == ["gaitset_submit.om", "gaitset_submit.onnx"]
    assert log.read_text().rstrip().endswith("exit status 255")


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("exit 0", "ended with status 0 but did not report success"),
        ("echo x > $om.om; echo $success; exit 3", "failed with status 3"),
        ("echo x > $om.om; echo $failure; exit 0", "failed with status 0"),
        ("echo $success", "instead of one om with content it left: none"),
        ("touch $om.om; echo $success", "it left: gaitset_submit.om"),
        ("echo x | tee $om.om > ${om}_linux_x86_64.om; echo $success", "gaitset_submit_linux_x86_64.om"),
        ("kill -9 $$", "status -9: it was killed, most likely for lack of memory"),
        ("exit 137", "it was killed"),
        ("echo strange; exit 1", "--atc_options=--log=debug"),
    ],
)
def test_convert_requires_status_message_and_file(behave, model, behaviour, words):
    behave(behaviour)
    model.with_suffix(".om").write_bytes(b"an earlier run's")
    with pytest.raises(UserError) as caught:
        converted(model)
    assert words in str(caught.value) and "its output is in" in str(caught.value)
    assert model.with_suffix(".om").read_bytes() == b"an earlier run's"


def test_an_atc_for_another_processor_is_an_error(tmp_path, model, monkeypatch):
    program = write_script(tmp_path / "alien" / "atc", "")
    program.write_bytes(b"\x7fELF of another processor")
    monkeypatch.setenv("PATH", str(program.parent))
    with pytest.raises(UserError, match=r"alien/atc: cannot be run.*the tool of CANN for this machine"):
        converted(model)


def test_an_unwritable_log_is_an_error(cann, model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/atc\.log: cannot be written"):
        converted(model, log_file=tmp_path / "file" / "atc.log")


def test_options_are_passed_to_atc_with_absolute_paths(cann, model, tmp_path, monkeypatch):
    """atc runs in a temporary folder, so a relative path would not be found there."""
    options = check_options("--precision_mode=must_keep_origin_dtype --debug_dir='/a b/$(id)'")
    assert options == ["--precision_mode=must_keep_origin_dtype", "--debug_dir=/a b/$(id)"]
    (tmp_path / "off.cfg").write_text("{}")
    (tmp_path / "bank").mkdir()
    options += check_options("--fusion_switch_file=off.cfg --op_bank_path=bank", tmp_path)
    assert options[-2:] == [f"--fusion_switch_file={tmp_path}/off.cfg", f"--op_bank_path={tmp_path}/bank"]
    facts = converted(model, options=options)
    assert shlex.join(options) in Path(facts["log"]).read_text()
    with pytest.raises(UserError, match=r"E10001.*precision_mode.*correct --atc_options"):
        converted(model, options=["--precision_mode=fp8"])


# The driver library, and the Python with CANN's packages


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


@pytest.mark.parametrize("has_decorator", [False, True])
def test_atc_does_not_use_our_virtual_environment(monkeypatch, tmp_path, has_decorator):
    """atc runs the first python3 on the PATH. In an activated .venv, this is the python3 of this project."""
    own = tmp_path / "bin"
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if has_decorator else None)
    monkeypatch.setenv("PATH", f"{own}:/usr/bin")
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
    environment = environment_for("/cann/bin/atc")
    assert environment["PATH"] == (f"{own}:/usr/bin" if has_decorator else "/usr/bin")
    assert ("VIRTUAL_ENV" in environment) == has_decorator
    assert environment_for(str(own / "atc"))["PATH"] == f"{own}:/usr/bin"
