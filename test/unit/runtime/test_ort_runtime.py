"""A small list with ONNX Runtime compared with PyTorch on each sequence."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from ascend import run_command_line
from onnx import TensorProto, helper

from model.common.errors import UserError
from model.common.onnx_runtime import import_onnxruntime
from model.export.manifest import read_info, write_info
from model.runtime import __main__ as command
from model.runtime.info_list import run_info_list
from model.runtime.ort_runtime import OrtRuntime
from model.runtime.performance_files import read_figures
from model.runtime.result_files import read_results


@pytest.fixture
def deployed(deployed):
    """Folder with models of batch 1 and 4 and five sequences of at most four frames; their embeddings by PyTorch."""
    return deployed.folder, deployed.embeddings


@pytest.mark.parametrize("batch_size", [1, 4])
def test_list_equals_torch(deployed, tmp_path, batch_size):
    """Five sequences in batches of four: the last batch has three fillers, which leave no result."""
    folder, expected = deployed
    runtime = OrtRuntime(folder / f"gaitset_submit{'_bs4' if batch_size == 4 else ''}.onnx", threads=1)
    result = tmp_path / "result" / "dumpOutput_device2"
    summary = run_info_list(runtime, folder / "bins.info", result, device_id=2, quiet=True)
    assert sorted(p.name for p in result.iterdir()) == [f"{i:04d}_1.bin" for i in range(5)]
    embeddings, labels = read_results(result, folder / "bins.json", (62, 8))
    np.testing.assert_allclose(embeddings, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert labels.subject.tolist() == ["075", "075", "076", "076", "077"]
    assert (summary["sequences"], summary["batches"]) == (5, 5 if batch_size == 1 else 2)


def test_performance_files_agree_with_the_summary(deployed, tmp_path):
    folder, _ = deployed
    runtime = OrtRuntime(folder / "gaitset_submit_bs4.onnx", threads=1)
    summary = run_info_list(runtime, folder / "bins.info", tmp_path / "result" / "dump", quiet=True)
    text = tmp_path / "result" / "perf_vision_batchsize_4_device_0.txt"
    stages = [line.partition("]")[0] for line in text.read_text().splitlines()]
    assert stages == ["[e2e", "[data read", "[infer", "[post"]
    figures = read_figures(text)
    assert figures.end_to_end == pytest.approx(5 / summary["seconds"], rel=1e-4)
    # Two batches of four sequences contain five sequences and three fillers.
    assert figures.device == pytest.approx(summary["inference_throughput"] * 8 / 5, rel=1e-4)
    assert summary["inference_throughput"] == pytest.approx(5000 / (2 * summary["latency_ms"]["mean"]))
    assert summary["device_throughput"] == pytest.approx(summary["inference_throughput"] * 8 / 5)
    assert sorted(summary["latency_ms"]) == ["mean", "p50", "p90", "p99"]
    assert json.loads(text.with_suffix(".json").read_text()) == summary


def test_older_results_are_removed(deployed, tmp_path):
    folder, _ = deployed
    result = tmp_path / "dump"
    result.mkdir()
    (result / "0099_1.bin").write_bytes(b"of another run")
    run_info_list(OrtRuntime(folder / "gaitset_submit.onnx"), folder / "bins.info", result, quiet=True)
    assert len(list(result.iterdir())) == 5 and not (result / "0099_1.bin").exists()


def test_folder_with_other_files_is_not_replaced(deployed, tmp_path):
    folder, _ = deployed
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt"):
        run_info_list(OrtRuntime(folder / "gaitset_submit.onnx"), folder / "bins.info", tmp_path, quiet=True)


def test_paths_relative_to_the_working_directory_or_the_list(deployed, tmp_path, monkeypatch):
    folder, _ = deployed
    relative = [entry.path.relative_to(folder) for entry in read_info(folder / "bins.info")]
    write_info(folder / "relative.info", relative)
    runtime = OrtRuntime(folder / "gaitset_submit.onnx")
    for here in (folder, tmp_path):
        monkeypatch.chdir(here)
        assert run_info_list(runtime, folder / "relative.info", tmp_path / "dump", quiet=True)["sequences"] == 5


def run_expecting(error, deployed, tmp_path, files):
    folder, _ = deployed
    write_info(tmp_path / "bad.info", files)
    with pytest.raises(UserError, match=error):
        run_info_list(OrtRuntime(folder / "gaitset_submit.onnx"), tmp_path / "bad.info", tmp_path / "dump", quiet=True)
    assert not (tmp_path / "dump").exists()


def test_missing_bin(deployed, tmp_path):
    run_expecting(r"0007\.bin: listed in .*bad\.info but missing", deployed, tmp_path, [tmp_path / "0007.bin"])


@pytest.mark.parametrize(("size", "frames"), [(6 * 64 * 44 * 4, "6 frames"), (1000, "not a whole number of frames")])
def test_input_file_of_another_size(deployed, tmp_path, size, frames):
    (tmp_path / "0000.bin").write_bytes(bytes(size))
    message = rf"0000\.bin: {size} bytes \({frames}\), but the model has 45056 \(4 frames\)"
    run_expecting(message, deployed, tmp_path, [tmp_path / "0000.bin"])


def test_input_files_with_the_same_name(deployed, tmp_path):
    folder, _ = deployed
    files = [tmp_path / "0000.bin", tmp_path / "more" / "0000.bin"]
    files[1].parent.mkdir()
    for file in files:
        file.write_bytes((folder / "bins" / "0000.bin").read_bytes())
    run_expecting("have the same result file", deployed, tmp_path, files)


def test_list_with_files_outside_its_folder(deployed, tmp_path):
    folder, _ = deployed
    run_expecting("is outside the folder of the list", deployed, tmp_path, [folder / "bins" / "0000.bin"])
    climbing = tmp_path / "a" / ".." / ".." / folder.name / "bins" / "0000.bin"
    run_expecting("is outside the folder of the list", deployed, tmp_path, [climbing])


@pytest.mark.parametrize("gone", [False, True])
def test_input_file_that_changes_during_the_run(deployed, tmp_path, gone):
    """An error of the reading thread is raised, and no partial results remain."""
    folder, _ = deployed
    files = [tmp_path / f"{i:04d}.bin" for i in range(6)]
    for file in files:
        file.write_bytes((folder / "bins" / "0000.bin").read_bytes())
    write_info(tmp_path / "shrinks.info", files)
    runtime = OrtRuntime(folder / "gaitset_submit.onnx")
    run = runtime.run

    def shrinking(image_seq):
        files[5].unlink(missing_ok=True) if gone else files[5].write_bytes(b"short")
        return run(image_seq)

    runtime.run = shrinking
    with pytest.raises(UserError, match=r"0005\.bin: " + ("cannot be read" if gone else "its size changed")):
        run_info_list(runtime, tmp_path / "shrinks.info", tmp_path / "dump", quiet=True)
    assert not (tmp_path / "dump").exists()


def test_input_of_wrong_shape(deployed):
    runtime = OrtRuntime(deployed[0] / "gaitset_submit_bs4.onnx")
    assert (runtime.batch_size, runtime.frame_num, runtime.output_shape) == (4, 4, (4, 62, 8))
    with pytest.raises(ValueError, match=r"expected input of shape \(4, 4, 64, 44\) .*got \(1, 4, 64, 44\)"):
        runtime.run(np.zeros((1, 4, 64, 44), np.float32))


def test_files_that_are_not_models(tmp_path):
    with pytest.raises(UserError, match="no such ONNX file"):
        OrtRuntime(tmp_path / "absent.onnx")
    (tmp_path / "model.om").write_bytes(b"IMOD" + bytes(200))
    with pytest.raises(UserError, match=r"model\.om: is not an ONNX model") as error:
        OrtRuntime(tmp_path / "model.om")
    assert "\n" not in str(error.value)


def test_dynamic_model(tmp_path):
    node = helper.make_node("ReduceMax", ["image_seq"], ["feature"], axes=[1], keepdims=0)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
            for name, shape in (("image_seq", (4, 64, 44)), ("feature", (64, 44)))]  # fmt: skip
    graph = helper.make_graph([node], "dynamic", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    onnx.save(model, tmp_path / "dynamic.onnx")
    with pytest.raises(UserError, match="4 static dimensions"):
        OrtRuntime(tmp_path / "dynamic.onnx")


def test_model_without_input(tmp_path):
    value = helper.make_tensor("value", TensorProto.FLOAT, [1, 62, 8], np.zeros(496, np.float32))
    node = helper.make_node("Constant", [], ["feature"], value=value)
    feature = helper.make_tensor_value_info("feature", TensorProto.FLOAT, [1, 62, 8])
    graph = helper.make_graph([node], "constant", [], [feature])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    onnx.save(model, tmp_path / "constant.onnx")
    with pytest.raises(UserError, match="its input is missing"):
        OrtRuntime(tmp_path / "constant.onnx")


def test_missing_provider(deployed, monkeypatch):
    with pytest.raises(UserError, match="does not have CANNExecutionProvider, only"):
        OrtRuntime(deployed[0] / "gaitset_submit.onnx", providers=["CANNExecutionProvider"])
    # A build with the provider but without its driver lists the provider and falls back silently.
    onnxruntime = import_onnxruntime()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CANNExecutionProvider"])
    session = onnxruntime.InferenceSession

    def falling_back(path, options, providers):
        return session(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", falling_back)
    with pytest.raises(UserError, match="ONNX Runtime uses CPUExecutionProvider instead of CANNExecutionProvider"):
        OrtRuntime(deployed[0] / "gaitset_submit.onnx", providers=[("CANNExecutionProvider", {"device_id": 0})])


def test_command(deployed, tmp_path, monkeypatch, capsys):
    folder, _ = deployed
    arguments = ["--model", folder / "gaitset_submit_bs4.onnx", "--info", folder / "bins.info", "--device_id", "1"]
    monkeypatch.chdir(tmp_path)
    summary = run_command_line(monkeypatch, command, *arguments, "--quiet", "--threads", "1")
    assert len(list((tmp_path / "result" / "dumpOutput_device1").iterdir())) == 5
    assert f"{summary['e2e_throughput']:.2f} sequences/s end to end" in capsys.readouterr().out
    assert (tmp_path / "result" / "perf_vision_batchsize_4_device_1.txt").is_file()


def test_command_with_unknown_runtime(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--runtime", "tensorrt", "--model", "m", "--info", "i"])
    known = "auto, benchmark, ais_bench, acl, onnxruntime"
    with pytest.raises(UserError, match=f"tensorrt: unknown, choose one of {known}") as error:
        command.main()
    assert error.value.exit_status == 2


def test_without_onnx_runtime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"ONNX Runtime cannot be imported \(.*\); pip install onnxruntime"):
        OrtRuntime(tmp_path / "m.onnx")


def model_with(place, location):
    """image_seq plus a weight in another file, as an initializer, a constant, or a constant in a branch."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [1], b"\0" * 4, raw=True)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", "4")):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    constant = helper.make_node("Constant", [], ["weight"], value=weight)
    nodes, initializers = [helper.make_node("Add", ["image_seq", "weight"], ["feature"])], []
    if place == "initializer":
        initializers = [weight]
    elif place == "constant":
        nodes = [constant, *nodes]
    else:
        out = [helper.make_tensor_value_info("weight", TensorProto.FLOAT, [1])]
        branches = {f"{name}_branch": helper.make_graph([constant], name, [], out) for name in ("then", "else")}
        true = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("t", TensorProto.BOOL, [], [True]))
        nodes = [true, helper.make_node("If", ["yes"], ["weight"], **branches), *nodes]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 3, 4]) for name in ("image_seq", "feature")]
    return helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers))


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "secret"])
@pytest.mark.parametrize("place", ["initializer", "constant", "branch"])
def test_models_do_not_read_other_files(tmp_path, place, location):
    (tmp_path / "secret").write_bytes(b"1234")
    (tmp_path / "m").mkdir()
    for folder in (tmp_path, tmp_path / "m"):
        (folder / "x.onnx").write_bytes(model_with(place, location).SerializeToString())
        with pytest.raises(UserError, match=rf"x\.onnx: keeps weights in another file \({location}\)"):
            OrtRuntime(folder / "x.onnx")


def test_error_of_a_run_is_one_line(deployed, monkeypatch):
    runtime = OrtRuntime(deployed[0] / "gaitset_submit.onnx")
    image_seq = np.zeros(runtime.input_shape, np.float32)

    def refuse(*_):
        raise RuntimeError("bad allocation\nmore lines")  # the common base class of its errors

    for run, message in (
        (refuse, r"cannot run it \(bad allocation\)"),
        (lambda *_: [image_seq], r"declares \(1, 62, 8\)"),
    ):
        monkeypatch.setattr(runtime, "session", SimpleNamespace(run=run))
        with pytest.raises(UserError, match=rf"gaitset_submit\.onnx: .*{message}"):
            runtime.run(image_seq)
