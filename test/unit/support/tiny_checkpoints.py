"""Write small checkpoint files, and compare weights."""

from pathlib import Path

import torch

from model.checkpoints.checkpoint import CheckpointFiles

NO_PARTS = {"encoder": {}, "optimizer": {}, "state": {}}


def saved(path: Path, content: object, **options) -> Path:
    torch.save(content, path, **options)
    return path


def saved_sets(folder: Path, *iterations: int, name: str = "x", **metadata) -> CheckpointFiles:
    """Save checkpoints with empty parts at these iterations, and return the files of their experiment."""
    files = CheckpointFiles(folder, name)
    for iteration in iterations:
        files.save(iteration, NO_PARTS, metadata)
    return files


def assert_same_weights(network: torch.nn.Module, expected: torch.nn.Module | dict) -> None:
    state = expected if isinstance(expected, dict) else expected.state_dict()
    torch.testing.assert_close(dict(network.state_dict()), dict(state), rtol=0, atol=0)
