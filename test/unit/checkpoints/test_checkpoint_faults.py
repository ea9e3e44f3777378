"""Damaged, malicious and non-finite checkpoints give a one-line error, and the last valid checkpoint is found."""

import io
import random
import struct
import zipfile
from functools import cache

import pytest
import torch
from tiny_checkpoints import NO_PARTS, assert_same_weights, saved, saved_sets

from model.checkpoints.checkpoint import CheckpointFiles
from model.checkpoints.loading import load_encoder, load_optimizer, load_tensors
from model.common.errors import UserError
from model.common.json_files import read_json, write_json
from model.network import GaitSet

pytestmark = pytest.mark.slow

KEY = "gl_layer1.conv.weight"


@cache
def fresh_encoder():
    torch.manual_seed(1)
    return GaitSet(4).state_dict()


def encoder(**changes):
    return {**fresh_encoder(), **{KEY if k == "KEY" else k: v for k, v in changes.items()}}


def with_one(value):
    weight = GaitSet(4).state_dict()[KEY].clone()
    weight[1, 2, 0, 1] = value
    return weight


SHAPE = (64, 32, 3, 3)
NOT_WEIGHTS = "is not the state dict of a network"
BAD_WEIGHTS = {
    "NaN": (with_one(float("nan")), "1 of 11 weights have values that are not finite"),
    "Inf": (with_one(float("-inf")), "1 of 11 weights have values that are not finite"),
    "whole numbers": (torch.ones(SHAPE, dtype=torch.int32), NOT_WEIGHTS),
    "complex": (torch.ones(SHAPE, dtype=torch.complex64), NOT_WEIGHTS),
    "sparse": (torch.ones(SHAPE).to_sparse(), NOT_WEIGHTS),
    "without content": (torch.ones(SHAPE, device="meta"), NOT_WEIGHTS),
    "one number, expanded": (torch.ones(1, 1, 1, 1).expand(SHAPE), NOT_WEIGHTS),
    "a number": (3.0, NOT_WEIGHTS),
    "transposed": (torch.ones(32, 64, 3, 3), "does not fit the network"),
    "a scalar": (torch.tensor(1.0), "does not fit the network"),
}


@pytest.mark.parametrize("name", BAD_WEIGHTS)
def test_invalid_weights_are_reported_and_not_loaded(tmp_path, name):
    weight, message = BAD_WEIGHTS[name]
    network = GaitSet(4)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(UserError, match=message) as error:
        load_encoder(network, saved(tmp_path / "x.ptm", encoder(KEY=weight)))
    assert str(tmp_path / "x.ptm") in str(error.value)
    assert_same_weights(network, before)


def test_weights_of_each_precision_and_file_format_load(tmp_path):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        load_encoder(GaitSet(4), saved(tmp_path / "x.ptm", {k: v.to(dtype) for k, v in encoder().items()}))
    for new in (True, False):  # published weights have the format before torch 1.6
        load_encoder(GaitSet(4), saved(tmp_path / "x.ptm", encoder(), _use_new_zipfile_serialization=new))


def test_invalid_keys_are_reported(tmp_path):
    for content in ({1: torch.ones(1)}, {("a",): torch.ones(1)}, [torch.ones(1)], torch.ones(1), 5, None, {}):
        with pytest.raises(UserError, match=r"x\.ptm"):
            load_encoder(GaitSet(4), saved(tmp_path / "x.ptm", content))
    with pytest.raises(UserError, match=r"twice, with and without the prefix module\."):
        load_encoder(GaitSet(4), saved(tmp_path / "x.ptm", encoder(**{f"module.{KEY}": torch.zeros(SHAPE)})))


@pytest.mark.parametrize("new", [True, False])
def test_truncated_and_changed_files_are_one_line(tmp_path, new):
    """Each file is rejected in one line or gives the same weights.

    The format before torch 1.6 has no checksums, so its weights may differ, but are finite and have the right shapes.
    """
    path = saved(tmp_path / "x.ptm", encoder(), _use_new_zipfile_serialization=new)
    whole = path.read_bytes()
    draw = random.Random(0)
    network = GaitSet(4)
    load_encoder(network, path)
    for number in range(300):
        damaged = bytearray(whole)
        if number % 2:
            del damaged[draw.randrange(len(whole)) :]
        else:
            ends = draw.randrange(2000), len(whole) - 1 - draw.randrange(2500)  # where most of the file structure is
            for _ in range(draw.choice((1, 3, 50))):
                damaged[draw.choice((*ends, draw.randrange(len(whole))))] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            load_encoder(network, path)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        assert all(value.isfinite().all() for value in network.state_dict().values())
        assert not new or all(torch.equal(value, encoder()[key]) for key, value in network.state_dict().items())


def test_weights_that_do_not_match_their_metadata_are_rejected(tmp_path):
    """The disk may have flipped a bit, or the encoder of another run may have this name."""
    files = CheckpointFiles(tmp_path, "x")
    files.save(1, NO_PARTS | {"encoder": encoder()}, {})
    path = files.part(1, "encoder")
    load_encoder(GaitSet(4), path)
    saved(path, encoder(KEY=torch.ones(SHAPE)))
    with pytest.raises(UserError, match=r"checksum does not match x-00001\.json"):
        load_encoder(GaitSet(4), path)
    files.metadata(1).unlink()
    load_encoder(GaitSet(4), path)


def test_files_that_expand_to_far_more_bytes_are_rejected(tmp_path):
    path = saved(tmp_path / "x.ptm", {"a": torch.zeros(1000)})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "packed.ptm", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content + bytes(10 << 20) * name.endswith("data/0"))
    assert (tmp_path / "packed.ptm").stat().st_size < 100_000
    with pytest.raises(UserError, match="compressed"):
        load_tensors(tmp_path / "packed.ptm")
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 20 : directory + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    (tmp_path / "overlap.ptm").write_bytes(content)
    with pytest.raises(UserError, match="overlap"):
        load_tensors(tmp_path / "overlap.ptm")
    with (tmp_path / "long.ptm").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UserError, match="bytes; at most"):
        load_tensors(tmp_path / "long.ptm")


# The places in an entry of the directory: the attributes; the checksum and the compressed size.
@pytest.mark.parametrize(("place", "value"), [(38, 0x10), (16, 0)])
def test_a_part_that_torch_would_not_read_is_rejected(tmp_path, place, value):
    """torch would use uninitialized memory as weights."""
    content = bytearray(saved(tmp_path / "x.ptm", {"a": torch.ones(1000)}).read_bytes())
    part = content.index(b"/data/0", content.index(b"PK\x01\x02"))
    entry = content.rindex(b"PK\x01\x02", 0, part)
    length = 4 if place == 38 else 8
    content[entry + place : entry + place + length] = value.to_bytes(length, "little")
    (tmp_path / "y.ptm").write_bytes(content)
    with pytest.raises(UserError, match="a folder or has two different sizes"):
        load_tensors(tmp_path / "y.ptm")


def adam(**changes):
    """Return the state of an Adam that has taken one step, with `changes` of the state of the first weight."""
    optimizer = fresh_adam()
    for weight in optimizer.param_groups[0]["params"]:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][0] |= changes
    return state


def fresh_adam():
    return torch.optim.Adam([torch.zeros(shape, requires_grad=True) for shape in ((2, 3), (4,))], lr=0.25)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp_avg": torch.zeros(3, 2)}, {"exp_avg": torch.zeros(())}, {"exp_avg": torch.full((2, 3), float("nan"))},
        {"exp_avg_sq": torch.full((2, 3), float("inf"))}, {"exp_avg_sq": -torch.ones(2, 3)}, {"exp_avg": 3},
        {"step": torch.tensor(float("nan"))}, {"step": torch.tensor(-1.0)}, {"step": "x"}, {"step": 10**400},
        {"exp_avg": None}, {"exp_avg": torch.zeros(2, 3).to_sparse()},
    ],
    ids=str,
)  # fmt: skip
def test_an_impossible_state_of_adam_is_rejected(tmp_path, changes):
    with pytest.raises(UserError, match=r"o\.ptm: does not fit the optimizer"):
        load_optimizer(fresh_adam(), saved(tmp_path / "o.ptm", adam(**changes)))


def test_only_the_state_of_an_optimizer_is_loaded(tmp_path):
    """Options in a file are ignored. With the option `maximize`, for example, training would increase the loss."""
    state = adam()
    state["param_groups"][0] |= {"maximize": True, "betas": (0.0, 0.0), "weight_decay": 9.0, "eps": 5.0, "lr": 7.0}
    optimizer = fresh_adam()
    load_optimizer(optimizer, saved(tmp_path / "o.ptm", state))
    group = optimizer.param_groups[0]
    assert (group["maximize"], group["betas"], group["weight_decay"]) == (False, (0.9, 0.999), 0)
    assert (group["eps"], group["lr"]) == (1e-8, 0.25)
    some_weights = adam()
    del some_weights["state"][1]
    wrong_groups, wrong_state = {"state": {}, "param_groups": 3}, {"state": 3, "param_groups": [{"params": [0, 1]}]}
    other_network = torch.optim.Adam([torch.zeros(2, requires_grad=True)]).state_dict()
    for content in (some_weights, {}, [], 3, wrong_groups, wrong_state, other_network):
        with pytest.raises(UserError, match=r"o\.ptm: does not fit the optimizer"):
            load_optimizer(fresh_adam(), saved(tmp_path / "o.ptm", content))


DAMAGES = {
    "changed": lambda record: record.write_text(record.read_text().replace('"run": "r"', '"run": "s"')),
    "cut": lambda record: record.write_bytes(record.read_bytes()[:50]),
    "empty": lambda record: record.write_bytes(b""),
    "no text": lambda record: record.write_bytes(b"\xff\xfe"),
    "unsealed": lambda record: write_json(record, {**read_json(record, sealed=True)}),
    "foreign": lambda record: write_json(record, [1], sealed=True),
    "without files": lambda record: write_json(record, {"time": 1}, sealed=True),
    "invalid time": lambda record: write_json(record, {"files": {}, "time": "now"}, sealed=True),
    "a folder": lambda record: (record.unlink(), record.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_metadata_are_reported_and_the_previous_checkpoint_is_used(tmp_path, damage, caplog):
    files = saved_sets(tmp_path, 10, 20, run="r")
    assert files.last_complete() == 20 and files.run_of(20) == "r"
    damage(files.metadata(20))
    assert files.last_complete() == 10
    assert not files.complete_metadata(20) and files.run_of(20) is None
    assert str(files.metadata(20)) in caplog.text


def test_the_last_checkpoint_of_a_launch_is_found(tmp_path):
    files = saved_sets(tmp_path, 10, 20, launch="a")
    saved_sets(tmp_path, 30, launch="b")
    assert [files.last_complete(launch) for launch in (None, "a", "b", "c")] == [30, 20, 30, None]


def test_the_same_state_gives_the_same_bytes(tmp_path):
    """Users can compare the files of two runs to compare the runs."""
    contents = []
    for name in ("x", "y"):
        files = CheckpointFiles(tmp_path, name)
        files.save(1, NO_PARTS | {"encoder": encoder()}, {})
        contents.append(files.part(1, "encoder").read_bytes())
    assert contents[0] == contents[1]
    assert torch.load(io.BytesIO(contents[0]), weights_only=True).keys() == encoder().keys()
