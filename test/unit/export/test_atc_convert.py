"""ONNX to om through the stand-in for atc, and through small scripts that behave as no atc should."""

import importlib.util
import json
import shlex
import sys
from pathlib import Path

import onnx
import pytest
from cann_folder import ARCH, STANDINS, write_cann, write_script
from scripts import one_line_error, run_module
from tiny_onnx import tiny_model

from model.common.errors import UsageError, UserError
from model.export.atc import convert as converting
from model.export.atc.arguments import check_options, check_path, find_atc
from model.export.atc.convert import command_for, convert, environment_for

SUCCESS = "ATC run success, welcome to the next use."
FAILURE = "ATC run failed, Please check the detail log, Try 'atc --help' for more information"


def read_om(path):
    spec = importlib.util.spec_from_file_location("om_file", STANDINS / "om_file.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.read_om(path)


@pytest.fixture
def cann(tmp_path, monkeypatch):
    """CANN with the stand-in, its bin first on the PATH; nothing of this machine's."""
    for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH", "LD_LIBRARY_PATH"):
        monkeypatch.delenv(name, raising=False)
    folder = write_cann(tmp_path / "Ascend")
    monkeypatch.setenv("PATH", f"{folder}/latest/bin:/usr/bin:/bin")
    return folder / "latest"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "models" / "gaitset_submit.onnx"
    path.parent.mkdir()
    onnx.save(tiny_model(), path)
    return path


@pytest.fixture
def behave(tmp_path, monkeypatch):
    """Puts a script in the place of atc; `$om` is where the om belongs, without its suffix."""

    def write(text):
        find = 'for option; do case "$option" in --output=*) om="${option#--output=}" ;; esac; done'
        write_script(tmp_path / "script" / "atc", f"{find}\n{text}")
        monkeypatch.setenv("PATH", f"{tmp_path}/script:/usr/bin:/bin")

    return write


def converted(model, soc_version="Ascend310", **arguments):
    return convert(model, model.with_suffix(".om"), soc_version, **arguments)


def test_an_om_appears_beside_its_model(cann, model):
    facts = converted(model, "Ascend310P3")
    header, content = read_om(model.with_suffix(".om"))
    assert header == {
        "soc_version": "Ascend310P3",
        "input_name": "image_seq",
        "input_shape": [2, 4, 8, 6],
        "output_name": "feature",
    }
    assert onnx.load_from_string(content) == onnx.load(model)
    assert facts["soc_version"] == "Ascend310P3" and facts["batch_size"] == 2 and facts["cann"] == "8.0.0"
    assert facts["bytes"] == model.with_suffix(".om").stat().st_size
    assert sorted(p.name for p in model.parent.iterdir()) == [
        "gaitset_submit.atc.log",
        "gaitset_submit.om",
        "gaitset_submit.onnx",
    ]
    log = Path(facts["log"]).read_text()
    assert "--soc_version=Ascend310P3" in log and SUCCESS in log and "noise of the operator compiler" in log


def test_the_command_is_the_published_one():
    arguments = (Path("/cann/bin/atc"), Path("/m/gaitset_submit.onnx"), Path("/m/gaitset_submit"), [16, 100, 64, 44])
    assert command_for(*arguments, "Ascend310", []) == [
        "/cann/bin/atc",
        "--framework=5",
        "--model=/m/gaitset_submit.onnx",
        "--output=/m/gaitset_submit",
        "--input_shape=image_seq:16,100,64,44",
        "--soc_version=Ascend310",
        "--log=error",
    ]
    assert command_for(*arguments, "Ascend310", ["--log=debug"])[-2:] == ["--soc_version=Ascend310", "--log=debug"]


@pytest.mark.parametrize("naming", ["_linux_x86_64", "_linux_aarch64"])
def test_an_om_with_the_host_in_its_name_gets_the_agreed_one(cann, model, monkeypatch, naming):
    monkeypatch.setenv("ATC_STANDIN_NAMING", naming)
    converted(model)
    assert read_om(model.with_suffix(".om"))[0]["soc_version"] == "Ascend310"
    assert not list(model.parent.glob(f"*{naming}*"))


@pytest.mark.parametrize("newer", ["", "1"])
def test_a_refusal_is_one_line_with_advice_and_leaves_the_old_om(cann, model, monkeypatch, tmp_path, newer):
    monkeypatch.setenv("ATC_STANDIN_NEWER", newer)
    om, log = model.with_suffix(".om"), tmp_path / "log" / "atc.log"
    om.write_bytes(b"the good one")
    with pytest.raises(UserError) as caught:
        converted(model, "Ascend310P9", log_file=log)
    line = str(caught.value)
    assert "\n" not in line and line.startswith("atc failed with status 255: E10001: Value")
    assert "Ascend310P9" in line and "PID" not in line and "mend --soc_version" in line and str(log) in line
    assert om.read_bytes() == b"the good one"
    assert sorted(p.name for p in model.parent.iterdir()) == ["gaitset_submit.om", "gaitset_submit.onnx"]
    assert log.read_text().rstrip().endswith("exit status 255")


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        ("exit 0", "ended with status 0 but did not report success"),
        (f"echo x > $om.om; echo {SUCCESS!r}; exit 3", "failed with status 3"),
        (f'echo x > $om.om; echo "{FAILURE}"; exit 0', "failed with status 0"),
        (f"echo {SUCCESS!r}", "of the one gaitset_submit.om expected there is none"),
        (f"touch $om.om; echo {SUCCESS!r}", "expected there is gaitset_submit.om"),
        (f"echo x | tee $om.om > ${{om}}_linux_x86_64.om; echo {SUCCESS!r}", "gaitset_submit_linux_x86_64.om"),
        ("kill -9 $$", "status -9: it was killed, most likely for want of memory"),
        ("exit 137", "it was killed"),
        ("echo strange; exit 1", "--atc_options=--log=debug"),
    ],
)
def test_only_status_verdict_and_file_together_are_success(behave, model, behaviour, told):
    behave(behaviour)
    model.with_suffix(".om").write_bytes(b"an earlier run's")
    with pytest.raises(UserError) as caught:
        converted(model)
    assert told in str(caught.value) and "its output is in" in str(caught.value)
    assert model.with_suffix(".om").read_bytes() == b"an earlier run's"


def test_an_atc_of_another_machine(tmp_path, model, monkeypatch):
    program = write_script(tmp_path / "alien" / "atc", "")
    program.write_bytes(b"\x7fELF of another processor")
    monkeypatch.setenv("PATH", str(program.parent))
    with pytest.raises(UserError, match=r"alien/atc: cannot be run.*CANN's atc for this machine"):
        converted(model)


def test_no_atc(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"install CANN's toolkit.*source its.*set_env\.sh.*--cann_path.*--onnx-only"):
        find_atc()


def test_a_model_that_does_not_suit_is_not_given_to_atc(behave, tmp_path):
    behave("echo was called; exit 1")
    path = tmp_path / "dynamic.onnx"
    onnx.save(tiny_model(batch="batch"), path)
    with pytest.raises(UserError, match=r"dynamic\.onnx: does not suit ATC: input image_seq has shape"):
        converted(path)
    assert [p.name for p in tmp_path.glob("dynamic*")] == ["dynamic.onnx"]


def test_a_log_that_cannot_be_written(cann, model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/atc\.log: cannot be written"):
        converted(model, log_file=tmp_path / "file" / "atc.log")


@pytest.mark.parametrize("place", [f"{ARCH}/devlib", "runtime/lib64/stub"])
def test_without_a_driver_the_library_of_cann_stands_in(cann, model, monkeypatch, place):
    monkeypatch.setenv("ATC_STANDIN_DRIVER", "1")
    with pytest.raises(UserError, match=r"status 127.*libascend_hal\.so.*comes with the NPU driver.*devlib"):
        converted(model)
    (cann / place).mkdir(parents=True)
    (cann / place / "libascend_hal.so").touch()
    facts = converted(model)
    assert f"again, with {cann / place} at the end of LD_LIBRARY_PATH" in Path(facts["log"]).read_text()


def test_the_stand_in_library_is_looked_for_last(behave, model, monkeypatch, tmp_path):
    devlib = tmp_path / "devlib"
    devlib.mkdir()
    (devlib / "libascend_hal.so").touch()
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(tmp_path))
    monkeypatch.setenv("LD_LIBRARY_PATH", "/given")
    behave(f"""
        if [[ "$LD_LIBRARY_PATH" == "/given:{devlib}" ]]; then echo ok > $om.om; echo {SUCCESS!r}; exit 0; fi
        echo "atc.bin: error while loading shared libraries: libascend_hal.so: cannot open shared object file: No"
        exit 127""")
    converted(model)
    assert model.with_suffix(".om").read_text() == "ok\n"


def test_the_python_that_atc_finds_lacks_packages(cann, model, monkeypatch, tmp_path):
    monkeypatch.setenv("ATC_STANDIN_PYTHON", "1")
    bare = write_script(
        tmp_path / "bare" / "python3", "echo \"ModuleNotFoundError: No module named 'decorator'\" >&2; exit 1"
    )
    monkeypatch.setenv("PATH", f"{cann}/bin:{bare.parent}:/usr/bin:/bin")
    with pytest.raises(UserError) as caught:
        converted(model)
    assert "EC0010" in str(caught.value) and f"{bare} -m pip install attrs" in str(caught.value)


@pytest.mark.parametrize(("has_decorator", "kept"), [(False, False), (True, True)])
def test_an_environment_of_ours_is_not_atcs(monkeypatch, tmp_path, has_decorator, kept):
    """atc runs the first python3 of the PATH; in an activated .venv that would be ours."""
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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("precision_mode=force_fp32", "has not the form --name=value"),
        ("--precision_mode force_fp32", "has not the form"),
        ("--precision_mode=", "has not the form"),
        ("--log='debug", "No closing quotation"),
        ("--soc_version=Ascend310", "--soc_version is set from"),
        ("--output=x", "--output is set from"),
        ("--dynamic_batch_size=1,16", "fixed shapes, one for each of --batch_sizes"),
        ("--auto_tune_mode=RL,GA", "aoe tunes"),
        ("--insert_op_conf=a.cfg", "read other than float32 bins"),
        ("--output_type=FP16", "write other than float32 features"),
        ("--external_weight=1", "outside the om"),
        ("--log=info --log=debug", "--log is there twice"),
        ("--precision_mode=force_fp32 --precision_mode_v2=origin", "exclude each other"),
    ],
)
def test_options_that_cannot_be_passed_on(text, told):
    with pytest.raises(UsageError) as caught:
        check_options(text)
    assert told in str(caught.value)


def test_options_are_passed_on_as_they_are(cann, model):
    options = check_options("--precision_mode=must_keep_origin_dtype --debug_dir='/a b/$(id)'")
    assert options == ["--precision_mode=must_keep_origin_dtype", "--debug_dir=/a b/$(id)"]
    facts = converted(model, options=options)
    assert shlex.join(options) in Path(facts["log"]).read_text()
    with pytest.raises(UserError, match=r"E10001.*precision_mode.*mend --atc_options"):
        converted(model, options=["--precision_mode=fp8"])


def test_chinese_folders_are_fine_for_atc(cann, model, tmp_path):
    moved = tmp_path / "步态" / "m.onnx"
    moved.parent.mkdir()
    model.replace(moved)
    converted(moved)
    assert moved.with_suffix(".om").is_file()


@pytest.mark.parametrize("name", ["a b", "a;b", "a$(id)", "a'b", "größe", "a+b", "步，态"])
def test_odd_paths_are_named_before_atc_stumbles(cann, tmp_path, name):
    with pytest.raises(UsageError, match="use another folder"):
        check_path(tmp_path / name / "m.onnx")


def test_a_link_is_judged_by_where_it_leads(tmp_path):
    (tmp_path / "a b").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a b")
    with pytest.raises(UsageError, match=r"a b/m\.onnx"):
        check_path(tmp_path / "link" / "m.onnx")


def test_the_command_checks_then_converts(cann, model, tmp_path):
    done = run_module("model.export.atc", "--check", "--soc_version=Ascend310P3", model)
    assert (done.returncode, done.stdout) == (0, "Ascend310P3\n"), done.stderr
    assert not model.with_suffix(".om").exists()
    done = run_module("model.export.atc", "--soc_version=Ascend310P3", "--json", tmp_path / "om.json", model)
    assert done.returncode == 0 and f"wrote {model.with_suffix('.om')}" in done.stdout, done.stderr
    assert json.loads((tmp_path / "om.json").read_text())["om"] == str(model.with_suffix(".om"))


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--soc_version=310P3"], 2, "--soc_version=310P3: ATC takes"),
        (["--soc_version=$(touch x)"], 2, "$(touch x): ATC takes"),
        (["--atc_options=$(touch x)"], 2, "has not the form"),
        (["--atc_options=--log=`touch x`;touch x"], 2, "has not the form"),
        (["a b/c.onnx"], 2, "not ' '"),
        (["m.ptm"], 2, "must end in .onnx"),
        (["--json=x.json"], 2, "of one model"),
        (["--sock_version=Ascend310"], 2, "did you mean --soc_version?"),
        (["--soc_version=Ascend310"], 1, "nowhere.onnx: no such ONNX file"),
    ],
)
def test_what_users_get_wrong_is_one_line(cann, tmp_path, arguments, status, told):
    more = [tmp_path / "two.onnx"] if "--json=x.json" in arguments else []
    done = run_module("model.export.atc", *arguments, tmp_path / "nowhere.onnx", *more)
    assert told in one_line_error(done, status)
    assert not Path("x").exists()
