"""The stand-in for atc prints the lines of the real atc and rejects the same options and graphs."""

import onnx
import pytest
from cann_folder import STANDINS
from onnx import TensorProto, helper
from scripts import run_script
from tiny_onnx import constant, tiny_model, with_nodes

pytestmark = pytest.mark.slow

START = "ATC start working now, please wait for a moment."
FAILURE = "ATC run failed, Please check the detail log, Try 'atc --help' for more information"


@pytest.fixture
def atc(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(graph=None, **flags):
        onnx.save(graph or tiny_model(), tmp_path / "m.onnx")
        defaults = {"framework": 5, "model": tmp_path / "m.onnx", "output": tmp_path / "m", "soc_version": "Ascend310"}
        arguments = [f"--{name}={value}" for name, value in {**defaults, **flags}.items() if value is not None]
        return run_script(STANDINS / "atc", *arguments)

    return run


def code_of(done):
    lines = done.stdout.splitlines()
    assert done.returncode == 255 and lines[0] == START and FAILURE in lines, done
    return lines[lines.index(FAILURE) + 1].partition(":")[0]


def test_success_prints_and_writes_what_the_real_atc_does(atc, tmp_path):
    done = atc()
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and lines[0] == START
    assert lines[lines.index("...") + 1] == "ATC run success, welcome to the next use."
    assert {p.name for p in tmp_path.iterdir()} >= {"m.om", "kernel_meta", "fusion_result.json"}


def test_a_failure_follows_the_dots_and_the_failure_line(atc):
    lines = atc(soc_version="Ascend11").stdout.splitlines()
    assert lines[:3] == [START, "...", FAILURE] and lines[3].startswith("E10001: Value [Ascend11] for parameter")
    assert atc(log="loud").stdout.splitlines()[:2] == [START, FAILURE]  # an unknown option fails before the dots


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        ({"framework": None}, "E10007"),
        ({"framework": 3}, "E10001"),
        ({"soc_version": None}, "E10054"),
        ({"output": None}, "E10054"),
        ({"model": "/nowhere.onnx"}, "E10001"),
        ({"output": "a b"}, "E10001"),
        ({"output": "folder/"}, "E10022"),
        ({"input_shape": "2,4,8,6"}, "E10002"),
        ({"input_shape": "image_seq:2,x,8,6"}, "E10002"),
        ({"input_shape": "image_seq:-1,4,8,6"}, "E10011"),
        ({"input_shape": "image_seq:0,4,8,6"}, "E10011"),
        ({"input_shape": "images:2,4,8,6"}, "E10016"),
        ({"input_shape": "image_seq:2,-1,8,6", "dynamic_batch_size": "1,2"}, "E10018"),
        ({"input_shape": "image_seq:2,4,8,6", "dynamic_batch_size": "1,2"}, "E10031"),
        ({"dynamic_batch_size": "1,2", "dynamic_dims": "1;2"}, "E10009"),
        ({"auto_tune_mode": "RL"}, "E10001"),
        ({"precision_mode": "fp8"}, "E10001"),
        ({"input_format": "NHWC"}, "E10001"),
        ({"nonsense": 1}, "E19999"),
    ],
)
def test_wrong_flags_are_refused_with_atcs_code(atc, flags, code):
    assert code_of(atc(**flags)) == code


GRID_SAMPLE = helper.make_node("GridSample", ["image_seq", "image_seq"], ["feature"], "node")
WITH_INDICES = helper.make_node("MaxPool", ["image_seq"], ["feature", "indices"], "node", kernel_shape=[2, 2])

BY_COLUMNS = helper.make_node("MaxPool", ["image_seq"], ["feature"], "node", kernel_shape=[2, 2], storage_order=1)


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (tiny_model(opsets=[("", 18)]), "E19010"),
        (tiny_model(opsets=[("", 11), ("ai.onnx.ml", 2)]), "E16005"),
        (with_nodes(GRID_SAMPLE), "E19010"),
        (tiny_model(batch="n", output_shape=("n", 8, 6)), "E10001"),
        (tiny_model(dtype=TensorProto.INT64), "E19999"),
        (with_nodes(WITH_INDICES, output_shape=(2, 4, 7, 5)), "EZ3003"),
        (with_nodes(BY_COLUMNS, output_shape=(2, 4, 7, 5)), "EZ3003"),
    ],
)
def test_wrong_graphs_are_refused_with_atcs_code(atc, model, code):
    assert code_of(atc(model)) == code


def test_an_input_shape_with_another_batch_size_is_refused(atc):
    """The published commands use one ONNX file, with constant shapes for batch size 1, for every batch size."""
    fold = helper.make_node("Reshape", ["image_seq", "shape"], ["feature"], "fold")
    model = with_nodes(fold, output_shape=(8, 48), initializers=[constant("shape", [8, 48])])
    assert atc(model).returncode == 0
    assert code_of(atc(model, input_shape="image_seq:16,4,8,6")) == "E19999"
