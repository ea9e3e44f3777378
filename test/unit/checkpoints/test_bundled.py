"""The bundled encoder is used only if there is no other checkpoint."""

import pytest
import torch
from tiny_checkpoints import assert_same_weights

from model.checkpoints import bundled
from model.checkpoints.loading import load_encoder
from model.common.errors import UserError
from model.config import Config, ModelConfig
from model.initialization import load_network
from model.network import GaitSet

CPU = torch.device("cpu")


def test_bundled_encoder_has_a_card_and_loads():
    path = bundled.bundled_encoder()
    card = path.with_name(path.name.removesuffix("-encoder.ptm") + ".md").read_text(encoding="utf-8")
    assert all(f"## {heading}" in card for heading in ("Data", "Recipe", "Results", "Limits", "Licence"))
    load_encoder(GaitSet(unit_strips=True), path)
    assert 9e6 < path.stat().st_size < 12e6


def test_bundled_encoder_is_loaded_with_a_warning_if_there_is_no_checkpoint(tmp_path, caplog):
    loaded = load_network(Config(work_path=tmp_path), None, None, CPU)
    expected = GaitSet(unit_strips=True)
    load_encoder(expected, bundled.bundled_encoder())
    assert loaded.checkpoint == bundled.bundled_encoder()
    assert_same_weights(loaded.network, expected)
    assert "synthetic walkers only" in caplog.text


def test_bundled_encoder_is_used_only_in_a_folder_without_encoders_and_for_its_size(tmp_path):
    assert bundled.bundled_checkpoint(tmp_path, 256) is not None
    assert bundled.bundled_checkpoint(bundled.FOLDER, 256) is not None  # this folder holds the bundled encoder itself
    assert bundled.bundled_checkpoint(tmp_path, 128) is None
    config = Config(work_path=tmp_path, model=ModelConfig(hidden_dim=128))
    with pytest.raises(UserError, match="no checkpoint of"):
        load_network(config, None, None, CPU)
    config.checkpoint_folder.mkdir(parents=True)
    (config.checkpoint_folder / "some-encoder.ptm").touch()
    assert bundled.bundled_checkpoint(config.checkpoint_folder, 256) is None
    with pytest.raises(UserError, match=r"give an encoder with --checkpoint\. The folder holds some-encoder\.ptm$"):
        load_network(Config(work_path=tmp_path), None, None, CPU)


def test_a_removed_bundled_encoder_is_not_found(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "removed")
    assert bundled.bundled_encoder() is None and bundled.bundled_checkpoint(tmp_path, 256) is None


def test_the_newest_version_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    for version in (1, 2):
        (tmp_path / f"GaitSet_Synthetic-v{version}-encoder.ptm").touch()
    assert bundled.bundled_encoder().name == "GaitSet_Synthetic-v2-encoder.ptm"
