"""A classifier of the training subjects, which adds a cross-entropy loss to the triplet loss.

Every strip has a BNNeck (Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", 2019):
batch normalization between the embedding, to which the triplet loss is applied, and a linear classifier of vectors of
length 1. The classifier is not part of the network, so encoder files and exported models do not contain it.

Axes: n embeddings, p strips, d values per strip, c subjects.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 16.0  # factor of the cosines before the softmax
SMOOTHING = 0.1  # label smoothing


class Classifier(nn.Module):
    """Return the cross entropy of embeddings [n, p, d] with labels int64 [n], averaged over strips and embeddings."""

    def __init__(self, strips: int, hidden_dim: int, subjects: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(strips * hidden_dim)
        self.weight = nn.Parameter(torch.empty(strips, hidden_dim, subjects))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        normed = self.norm(embeddings.float().flatten(1)).view_as(embeddings)
        cosines = F.normalize(normed, dim=2).transpose(0, 1) @ F.normalize(self.weight, dim=1)  # [p, n, c]
        return F.cross_entropy(SCALE * cosines.flatten(0, 1), labels.repeat(len(cosines)), label_smoothing=SMOOTHING)
