"""The encoder that comes with the project: found where there is no other, never in the place of another."""

import pytest
import torch

from model.checkpoints import bundled
from model.checkpoints.loading import load_encoder
from model.common.errors import UserError
from model.config import Config, ModelConfig
from model.initialization import load_network
from model.network import GaitSet

CPU = torch.device("cpu")


def test_it_is_there_with_its_card_and_loads_like_any_other():
    path = bundled.bundled_encoder()
    card = path.with_name(path.name.removesuffix("-encoder.ptm") + ".md").read_text(encoding="utf-8")
    for heading in ("Data", "Recipe", "Results", "Limits", "Licence"):
        assert f"## {heading}" in card
    load_encoder(GaitSet(), path)
    assert 9e6 < path.stat().st_size < 12e6


def test_who_has_no_checkpoint_gets_it_and_is_told(tmp_path, caplog):
    loaded = load_network(Config(work_path=tmp_path), None, None, CPU)
    expected = GaitSet()
    load_encoder(expected, bundled.bundled_encoder())
    assert loaded.checkpoint == bundled.bundled_encoder()
    assert all(torch.equal(a, b) for a, b in zip(loaded.network.parameters(), expected.parameters(), strict=True))
    assert "synthetic walkers only" in caplog.text


def test_it_never_stands_in_for_what_may_be_the_users(tmp_path):
    assert bundled.bundled_checkpoint(tmp_path, 256) is not None
    assert bundled.bundled_checkpoint(bundled.FOLDER, 256) is not None  # which holds itself
    assert bundled.bundled_checkpoint(tmp_path, 128) is None
    (tmp_path / "some-encoder.ptm").touch()
    assert bundled.bundled_checkpoint(tmp_path, 256) is None


def test_without_it_the_missing_checkpoint_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "removed")
    assert bundled.bundled_encoder() is None and bundled.bundled_checkpoint(tmp_path, 256) is None


def test_the_newest_version_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    for version in (1, 2):
        (tmp_path / f"GaitSet_Synthetic-v{version}-encoder.ptm").touch()
    assert bundled.bundled_encoder().name == "GaitSet_Synthetic-v2-encoder.ptm"


def test_another_size_is_no_reason_to_take_it(tmp_path):
    config = Config(work_path=tmp_path, model=ModelConfig(hidden_dim=128))
    with pytest.raises(UserError, match="no checkpoint of"):
        load_network(config, None, None, CPU)
