"""The functions of process groups in a single process, and the timeouts of backends."""

import os
from types import SimpleNamespace

import pytest
import torch

from model.devices import distributed
from model.devices.device import TIMEOUT_VARIABLES
from model.devices.world import World
from model.network import GaitSet


@pytest.fixture
def group_of_one(tmp_path):
    """A process group with only this process."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    distributed.finish()


def test_gather_rows_asserts_that_each_row_comes_from_one_process(group_of_one):
    """A single process must provide all three rows."""
    with pytest.raises(AssertionError, match="exactly one process"):
        distributed.gather_rows(torch.zeros(2, 1), 3, torch.device("cpu"))
    assert distributed.gather_rows(torch.zeros(3, 1), 3, torch.device("cpu")).shape == (3, 1)


def test_wrap_prints_no_warning(group_of_one, recwarn):
    """A warning of PyTorch would be printed by each process."""
    wrapped = distributed.wrap(GaitSet(4), torch.device("cpu"))
    assert isinstance(wrapped, torch.nn.parallel.DistributedDataParallel)
    assert not [warning for warning in recwarn if "buffers" in str(warning.message)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("7200", "10812", "10880")),
        ({"HCCL_EXEC_TIMEOUT": "600"}, ("7200", "600", "668")),
        ({"HCCL_EXEC_TIMEOUT": "0"}, ("7200", "0", "0")),
        ({"HCCL_EVENT_TIMEOUT": "1800"}, ("7200", "1732", "1800")),
        ({"HCCL_EVENT_TIMEOUT": "99999"}, ("7200", "10812", "99999")),
        ({"HCCL_EVENT_TIMEOUT": "0"}, ("7200", "10812", "0")),
        ({"HCCL_EVENT_TIMEOUT": "5"}, ("7200", "1", "5")),
        ({"HCCL_CONNECT_TIMEOUT": "200", "HCCL_EXEC_TIMEOUT": "x"}, ("200", "x", None)),
    ],
    ids=str,
)
def test_hccl_waits_as_long_as_the_process_group(monkeypatch, given, expected):
    """Values of the user stay. The timeout of an event must exceed the timeout of a collective if both have a limit."""
    names = TIMEOUT_VARIABLES["hccl"]
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"MASTER_ADDR": "node1", "MASTER_PORT": "29500", **given}.items():
        monkeypatch.setenv(name, value)
    timeouts = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, timeout, **__: timeouts.append(timeout))
    distributed.start(World(0, 0, 2), SimpleNamespace(type="npu"))
    assert tuple(map(os.environ.get, names)) == expected
    assert timeouts[0].total_seconds() <= 10812 <= 17340, "17340 is the longest timeout that a 910 accepts"
    assert 10812 % 68 == 0, "a 910 rounds a timeout down to a multiple of 68"
