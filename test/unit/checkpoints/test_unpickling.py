"""Loading of checkpoints that torch_npu has pickled, and the errors about content that is not a tensor."""

import collections
import enum
import logging
import sys
from types import ModuleType

import pytest
import torch
from tiny_checkpoints import assert_same_weights, saved

from model.checkpoints.loading import load_encoder, load_optimizer, load_tensors
from model.common.errors import UserError
from model.network import GaitSet


class Format(enum.IntEnum):
    """Memory layouts on an NPU, as newer versions of torch_npu name them."""

    FRACTAL_NZ = 29


def _rebuild_npu_tensor(*arguments):
    raise AssertionError("torch_npu is not installed")


Format.__module__, _rebuild_npu_tensor.__module__ = "torch_npu.npu._format", "torch_npu.utils.storage"


class SavedByNpu:
    """A tensor that is pickled as torch_npu does: as a call of `_rebuild_npu_tensor` with the layout `npu_format`."""

    def __init__(self, tensor, npu_format=2, **changes):
        self.tensor, self.npu_format, self.changes = tensor, npu_format, changes

    def __reduce__(self):
        t = self.tensor
        arguments = {
            "storage": t._typed_storage(), "offset": t.storage_offset(), "size": tuple(t.shape), "stride": t.stride(),
            "requires_grad": t.requires_grad, "hooks": collections.OrderedDict(), "format": self.npu_format,
        } | self.changes  # fmt: skip
        return _rebuild_npu_tensor, tuple(arguments.values())


@pytest.fixture
def save(monkeypatch):
    """Return a function that saves a file as torch_npu does. When the file is loaded, torch_npu is not installed."""

    def save(content, path, new_format=True):
        with monkeypatch.context() as patched:
            for parent in ("torch_npu", "torch_npu.npu", "torch_npu.utils"):
                patched.setitem(sys.modules, parent, ModuleType(parent))
            for item in (Format, _rebuild_npu_tensor):
                module = ModuleType(item.__module__)
                setattr(module, item.__name__, item)
                patched.setitem(sys.modules, item.__module__, module)
            torch.save(content, path, _use_new_zipfile_serialization=new_format)
        return path

    return save


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("npu_format", [True, 2, 29, Format.FRACTAL_NZ], ids=str)
def test_checkpoints_of_torch_npu_load_on_the_cpu(tmp_path, save, new_format, npu_format):
    torch.manual_seed(1)
    expected = GaitSet(4)
    state = {f"module.{key}": SavedByNpu(value, npu_format) for key, value in expected.state_dict().items()}
    network = GaitSet(4)
    load_encoder(network, save(state, tmp_path / "x.ptm", new_format))
    assert_same_weights(network, expected)


def test_views_and_the_state_of_adam_load(tmp_path, save):
    """A view has an offset and strides, and shares its storage with other views."""
    base = torch.arange(24.0).view(4, 6)
    views = {"rows": base[1:3], "columns": base.t(), "empty": base[:0], "scalar": base[2, 3]}
    loaded = load_tensors(save({name: SavedByNpu(view) for name, view in views.items()}, tmp_path / "v.ptm"))
    assert all(torch.equal(loaded[name], view) for name, view in views.items())
    assert len({value.untyped_storage().data_ptr() for value in loaded.values()}) == 1

    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    moments = {name: SavedByNpu(state["state"][0][name]) for name in ("exp_avg", "exp_avg_sq")}
    state["state"] = {0: {**state["state"][0], **moments}}
    other = torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))])
    load_optimizer(other, save(state, tmp_path / "o.ptm"))
    assert torch.equal(other.state_dict()["state"][0]["exp_avg"], optimizer.state[weight]["exp_avg"])


@pytest.mark.parametrize(
    "changes", [{"size": (5,)}, {"offset": 1}, {"offset": -1}, {"stride": (-1,)}, {"stride": (1 << 60,)}]
)
def test_tensors_larger_than_their_storage_are_rejected(tmp_path, save, changes):
    """torch would enlarge the storage and return uninitialized memory as weights."""
    path = save({"a": SavedByNpu(torch.ones(4), **changes)}, tmp_path / "x.ptm")
    with pytest.raises(UserError, match="exceeds its storage of 4 values"):
        load_tensors(path)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("content", "name"),
    [
        (GaitSet(4), r"model\.network\.gaitset\.GaitSet"),
        (logging.Formatter(), r"logging\.Formatter"),
        (sys.exit, r"sys\.exit"),
        (print, r"print"),
    ],
    ids=["network", "class", "blocked module", "built-in"],
)  # fmt: skip
def test_other_globals_are_named_in_one_plain_line(tmp_path, content, name, new_format):
    path = saved(tmp_path / "x.ptm", {"a": content}, _use_new_zipfile_serialization=new_format)
    with pytest.raises(UserError, match=rf"x\.ptm: holds {name}, but only tensors .*state_dict\(\), FILE\)$") as error:
        load_tensors(path)
    assert str(error.value).isprintable()


def test_errors_of_torch_are_reported_without_advice_and_colours(tmp_path):
    (tmp_path / "x.ptm").write_bytes(b"\x80\x02]q\x00(K\x01K\x02b.")  # a pickle that sets the state of a list
    with pytest.raises(UserError) as error:
        load_tensors(tmp_path / "x.ptm")
    assert str(error.value).isprintable() and "Weights only load failed" not in str(error.value)
    assert "x.ptm: is damaged or not a checkpoint of tensors (" in str(error.value)
