"""Make training steps with a small network, and batches for them."""

from dataclasses import replace
from itertools import pairwise

import torch
from torch import nn

from model.config import ModelConfig
from model.data.batches import Batch
from model.training.classifier import Classifier
from model.training.log_book import LossMeter
from model.training.precision import Precision
from model.training.state import TrainingState
from model.training.step import TrainingStep

CPU = torch.device("cpu")


SETTINGS = ModelConfig(batch_size=(2, 2), frame_num=6)


class SmallNetwork(nn.Module):
    """Embed packed sequences as [n, 3, 5]. An embedding is the maximum of 15 features over the frames of a sequence."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(64, 15, generator=torch.Generator().manual_seed(0)) * 0.02)

    def forward(self, sils, ends):
        features = sils.float().div(255).mean(2) @ self.matrix
        return torch.stack([features[a:b].amax(0) for a, b in pairwise(ends.tolist())]).view(-1, 3, 5)


def new_step(network=None, **settings) -> TrainingStep:
    network = network or SmallNetwork()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    state = TrainingState(network, optimizer, Precision(CPU), LossMeter(CPU))
    return TrainingStep(network, state, replace(SETTINGS, **settings))


def batch_of(frames: int, seed: int) -> Batch:
    """Return a batch of four sequences with `frames` frames in total. The last frame belongs to no sequence."""
    generator = torch.Generator().manual_seed(seed)
    sils = torch.randint(256, (frames, 64, 44), dtype=torch.uint8, generator=generator)
    return Batch(sils, torch.tensor([0, 1, 2, 3, frames - 1], dtype=torch.int32), torch.tensor([0, 0, 1, 1]) + seed % 3)


def with_classifier(weight: float) -> TrainingStep:
    torch.manual_seed(0)
    step = new_step(cross_entropy=weight)
    step.state.classifier = Classifier(3, 5, 4)
    return step
