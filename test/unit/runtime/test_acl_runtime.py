"""`AclRuntime` with a stand-in for pyACL, which rejects calls in the wrong order and lists unreleased resources."""

import sys

import numpy as np
import onnx
import pytest
from ascend import FRAMES, assert_embeddings, assert_results, install_acl, make_om
from onnx import TensorProto, helper
from standins.om_file import write_om

from model.common.errors import UserError
from model.export.input_files import FixedLength
from model.runtime.acl_runtime import AclRuntime, import_acl
from model.runtime.info_list import embed_fixed, run_info_list

RELEASING = {
    "finalize": "init", "rt.reset_device": "rt.set_device", "rt.destroy_context": "rt.create_context",
    "mdl.unload": "mdl.load_from_file", "mdl.destroy_desc": "mdl.create_desc",
    "mdl.destroy_dataset": "mdl.create_dataset", "rt.free": "rt.malloc",
    "destroy_data_buffer": "create_data_buffer", "rt.free_host": "rt.malloc_host",
}  # fmt: skip


@pytest.fixture
def acl(monkeypatch):
    return install_acl(monkeypatch)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_embeddings_equal_torch_and_resources_are_released(deployed, acl, batch_size):
    with AclRuntime(deployed.om(batch_size), device_id=2) as runtime:
        assert runtime.input_shape == (batch_size, FRAMES, 64, 44)
        assert_embeddings(embed_fixed(runtime, deployed.store, FixedLength(), quiet=True), deployed)
        assert len(runtime.device_ms) == (5 if batch_size == 1 else 2)
        assert runtime.facts()["chip"] == "Ascend310"
    assert acl.left() == []
    assert set(acl.calls) >= set(RELEASING)


def test_list_with_device_figures(deployed, acl, task):
    runtime, mine = AclRuntime(deployed.om(4)), task("acl", warmup=3)
    summary = run_info_list(runtime, mine)
    assert_results(mine.result_folder, deployed)
    measured = runtime.device_ms[3:]  # three runs are the warmup
    assert len(measured) == 2
    assert summary["device_throughput"] == pytest.approx(8 / sum(measured) * 1000)
    assert summary["latency_ms"]["mean"] == pytest.approx(sum(measured) / 2)
    assert summary["e2e_throughput"] < summary["device_throughput"]


def test_pointer_functions_of_older_cann(deployed, acl, monkeypatch):
    monkeypatch.setattr(acl, "util", acl.OLD_UTIL)
    assert_embeddings(embed_fixed(AclRuntime(deployed.om(4)), deployed.store, FixedLength(), quiet=True), deployed)


def calls_of_a_run(deployed, acl):
    with AclRuntime(deployed.om(1)) as runtime:
        runtime.run(np.zeros(runtime.input_shape, np.float32))
    return dict.fromkeys(acl.calls)


# These functions return only a handle, without an error code. If they fail, they return None.
WITHOUT_CODE = {"create_data_buffer", "mdl.create_desc", "mdl.create_dataset"}
CALLS = [
    "init", "rt.set_device", "rt.create_context", "mdl.load_from_file", "mdl.create_desc", "mdl.get_desc",
    "mdl.get_input_dims", "mdl.get_output_dims", "mdl.create_dataset", "rt.malloc", "create_data_buffer",
    "mdl.add_dataset_buffer", "rt.malloc_host", "rt.memcpy", "mdl.execute", *sorted(RELEASING),
]  # fmt: skip
NUMBERS = {f"mdl.get_num_{k}s" for k in ("input", "output")} | {
    f"mdl.get_{k}_{what}" for k in ("input", "output") for what in ("data_type", "size_by_index")
}


def test_list_of_calls_is_complete(deployed, acl):
    assert set(calls_of_a_run(deployed, acl)) == set(CALLS) | NUMBERS


@pytest.mark.parametrize("name", CALLS)
def test_failure_of_each_call_is_one_line_and_resources_are_released(deployed, acl, name):
    acl.fail[name] = 207001
    with pytest.raises(UserError) as error:
        calls_of_a_run(deployed, acl)
    message = str(error.value)
    assert f"acl.{name} " in message and "gaitset_submit.om" in message and "\n" not in message
    assert ("returned no handle" in message) if name in WITHOUT_CODE else ("with code 207001" in message)
    assert set(RELEASING) - {name} - set(acl.calls) <= not_yet_held(name)
    if name not in RELEASING:  # if a release fails, the stand-in also refuses to release the resource that contains it
        assert acl.left() == []


def not_yet_held(name):
    """Return the releasing calls that are not needed if `name` is the first call that fails."""
    reached = CALLS.index(name) if name not in RELEASING else len(CALLS)
    return {back for back, call in RELEASING.items() if CALLS.index(call) >= reached}


def test_message_of_acl_is_included(deployed, acl, monkeypatch):
    acl.fail["mdl.load_from_file"] = 500002
    message = "EZ9999: Inner Error!\nEZ9999  no memory\nTraceBack"
    monkeypatch.setattr(acl, "get_recent_err_msg", lambda: message, raising=False)
    with pytest.raises(UserError, match=r"code 500002: EZ9999: no memory; was the om file converted for this chip"):
        AclRuntime(deployed.om(1))


def test_failure_while_releasing_keeps_the_first_error(deployed, acl):
    acl.fail |= {"mdl.execute": 507011, "mdl.unload": 1, "finalize": 1}
    with pytest.raises(UserError, match=r"acl\.mdl\.execute failed"):
        calls_of_a_run(deployed, acl)
    assert acl.calls[-1] == "finalize"


def test_missing_device(deployed, acl):
    with pytest.raises(UserError, match=r"acl\.rt\.set_device failed on device 7 with code 507033; .*npu-smi info"):
        AclRuntime(deployed.om(1), device_id=7)
    assert acl.left() == []


def test_om_for_another_chip(deployed, acl, tmp_path):
    om = make_om(deployed.om(1).with_suffix(".onnx"), tmp_path / "m.om", 1, soc_version="Ascend310P3")
    with pytest.raises(UserError, match=r"m\.om: pyACL's acl\.mdl\.load_from_file failed .*--soc_version"):
        AclRuntime(om)


def test_acl_opened_by_torch_npu_stays_open(deployed, acl):
    """torch_npu has called acl.init and owns the device and the context, so the runtime must not release them."""
    assert acl.init() == 0
    acl.rt.set_device(0)
    calls_of_a_run(deployed, acl)
    assert acl.left() == ["device", "init"]
    assert not {"rt.create_context", "rt.destroy_context", "rt.reset_device", "finalize"} & set(acl.calls)


def foreign_om(tmp_path, shape=(1, 4, 64, 44), output_shape=(1, 64, 44), kind=TensorProto.FLOAT, inputs=1):
    names = [f"x{i}" for i in range(inputs)]
    graph = helper.make_graph(
        [helper.make_node("ReduceMax", names[:1], ["y"], axes=[1], keepdims=0)],
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name in names],
        [helper.make_tensor_value_info("y", kind, output_shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
    write_om(tmp_path / "m.om", onnx.ModelProto.SerializeToString(model), soc_version="Ascend310", input_shape=shape)
    return tmp_path / "m.om"


@pytest.mark.parametrize(
    ("om", "message"),
    [
        ({"inputs": 2}, r"has 2 inputs \(dynamic shapes add an input\), expected one; convert"),
        ({"kind": TensorProto.INT64}, r"its input is int64 \[1, 4, 64, 44\], expected float32"),
        ({"shape": (1, 64, 44), "output_shape": (1, 44)}, r"its input is float32 \[1, 64, 44\], expected float32 of"),
        ({}, r"its output has shape \[1, 64, 44\], expected \[1, 62, d\]; convert"),
    ],
)
def test_om_of_another_model(acl, tmp_path, om, message):
    with pytest.raises(UserError, match=rf"m\.om: {message}"):
        AclRuntime(foreign_om(tmp_path, **om))
    assert acl.left() == []


@pytest.mark.parametrize("kind", ["input", "output"])
def test_om_with_too_small_buffers(deployed, acl, monkeypatch, kind):
    monkeypatch.setattr(acl.mdl, f"get_{kind}_size_by_index", lambda description, index: 1000)
    with pytest.raises(UserError, match=rf"its {kind} has 1000 bytes, but its shape needs \d+ bytes; convert it again"):
        AclRuntime(deployed.om(1))
    assert acl.left() == []


def test_missing_om(acl, tmp_path):
    with pytest.raises(UserError, match=r"none\.om: no such om file; create it with test/pth2om\.sh"):
        AclRuntime(tmp_path / "none.om")


def test_other_package_named_acl(monkeypatch, tmp_path):
    (tmp_path / "acl.py").write_text("def check(): pass\n")
    monkeypatch.delitem(sys.modules, "acl", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"the module acl \(.*acl\.py\) is not Ascend's pyACL"):
        import_acl()
    monkeypatch.delitem(sys.modules, "acl")


def test_stand_in_rejects_wrong_order(deployed, acl):
    assert acl.rt.set_device(0) == 100001 and acl.mdl.load_from_file("x") == (None, 100001)
    assert acl.init() == 0 and acl.init() == 100002
    assert acl.rt.malloc(8, 0) == (None, 100000)  # no device yet
    assert acl.rt.set_device(0) == 0
    device, code = acl.rt.malloc(8, 0)
    host, _ = acl.rt.malloc_host(8)
    content = bytes(range(8))
    source = acl.util.bytes_to_ptr(content)
    assert code == 0 and acl.rt.memcpy(device, 8, source, 8, 1) == 0
    assert acl.rt.memcpy(device, 8, source, 8, 2) == acl.rt.memcpy(host, 8, device, 8, 1) == 100000  # directions
    assert acl.rt.memcpy(device, 4, source, 8, 1) == acl.rt.memcpy(device, 9, source, 8, 1) == 100000  # sizes
    assert acl.rt.memcpy(host, 8, device, 8, 2) == 0 and acl.util.ptr_to_bytes(host, 8) == content
    buffer = acl.create_data_buffer(device, 8)
    assert acl.create_data_buffer(device, 9) is None
    assert acl.rt.free(device) == acl.rt.free(host) == acl.rt.reset_device(0) == acl.finalize() == 100000
    model, code = acl.mdl.load_from_file(str(deployed.om(1)))
    assert code == 0 and acl.mdl.execute(model, acl.mdl.create_dataset(), acl.mdl.create_dataset()) == 100000
    assert acl.destroy_data_buffer(buffer) == acl.rt.free(device) == acl.rt.free_host(host) == 0
    assert acl.left() == ["model", "data set", "data set", "device", "init"]
