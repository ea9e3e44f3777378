import pytest
from ascend import machine_with_all_tools


@pytest.fixture
def here(monkeypatch, tmp_path):
    """The working directory of a machine with all of Ascend's tools. It contains benchmark."""
    return machine_with_all_tools(monkeypatch, tmp_path)
