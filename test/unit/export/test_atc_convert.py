"""Conversion of ONNX to om with the stand-in for atc, and with scripts that misbehave."""

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from cann_folder import ARCH, write_cann, write_script
from onnx import helper, numpy_helper
from scripts import run_module
from standins.om_file import read_om
from tiny_onnx import constant, tiny_model, with_nodes

from model.common.errors import UsageError, UserError
from model.export.atc import convert as converting
from model.export.atc.arguments import check_options
from model.export.atc.convert import Source, command_for, convert, environment_for, source_of

pytestmark = pytest.mark.slow

SUCCESS = "ATC run success, welcome to the next use."
FAILURE = "ATC run failed, Please check the detail log, Try 'atc --help' for more information"


@pytest.fixture
def cann(tmp_path, monkeypatch):
    """An installation of CANN with the stand-in first on the PATH, isolated from this machine's environment."""
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
    """Return a function that replaces atc by a script. In the script, `$om` is the path of the om without suffix."""

    def write(text):
        find = 'for option; do case "$option" in --output=*) om="${option#--output=}" ;; esac; done'
        write_script(tmp_path / "script" / "atc", f"{find}\n{text}")
        monkeypatch.setenv("PATH", f"{tmp_path}/script:/usr/bin:/bin")

    return write


def converted(model, soc_version="Ascend310", input_shape=None, lint=True, **arguments):
    return convert(source_of(model, input_shape, lint), model.with_suffix(".om"), soc_version, **arguments)


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
    assert "--soc_version=Ascend310P3" in log and SUCCESS in log and "noise of the operator compiler" in log


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
        (f"echo x > $om.om; echo {SUCCESS!r}; exit 3", "failed with status 3"),
        (f'echo x > $om.om; echo "{FAILURE}"; exit 0', "failed with status 0"),
        (f"echo {SUCCESS!r}", "instead of one gaitset_submit.om it left: none"),
        (f"touch $om.om; echo {SUCCESS!r}", "it left: gaitset_submit.om"),
        (f"echo x | tee $om.om > ${{om}}_linux_x86_64.om; echo {SUCCESS!r}", "gaitset_submit_linux_x86_64.om"),
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
    with pytest.raises(UserError, match=r"alien/atc: cannot be run.*CANN's atc for this machine"):
        converted(model)


def test_an_unsuitable_model_is_not_passed_to_atc(behave, tmp_path):
    behave("echo unexpected; exit 1")
    path = tmp_path / "dynamic.onnx"
    onnx.save(tiny_model(batch="batch"), path)
    with pytest.raises(UserError, match=r"dynamic\.onnx: does not suit ATC: input image_seq has shape"):
        converted(path)
    assert [p.name for p in tmp_path.glob("dynamic*")] == ["dynamic.onnx"]


def symbolic_model(path):
    """Write a model like the export of the NPU port: a symbolic batch size, from which it computes a shape."""
    nodes = [
        helper.make_node("Shape", ["image_seq"], ["shape"], "shape"),
        helper.make_node("Gather", ["shape", "first"], ["batch"], "gather", axis=0),
        helper.make_node("Slice", ["shape", "begin", "end"], ["two"], "slice"),
        helper.make_node("Concat", ["batch", "rest"], ["target"], "concat", axis=0),
        helper.make_node("Unsqueeze", ["image_seq"], ["wide"], "widen", axes=[0]),
        helper.make_node("ReduceMax", ["wide"], ["pooled"], "pool", axes=[2], keepdims=0),
        helper.make_node("Reshape", ["pooled", "target"], ["feature"], "fold"),
    ]
    weights = [constant("first", [0]), constant("begin", [0]), constant("end", [2]), constant("rest", [6, 8])]
    onnx.save(tiny_model(nodes, batch="-1", output_shape=("-1", 6, 8), initializers=weights), path)
    return path


@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_symbolic_batch_size_is_fixed_by_the_input_shape(cann, tmp_path, caplog, batch_size):
    model = symbolic_model(tmp_path / "zoo.onnx")
    with pytest.raises(UserError, match=r"has shape \['-1', 4, 8, 6\], but .* give --input_shape=image_seq:N"):
        converted(model)
    facts = converted(model, input_shape=[batch_size, 4, 8, 6])
    assert facts["batch_size"] == batch_size and facts["input"] == {"image_seq": [batch_size, 4, 8, 6]}
    assert read_om(model.with_suffix(".om"))[0]["input_shape"] == [batch_size, 4, 8, 6]
    assert f"--input_shape=image_seq:{batch_size},4,8,6" in Path(facts["log"]).read_text()
    assert caplog.messages == []


@pytest.mark.parametrize("shape", [[16, 4, 8], [16, 4, 8, 7], [3, 2, 4, 8, 6]])
def test_an_input_shape_that_contradicts_the_model_is_an_error(cann, tmp_path, shape):
    with pytest.raises(UsageError, match=r"--input_shape=\d.*zoo\.onnx has the shape \['-1', 4, 8, 6\]"):
        converted(symbolic_model(tmp_path / "zoo.onnx"), input_shape=shape)


def test_an_input_shape_cannot_change_a_static_batch_size(cann, model):
    with pytest.raises(UsageError, match=r"--input_shape=16,4,8,6: the input of .* has the shape \[2, 4, 8, 6\]"):
        converted(model, input_shape=[16, 4, 8, 6])


def test_risks_of_foreign_files_are_warnings(cann, tmp_path, caplog, monkeypatch):
    """atc decides, and its error is reported if it rejects the model."""
    acts = [helper.make_node("Relu", ["image_seq" if i == 0 else f"t{i}"], [f"t{i + 1}"], f"act{i}") for i in range(7)]
    acts[-1].output[0] = "feature"
    path = tmp_path / "foreign.onnx"
    onnx.save(with_nodes(*acts), path)
    converted(path)
    assert path.with_suffix(".om").is_file()
    assert len(caplog.messages) == 6 and caplog.messages[-1].endswith("2 more warnings of this kind")
    assert "foreign.onnx: some versions of ATC may reject it: operator Relu of node act0" in caplog.messages[0]
    caplog.clear()
    converted(path, lint=False)
    assert caplog.messages == []
    onnx.save(tiny_model(opsets=[("", 12)]), path)
    with pytest.raises(UserError, match=r"atc failed with status 255: E19010"):
        converted(path)
    assert "opset 12, but only 11" in caplog.text


def test_the_input_may_have_another_name(cann, tmp_path):
    path = tmp_path / "foreign.onnx"
    onnx.save(tiny_model(names=("input", "out")), path)
    assert converted(path)["input"] == {"input": [2, 4, 8, 6]}


@pytest.mark.parametrize("lint", [True, False])
def test_weights_in_another_file_stop_only_the_check(behave, tmp_path, lint):
    behave(f"echo ok > $om.om; echo {SUCCESS!r}")
    weights = numpy_helper.from_array(np.ones((2, 4, 8, 6), np.float32), "weights")
    path = tmp_path / "split.onnx"
    model = with_nodes(helper.make_node("Add", ["image_seq", "weights"], ["feature"], "add"), initializers=[weights])
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    if lint:
        with pytest.raises(UserError, match=r"does not suit ATC: 1 weights are in another file"):
            converted(path)
    else:
        assert converted(path, lint=False)["batch_size"] == 2


def test_an_unwritable_log_is_an_error(cann, model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/atc\.log: cannot be written"):
        converted(model, log_file=tmp_path / "file" / "atc.log")


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
        if [[ "$LD_LIBRARY_PATH" == "/given:{devlib}" ]]; then echo ok > $om.om; echo {SUCCESS!r}; exit 0; fi
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


def test_chinese_folders_are_accepted(cann, model, tmp_path):
    moved = tmp_path / "步态" / "m.onnx"
    moved.parent.mkdir()
    model.replace(moved)
    converted(moved)
    assert moved.with_suffix(".om").is_file()


def test_command_line_checks_and_converts(cann, model, tmp_path):
    done = run_module("model.export.atc", "--check", "--soc_version=Ascend310P3", model)
    assert (done.returncode, done.stdout) == (0, "Ascend310P3\n"), done.stderr
    assert not model.with_suffix(".om").exists()
    done = run_module("model.export.atc", "--soc_version=Ascend310P3", "--json", tmp_path / "om.json", model)
    assert done.returncode == 0 and f"wrote {model.with_suffix('.om')}" in done.stdout, done.stderr
    assert json.loads((tmp_path / "om.json").read_text())["om"] == str(model.with_suffix(".om"))


def test_command_line_converts_one_symbolic_model_for_several_batch_sizes(cann, tmp_path):
    model = symbolic_model(tmp_path / "zoo.onnx")
    for shape, om in (("image_seq:1,4,8,6", "zoo.om"), ("16,4,8,6", "zoo_bs16.om")):
        done = run_module("model.export.atc", f"--input_shape={shape}", "--soc_version=Ascend310", "--no_lint", model)
        assert done.returncode == 0 and f"wrote {tmp_path / om}" in done.stdout, done.stderr
    assert read_om(tmp_path / "zoo_bs16.om")[0]["input_shape"] == [16, 4, 8, 6]
