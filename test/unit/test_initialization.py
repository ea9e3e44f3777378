"""Objects built from a configuration: the kernels that they use, and that all processes agree on them."""

from pathlib import Path

import pytest
import torch

from model.config import build_config
from model.devices import distributed, triton_support
from model.initialization import build_trainer, load_network, open_dataset
from model.network import GaitSet
from model.network.compute_mode import make_compute_mode

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
    trainer = build_trainer(config, open_dataset(config), CPU, distributed.World(), writing=False)
    assert trainer.step.reference_loss is not expected
    assert trainer.state.network.fused == trainer.loader.packed == (expected and amp == "torch")
    torch.save(GaitSet(8).state_dict(), tmp_path / "e.ptm")
    loaded = load_network(config, tmp_path / "e.ptm", None, CPU)
    assert loaded.network.fused == trainer.state.network.fused
    assert loaded.metadata == {}
    warned = "Triton kernels do not work in every process: all processes use torch's kernels" in caplog.text
    assert warned == (kernels == "auto" and here and not elsewhere)
