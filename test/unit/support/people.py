"""Make labels, embeddings and frames for the tests of the evaluation and the report.

The embeddings give correct and wrong matches.
"""

import numpy as np
import torch

from model.data.index import SequenceIndex

TAKES = ("nm-01", "nm-02", "nm-03", "nm-04", "nm-05", "nm-06", "bg-01", "bg-02", "cl-01", "cl-02")
VIEWS = ("000", "018", "090")


def made_index(subjects=("anna", "bert", "cleo", "dora", "emil"), takes=TAKES, views=VIEWS, frames=5) -> SequenceIndex:
    rows = [(subject, take, view) for subject in subjects for take in takes for view in views]
    return SequenceIndex.from_lengths(*map(list, zip(*rows, strict=True)), [frames] * len(rows))


def made_embeddings(index: SequenceIndex, spread: float = 1.1, seed: int = 0, dim: int = 12) -> torch.Tensor:
    """Return random embeddings [N, 3, dim / 3]: a centre per subject with a standard deviation of 1, plus noise.

    Args:
        spread: standard deviation of the noise.
    """
    rng = np.random.default_rng(seed)
    centre = {subject: rng.standard_normal(dim) for subject in index.subjects}
    rows = [centre[subject] + spread * rng.standard_normal(dim) for subject in index.subject.tolist()]
    return torch.from_numpy(np.array(rows, np.float32)).unflatten(1, (3, -1))


def made_frames(position: int, frames: int = 5) -> np.ndarray:
    """Return the silhouettes of the sequence at `position`: uint8 [frames, 64, 44] with a moving bar."""
    sils = np.zeros((frames, 64, 44), np.uint8)
    for number, sil in enumerate(sils):
        left = (position * 7 + number * 3) % 30
        sil[6:60, left : left + 9] = 255
    return sils
