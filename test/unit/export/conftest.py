from pathlib import Path

import onnx
import pytest
import torch
from cann_folder import write_cann, write_script
from tiny_onnx import tiny_model

from model.network import GaitSet


@pytest.fixture(scope="module")
def network():
    """A network whose numbers of channels differ from the default. The export takes them from the weights."""
    torch.manual_seed(0)
    return GaitSet(hidden_dim=8, channels=(4, 6, 10)).eval()


@pytest.fixture
def cann(tmp_path, monkeypatch):
    """Create an installation of CANN whose tools are stand-ins, put it on the PATH, and return its folder."""
    for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH", "LD_LIBRARY_PATH", "TUNE_BANK_PATH"):
        monkeypatch.delenv(name, raising=False)
    folder = write_cann(tmp_path / "Ascend")
    monkeypatch.setenv("PATH", f"{folder}/latest/bin:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return folder / "latest"


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "models" / "gaitset_submit.onnx"
    path.parent.mkdir()
    onnx.save(tiny_model(), path)
    return path


@pytest.fixture
def behave(tmp_path, monkeypatch):
    """Return a function that replaces atc by a script.

    In the script, `$om` is the path of the om without suffix. `$success` and `$failure` are the lines with which the
    real atc reports its result.
    """
    beginning = """
        success='ATC run success, welcome to the next use.'
        failure="ATC run failed, Please check the detail log, Try 'atc --help' for more information"
        for option; do case "$option" in --output=*) om="${option#--output=}" ;; esac; done
    """

    def write(text):
        write_script(tmp_path / "script" / "atc", f"{beginning}\n{text}")
        monkeypatch.setenv("PATH", f"{tmp_path}/script:/usr/bin:/bin")

    return write
