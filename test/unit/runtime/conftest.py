import pytest
from ascend import machine_with_all_tools

from model.runtime.task import Task


@pytest.fixture
def here(monkeypatch, tmp_path):
    """The working directory of a machine with all of Ascend's tools. It contains benchmark."""
    return machine_with_all_tools(monkeypatch, tmp_path)


@pytest.fixture
def task(deployed, tmp_path):
    """Return a function that makes the task of running the deployed model. By default, the model runs on its list."""

    def make(runtime, model_batch=4, **changes):
        model = deployed.om(model_batch).with_suffix(".onnx" if runtime == "onnxruntime" else ".om")
        results = tmp_path / "result" / "dumpOutput_device0"
        values = {"model": model, "info": deployed.info, "result_folder": results, "quiet": True}
        return Task(runtime, **values | changes)

    return make
