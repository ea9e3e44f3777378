"""Make a small cross-view result, embeddings with gaps, and a training log."""

import json
from pathlib import Path

import numpy as np
import torch
from people import made_embeddings, made_index

from model.data.index import SequenceIndex
from model.evaluation.cross_view import evaluate_index


def a_result():
    """Return the result of four subjects with one view, and one gallery and one probe sequence each."""
    subjects = [f"{i // 2}" for i in range(8)]
    index = SequenceIndex.from_lengths(subjects, ["nm-01", "nm-05"] * 4, ["090"] * 8, [1] * 8)
    return evaluate_index(torch.from_numpy(np.eye(8, dtype=np.float32)), index, "CASIA-B")


def ragged() -> tuple[SequenceIndex, torch.Tensor]:
    """Return labels and embeddings with gaps: a subject and a view have no gallery, and other sequences are missing."""
    index = made_index()
    keep = np.ones(len(index), bool)
    for i in range(len(index)):
        enrolled = index.seq_type[i] in ("nm-01", "nm-02", "nm-03", "nm-04")
        keep[i] = not (enrolled and (index.subject[i] == "bert" or index.view[i] == "018")) and i % 11 != 5
    index = index.take(keep)
    return index, made_embeddings(index)


def write_training_log(path: Path) -> Path:
    """Write a train.jsonl with 699 losses, two scores and an incomplete last line."""
    lines = [
        {"iteration": i, "hard_loss_metric": 1 / i, "full_loss_metric": 0.2 / i, "full_loss_num": 900 / i,
         "mean_dist": 1.0, "lr": 1e-4, "hard_or_full": "full", "iterations_per_second": 5.0}
        for i in range(1, 700)
    ]  # fmt: skip
    lines[200:200] = [{"iteration": 200, "rank1": 40.0}, {"iteration": 400, "rank1": 60.0}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"iteration": 7')
    return path
