"""Checkpoint files: published names and keys, complete checkpoints, and errors about invalid files."""

import os
import subprocess
import sys

import pytest
import torch
from tiny_checkpoints import NO_PARTS, assert_same_weights, saved, saved_sets

from model.checkpoints.checkpoint import CheckpointFiles
from model.checkpoints.loading import load_encoder, load_optimizer, load_tensors
from model.checkpoints.retention import RunCheckpoints
from model.common.errors import UserError
from model.network import GaitSet

PUBLISHED_KEYS = [
    *(f"set_layer{i}.forward_block.conv.weight" for i in range(1, 7)),
    *(f"gl_layer{i}.conv.weight" for i in range(1, 5)),
    "fc_bin.0",
]


def test_files_have_the_published_names(tmp_path):
    stem = "GaitSet_CASIA-B_73_False_256_0.2_128_full_30"
    files = saved_sets(tmp_path, 80000, name=stem)
    assert sorted(p.name.removeprefix(f"{stem}-80000") for p in tmp_path.iterdir()) == [
        "-encoder.ptm", "-optimizer.ptm", "-state.ptm", ".json",
    ]  # fmt: skip
    assert files.part(7, "encoder").name.endswith("-00007-encoder.ptm")


def test_encoder_is_a_plain_state_dict_with_the_published_keys(tmp_path):
    network = GaitSet()
    files = CheckpointFiles(tmp_path, "x")
    files.save(1, NO_PARTS | {"encoder": network.state_dict()}, {})
    state = torch.load(files.part(1, "encoder"), weights_only=True)
    assert list(state) == PUBLISHED_KEYS
    assert_same_weights(network, state)


def test_missing_and_unknown_keys_are_named(tmp_path):
    state = GaitSet(128).state_dict()
    del state["gl_layer1.conv.weight"]
    path = saved(tmp_path / "x.ptm", state | {"head.weight": torch.zeros(2)})
    with pytest.raises(UserError) as caught:
        load_encoder(GaitSet(256), path)
    reported = "lacks gl_layer1.conv.weight; has the unknown key head.weight (2 differences)"
    assert str(caught.value) == f"{path}: does not fit the network: {reported}"


DAMAGED = "is damaged or not a checkpoint of tensors"
EXPORTED = "is an exported model, not a checkpoint; run it with"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.ptm", b"", DAMAGED),
        ("cut.ptm", b"PK\x03\x04 cut off", DAMAGED),
        ("gaitset_submit.onnx", b"\x08\x06", rf"{EXPORTED} test\.py --runtime auto"),
        ("gaitset_submit.om", b"\x08\x06", EXPORTED),
    ],
)
def test_files_that_are_not_checkpoints_are_rejected(tmp_path, name, content, message):
    """The test of files that execute code is in data/test_array_pickle.py."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: {message}"):
        load_tensors(tmp_path / name)


def test_error_about_a_missing_checkpoint_names_existing_checkpoints(tmp_path):
    with pytest.raises(UserError, match=r"x-00010-encoder\.ptm"):
        load_tensors(saved_sets(tmp_path, 10).part(20, "encoder"))
    with pytest.raises(UserError, match=r"is a folder, not a checkpoint file; it holds x-00010-encoder\.ptm"):
        load_tensors(tmp_path)
    with pytest.raises(UserError, match="no such checkpoint; its folder holds no checkpoints"):
        load_tensors(tmp_path / "nowhere" / "e.ptm")


IMPLEMENTATIONS = {
    "plain": {"foreach": False},
    "fused": {"fused": True, "capturable": True},  # as on devices with graphs
}
# Keys of parameter groups that older versions of torch do not save.
NEWER_KEYS = ("foreach", "fused", "capturable", "maximize", "differentiable", "decoupled_weight_decay")


def take_steps(parameter, optimizer, numbers) -> None:
    for number in numbers:
        parameter.grad = torch.sin(torch.arange(12.0) * (number + 1)).view(3, 4)
        optimizer.step()


@pytest.mark.parametrize("written", [*IMPLEMENTATIONS, "by an older torch"])
@pytest.mark.parametrize("read", IMPLEMENTATIONS)
@pytest.mark.parametrize("steps_before", [0, 1])
def test_optimizer_continues_with_another_implementation_of_its_steps(tmp_path, written, read, steps_before):
    """A file from a device with fused steps loads on a device without them, because the file holds only the state."""
    parameters = [torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4)) for _ in range(2)]
    options = IMPLEMENTATIONS.get(written, {}), IMPLEMENTATIONS[read]
    running, restored = (torch.optim.Adam([p], lr=0.01, **o) for p, o in zip(parameters, options, strict=True))
    take_steps(parameters[0], running, range(3))
    take_steps(parameters[1], restored, range(steps_before))
    state = running.state_dict()
    if written not in IMPLEMENTATIONS:
        for key in NEWER_KEYS:
            del state["param_groups"][0][key]
    load_optimizer(restored, saved(tmp_path / "o.ptm", state))
    parameters[1].data.copy_(parameters[0].data)
    take_steps(parameters[0], running, range(3, 8))
    take_steps(parameters[1], restored, range(3, 8))
    torch.testing.assert_close(*parameters, rtol=1e-6, atol=1e-7)
    (group,) = restored.param_groups
    assert group["betas"] == (0.9, 0.999) and group.items() >= IMPLEMENTATIONS[read].items()
    assert restored.state[parameters[1]]["step"] == 8


def test_a_checkpoint_is_complete_only_with_its_metadata_and_matching_files(tmp_path):
    files = saved_sets(tmp_path, 10, 20, 30, 40)
    assert files.last_complete() == 40
    files.metadata(40).unlink()  # killed before the metadata were written
    assert files.last_complete() == 30
    files.part(30, "state").unlink()
    assert files.last_complete() == 20
    with files.part(20, "optimizer").open("ab") as file:  # like a file of a different run
        file.write(b"x")
    assert files.last_complete() == 10


def test_a_killed_save_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    files, real_save = saved_sets(tmp_path, 10), torch.save

    def power_cut(value, file):
        real_save(value, file)
        if "param_groups" in value:
            raise RuntimeError("power cut")

    monkeypatch.setattr(torch, "save", power_cut)
    with pytest.raises(RuntimeError, match="power cut"):
        files.save(20, NO_PARTS | {"optimizer": {"param_groups": []}}, {})
    assert files.last_complete() == 10


def test_only_temporary_files_of_dead_processes_of_the_experiment_are_removed(tmp_path):
    """Experiments share a folder, and a training must not delete files that another training is writing."""
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (tmp_path / f".x-00010-encoder.ptm.{int(dead.stdout)}.part").write_bytes(b"half")
    alive, other = tmp_path / f".x-1-encoder.ptm.{os.getppid()}.part", tmp_path / ".y-00010-encoder.ptm.999999.part"
    alive.touch()
    other.touch()
    saved_sets(tmp_path, 20)
    assert set(tmp_path.glob(".*")) == {alive, other}


def test_removing_a_checkpoint_keeps_other_experiments(tmp_path):
    mine, theirs = saved_sets(tmp_path, 10, 20, run="a"), saved_sets(tmp_path, 10, name="x-y", run="c")
    mine.remove(10)
    assert mine.iterations() == [20] and mine.run_of(20) == "a"
    assert theirs.complete_metadata(10)


def test_a_new_run_warns_that_it_replaces_checkpoints_of_another_run(tmp_path, caplog):
    RunCheckpoints(CheckpointFiles(tmp_path, "x"), keep=0).warn_of_others()
    assert not caplog.text
    RunCheckpoints(saved_sets(tmp_path, 10), keep=0).warn_of_others()
    assert "holds checkpoints of another run, the last one of iteration 10; this run replaces" in caplog.text


def test_folder_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        saved_sets(tmp_path / "file" / "below", 1)
