"""What is built from a configuration: which kernels run, and that all processes agree on them."""

from pathlib import Path

import pytest
import torch

from model.config import build_config
from model.devices import distributed, triton_support
from model.initialization import build_trainer, load_network, open_dataset, own_kernels
from model.network import GaitSet

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
def test_own_kernels_run_where_all_processes_can(
    aligned_tree, tmp_path, monkeypatch, caplog, kernels, here, elsewhere, expected, amp
):
    """In float32 those of the loss alone."""
    monkeypatch.setattr(triton_support, "works", lambda device: here)
    monkeypatch.setattr(distributed, "any_process", lambda flag, device: flag or not elsewhere)
    config = config_of(aligned_tree, tmp_path, kernels=kernels, amp=amp)
    assert own_kernels(config.model, CPU) is expected
    trainer = build_trainer(config, open_dataset(config), CPU, distributed.World(), writing=False)
    assert trainer.step.plain is not expected
    assert trainer.network.fused == trainer.loader.packed == (expected and amp == "torch")
    torch.save(GaitSet(8).state_dict(), tmp_path / "e.ptm")
    network, _ = load_network(config, tmp_path / "e.ptm", None, CPU)
    assert network.fused == trainer.network.fused
    told = "the project's kernels do not work in every process: all use torch's own" in caplog.text
    assert told == (kernels == "auto" and here and not elsewhere)
