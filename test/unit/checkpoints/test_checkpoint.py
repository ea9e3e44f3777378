"""Checkpoint files: published names and keys, whole sets, loading what others wrote, refusing what is foreign."""

import os
import pickle
import subprocess
import sys

import pytest
import torch

from model.checkpoints.checkpoint import CheckpointFiles
from model.checkpoints.loading import load_encoder, load_optimizer, load_tensors
from model.common.errors import UserError
from model.network import GaitSet

PUBLISHED_KEYS = [
    *(f"set_layer{i}.forward_block.conv.weight" for i in range(1, 7)),
    *(f"gl_layer{i}.conv.weight" for i in range(1, 5)),
    "fc_bin.0",
]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(5)
    return GaitSet()


def some_parts(network):
    return {"encoder": network.state_dict(), "optimizer": {"state": {}, "param_groups": []}, "state": {"a": 1}}


def test_files_bear_the_published_names(tmp_path, network):
    files = CheckpointFiles(tmp_path, "GaitSet_CASIA-B_73_False_256_0.2_128_full_30")
    files.save(80000, some_parts(network), {"run": "r"})
    stem = "GaitSet_CASIA-B_73_False_256_0.2_128_full_30-80000"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"{stem}-encoder.ptm", f"{stem}-optimizer.ptm", f"{stem}-state.ptm", f"{stem}.json",
    ]  # fmt: skip
    assert files.part(7, "encoder").name.endswith("-00007-encoder.ptm")


def test_encoder_is_a_plain_state_dict_with_the_published_keys(tmp_path, network):
    files = CheckpointFiles(tmp_path, "x")
    files.save(1, some_parts(network), {})
    state = torch.load(files.part(1, "encoder"), weights_only=True)
    assert list(state) == PUBLISHED_KEYS
    other = GaitSet()
    other.load_state_dict(state)  # strictly, as the original loads
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), network.parameters(), strict=True))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_of_others_load_with_and_without_prefix(tmp_path, network, prefix):
    path = tmp_path / "theirs.ptm"
    torch.save({prefix + key: value for key, value in network.state_dict().items()}, path)
    other = GaitSet()
    load_encoder(other, path)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), network.parameters(), strict=True))


def test_missing_foreign_and_misshapen_keys_are_named(tmp_path):
    state = GaitSet(128).state_dict()
    del state["gl_layer1.conv.weight"]
    state["head.weight"] = torch.zeros(2)
    torch.save(state, tmp_path / "x.ptm")
    with pytest.raises(UserError) as caught:
        load_encoder(GaitSet(256), tmp_path / "x.ptm")
    reported = "lacks gl_layer1.conv.weight; has the unknown key head.weight (2 disagreements)"
    assert str(caught.value) == f"{tmp_path / 'x.ptm'}: does not fit the network: {reported}"
    assert "\n" not in str(caught.value)


class Harmful:
    def __reduce__(self):
        return sys.exit, (3,)


@pytest.mark.parametrize("content", [pickle.dumps(Harmful()), b"", b"PK\x03\x04 cut off"], ids=["code", "empty", "cut"])
def test_only_tensors_are_unpickled(tmp_path, content):
    (tmp_path / "x.ptm").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.ptm"):
        load_tensors(tmp_path / "x.ptm")


def test_a_missing_checkpoint_names_what_is_there(tmp_path, network):
    files = CheckpointFiles(tmp_path, "x")
    files.save(10, some_parts(network), {})
    with pytest.raises(UserError, match=r"x-00010-encoder\.ptm"):
        load_tensors(files.part(20, "encoder"))


def test_optimizer_of_another_network_is_refused(tmp_path):
    torch.save(torch.optim.Adam([torch.zeros(2, requires_grad=True)]).state_dict(), tmp_path / "o.ptm")
    with pytest.raises(UserError, match="optimizer"):
        load_optimizer(torch.optim.Adam(GaitSet().parameters()), tmp_path / "o.ptm")


COMPUTED = {
    "plain": {"foreach": False},
    "fused": {"fused": True, "capturable": True},  # as on devices that record an iteration
}


def adam_after(steps: int, how: str) -> tuple[torch.nn.Parameter, torch.optim.Adam]:
    parameter = torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
    optimizer = torch.optim.Adam([parameter], lr=0.01, **COMPUTED[how])
    take_steps(parameter, optimizer, range(steps))
    return parameter, optimizer


def take_steps(parameter, optimizer, numbers) -> None:
    for number in numbers:
        parameter.grad = torch.sin(torch.arange(12.0) * (number + 1)).view(3, 4)
        optimizer.step()


@pytest.mark.parametrize("written", COMPUTED)
@pytest.mark.parametrize("read", COMPUTED)
def test_an_optimizer_goes_on_however_its_steps_are_computed(tmp_path, written, read):
    """A fused step on one device and a plain one on another: the state is the same, how to compute is not of it."""
    parameter, optimizer = adam_after(3, written)
    torch.save(optimizer.state_dict(), tmp_path / "o.ptm")
    other, restored = adam_after(1, read)
    other.data.copy_(parameter.data)
    load_optimizer(restored, tmp_path / "o.ptm")
    for key, value in COMPUTED[read].items():
        assert restored.param_groups[0][key] == value
    assert restored.param_groups[0]["betas"] == (0.9, 0.999)
    take_steps(parameter, optimizer, range(3, 8))
    take_steps(other, restored, range(3, 8))
    torch.testing.assert_close(other, parameter, rtol=1e-6, atol=1e-7)
    assert restored.state[other]["step"] == 8


def test_an_optimizer_saved_before_steps_could_be_fused_loads(tmp_path):
    """As the original's, whose groups have none of the keys that say how to compute."""
    parameter, optimizer = adam_after(2, "plain")
    state = optimizer.state_dict()
    for key in ("foreach", "fused", "capturable", "maximize", "differentiable", "decoupled_weight_decay"):
        del state["param_groups"][0][key]
    torch.save(state, tmp_path / "o.ptm")
    other, restored = adam_after(0, "fused")
    other.data.copy_(parameter.data)
    load_optimizer(restored, tmp_path / "o.ptm")
    take_steps(parameter, optimizer, [2])
    take_steps(other, restored, [2])
    torch.testing.assert_close(other, parameter, rtol=1e-6, atol=1e-7)


def test_a_set_is_complete_only_with_its_record_and_matching_files(tmp_path, network):
    files = CheckpointFiles(tmp_path, "x")
    for iteration in (10, 20, 30, 40):
        files.save(iteration, some_parts(network), {})
    assert files.last_complete() == 40
    files.metadata(40).unlink()  # killed before the record was written
    assert files.last_complete() == 30
    files.part(30, "state").unlink()
    assert files.last_complete() == 20
    with files.part(20, "optimizer").open("ab") as file:  # of another run, or half of it
        file.write(b"x")
    assert files.last_complete() == 10


def test_a_killed_save_leaves_the_set_before_it(tmp_path, network, monkeypatch):
    files = CheckpointFiles(tmp_path, "x")
    files.save(10, some_parts(network), {})
    real_save = torch.save

    def power_cut(value, file):
        real_save(value, file)
        if "param_groups" in value:
            raise RuntimeError("power cut")

    monkeypatch.setattr(torch, "save", power_cut)
    with pytest.raises(RuntimeError, match="power cut"):
        files.save(20, some_parts(network), {})
    assert files.last_complete() == 10


def test_what_a_killed_process_left_is_swept(tmp_path, network):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (tmp_path / f".x-00010-encoder.ptm.{int(dead.stdout)}.part").write_bytes(b"half")
    CheckpointFiles(tmp_path, "x").save(20, some_parts(network), {})
    assert not list(tmp_path.glob(".*"))


def test_what_living_processes_and_other_experiments_are_writing_stays(tmp_path, network):
    """All experiments share a folder: a second training must not pull files away from under the first."""
    alive, other = tmp_path / f".x-1-encoder.ptm.{os.getppid()}.part", tmp_path / ".y-00010-encoder.ptm.999999.part"
    alive.touch()
    other.touch()
    CheckpointFiles(tmp_path, "x").save(20, some_parts(network), {})
    assert alive.exists() and other.exists()


def test_removing_a_set_leaves_other_experiments_alone(tmp_path, network):
    mine, theirs = CheckpointFiles(tmp_path, "x"), CheckpointFiles(tmp_path, "x-y")
    mine.save(10, some_parts(network), {"run": "a"})
    mine.save(20, some_parts(network), {"run": "b"})
    theirs.save(10, some_parts(network), {"run": "c"})
    mine.remove(10)
    assert mine.iterations() == [20] and mine.run_of(20) == "b"
    assert theirs.complete_metadata(10)


def test_folders_that_cannot_be_written_to_are_one_line(tmp_path, network):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        CheckpointFiles(tmp_path / "file" / "below", "x").save(1, some_parts(network), {})
