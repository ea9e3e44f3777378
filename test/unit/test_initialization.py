"""Networks and trainers that are built from a configuration: their kernels, their sizes, and their initial weights."""

import hashlib
from pathlib import Path

import pytest
import torch
from scripts import ROOT
from training_runs import files_of, train

from model.checkpoints.loading import read_encoder
from model.common.errors import UserError
from model.common.json_files import read_json
from model.devices import distributed, triton_support
from model.devices.world import World
from model.initialization import load_network, open_dataset
from model.network import GaitSet
from model.network.compute_mode import make_compute_mode
from model.settings.config_file import build_config
from model.training.builder import build_trainer

CPU = torch.device("cpu")


def config_of(tree, work, **model):
    model = {"hidden_dim": 8, "batch_size": (2, 2), "frame_num": 2, "total_iter": 1, **model}
    content = {"WORK_PATH": str(work), "model": model}
    content["data"] = {"dataset_path": str(tree), "dataset": "Synthetic", "pid_num": 2}
    return build_config(content, Path())


@pytest.mark.parametrize(
    ("kernels", "here", "elsewhere", "expected"),
    [
        ("auto", True, True, True),
        ("auto", True, False, False),
        ("auto", False, True, False),
        ("plain", True, True, False),
    ],
)
@pytest.mark.parametrize("amp", ["off", "torch"])
def test_triton_kernels_are_used_if_supported_on_all_ranks_and_in_float32_only_for_the_loss(
    aligned_tree, tmp_path, monkeypatch, caplog, kernels, here, elsewhere, expected, amp
):
    monkeypatch.setattr(triton_support, "works", lambda device: here)
    monkeypatch.setattr(distributed, "any_process", lambda flag, device: flag or not elsewhere)
    config = config_of(aligned_tree, tmp_path, kernels=kernels, amp=amp)
    assert make_compute_mode(amp, "", kernels, CPU).triton is expected
    trainer = build_trainer(config, open_dataset(config), CPU, World(), writing=False)
    assert trainer.step.reference_loss is not expected
    assert trainer.state.network.fused == (expected and amp == "torch")
    assert trainer.loader.packed == (kernels == "auto")
    torch.save(GaitSet(8).state_dict(), tmp_path / "e.ptm")
    loaded = load_network(config, tmp_path / "e.ptm", None, CPU)
    assert loaded.network.fused == trainer.state.network.fused
    assert loaded.metadata == {}
    warned = "Triton kernels do not work in every process: all processes use torch's kernels" in caplog.text
    assert warned == (kernels == "auto" and here and not elsewhere)


@pytest.mark.parametrize("channels", [(32, 64, 96), (64, 64, 128), (32, 48, 128), (32, 64, 80)])
def test_triton_kernels_are_not_used_for_channels_that_they_do_not_support(monkeypatch, caplog, channels):
    monkeypatch.setattr(triton_support, "works", lambda device: True)
    caplog.set_level("INFO")
    mode = make_compute_mode("torch", "", "auto", CPU, channels)
    supported = channels == (32, 64, 96)
    assert (mode.triton, mode.fused) == (True, supported)
    assert ("torch's kernels compute the network" in caplog.text) == (not supported)


def run(config, initial=None):
    trainer = build_trainer(config, open_dataset(config), CPU, World(), initial=initial)
    assert trainer.run(config.model.total_iter) == 0
    return trainer


def test_a_run_with_other_channels_resumes_and_its_encoder_loads_under_any_config(aligned_tree, tmp_path):
    settings = {"channels": [4, 6, 10], "total_iter": 2}
    run(config_of(aligned_tree, tmp_path, **settings))
    trainer = run(config_of(aligned_tree, tmp_path, **settings | {"total_iter": 3, "restore_iter": -1}))
    path = trainer.checkpoints.files.part(3, "encoder")
    loaded = load_network(config_of(aligned_tree, tmp_path, hidden_dim=16), path, None, CPU).network
    assert (loaded.hidden_dim, loaded.channels) == (8, (4, 6, 10))
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), trainer.state.network.parameters(), strict=True))
    with pytest.raises(UserError, match=r"channels of the config must be \[4, 6, 10\], not \[32, 64, 128\]"):
        run(config_of(aligned_tree, tmp_path, restore_iter=3))


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Two small encoders."""
    folder, encoders = tmp_path_factory.mktemp("encoders"), []
    for seed in (7, 8):
        torch.manual_seed(seed)
        torch.save(GaitSet(8, channels=(4, 6, 10)).state_dict(), folder / f"{seed}-encoder.ptm")
        encoders.append(read_encoder(folder / f"{seed}-encoder.ptm"))
    return encoders


def test_training_starts_from_an_encoder_and_the_metadata_record_it(aligned_tree, tmp_path, encoders):
    encoder, other = encoders
    settings = {"channels": [4, 6, 10], "total_iter": 2}
    config = config_of(aligned_tree, tmp_path, **settings)
    trainer = build_trainer(config, open_dataset(config), CPU, World(), initial=encoder)
    state, files = trainer.state, trainer.checkpoints.files
    assert state.iteration == 0 and not state.optimizer.state
    assert all(torch.equal(value, encoder.weights[key]) for key, value in state.network.state_dict().items())
    trainer.run(2)
    expected = {"file": str(encoder.path), "sha256": hashlib.sha256(encoder.path.read_bytes()).hexdigest()}
    # A resumed run keeps the initial encoder in its metadata, even if the encoder is not given again.
    for total, initial in ((3, encoder), (4, None)):
        settings |= {"total_iter": total, "restore_iter": -2}
        run(config_of(aligned_tree, tmp_path, **settings), initial)
        assert read_json(files.metadata(total), sealed=True)["initial_encoder"] == expected
    again = config_of(aligned_tree, tmp_path, **settings | {"total_iter": 5, "restore_iter": -1})
    with pytest.raises(UserError, match=r"8-encoder\.ptm: the run to resume started from .*7-encoder\.ptm; leave out"):
        run(again, other)


def test_a_run_from_random_weights_does_not_resume_with_an_encoder(aligned_tree, tmp_path, encoders):
    settings = {"channels": [4, 6, 10]}
    trainer = run(config_of(aligned_tree, tmp_path, **settings))
    assert read_json(trainer.checkpoints.files.metadata(1), sealed=True)["initial_encoder"] is None
    with pytest.raises(UserError, match="the run to resume started from random weights; leave out --checkpoint"):
        run(config_of(aligned_tree, tmp_path, **settings, restore_iter=1), encoders[0])


def test_the_command_trains_from_the_encoder_of_its_option(aligned_tree, tmp_path, encoders):
    """The learning rate is close to 0, so the weights stay equal to the weights of the encoder."""
    [expected, _], files = encoders, files_of(tmp_path)
    assert train(aligned_tree, tmp_path, "--checkpoint", expected.path, "--lr", 1e-9, "--iters", 1) == 0
    for key, value in read_encoder(files.part(1, "encoder")).weights.items():
        torch.testing.assert_close(value, expected.weights[key], rtol=0, atol=1e-8)
    recorded = read_json(files.metadata(1), sealed=True)["initial_encoder"]
    assert recorded == {"file": str(expected.path), "sha256": expected.sha256}


def test_train_checks_the_encoder_before_it_packs_the_data(tmp_path, encoders):
    with pytest.raises(UserError, match=r"hidden_dim of the config must be 8, not 256; channels of the config must be"):
        train(tmp_path / "no data", tmp_path, "--config", ROOT / "config_1p.py", "--checkpoint", encoders[0].path)
    with pytest.raises(UserError, match=r"none\.ptm: no such checkpoint"):
        train(tmp_path / "no data", tmp_path, "--checkpoint", tmp_path / "none.ptm")
