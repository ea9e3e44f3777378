"""Errors of `OrtRuntime`: files that are not models, unsupported models, and runs that fail."""

import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tiny_onnx import tiny_model

from model.common.errors import UserError
from model.runtime.acl_runtime import AclRuntime
from model.runtime.ort_runtime import OrtRuntime


@pytest.mark.parametrize("kind", [OrtRuntime, AclRuntime])
def test_input_of_wrong_shape(deployed, here, kind):
    runtime = kind(deployed.om(4).with_suffix(".onnx" if kind is OrtRuntime else ".om"))
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


def without_input():
    value = helper.make_tensor("value", TensorProto.FLOAT, [2, 8, 6], np.zeros(96, np.float32))
    model = tiny_model([helper.make_node("Constant", [], ["feature"], value=value)])
    del model.graph.input[:]
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (tiny_model(batch="batch", output_shape=("batch", 8, 6)), "4 static dimensions"),
        (without_input(), "its input is missing"),
    ],
)
def test_models_without_a_static_input(tmp_path, model, message):
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(UserError, match=message):
        OrtRuntime(tmp_path / "m.onnx")


def test_without_onnx_runtime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"ONNX Runtime cannot be imported \(.*\); run `pip install onnxruntime`"):
        OrtRuntime(tmp_path / "m.onnx")


def model_with(place, location):
    """Return a model that adds a weight to image_seq. The weight is stored in the file `location`.

    Args:
        place: kind of the weight: `initializer`, `constant`, or `branch` for a constant in a branch of an If node.
    """
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
    runtime = OrtRuntime(deployed.om(1).with_suffix(".onnx"))
    image_seq = np.zeros(runtime.input_shape, np.float32)

    def refuse(*_):
        raise RuntimeError("bad allocation\nmore lines")  # a stand-in for the error classes of ONNX Runtime

    for run, message in (
        (refuse, r"cannot run this model \(bad allocation\); export"),
        (lambda *_: [image_seq], r"declares \(1, 62, 8\)"),
    ):
        monkeypatch.setattr(runtime, "session", SimpleNamespace(run=run))
        with pytest.raises(UserError, match=rf"gaitset_submit\.onnx: .*{message}"):
            runtime.run(image_seq)
