"""The cross entropy of the classifier of the training subjects, and resuming a run that uses it."""

import math
import signal

import torch
from training_runs import log_points, same, stop_at, train, weights

from model.training.classifier import SCALE, SMOOTHING, Classifier

LABELS = torch.tensor([0, 0, 2, 2])


def test_cross_entropy_equals_that_of_plain_loops():
    embeddings = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1))
    ours, losses = Classifier(3, 5, 4).requires_grad_(False), []
    for strip in range(3):
        mean, variance = embeddings[:, strip].mean(0), embeddings[:, strip].var(0, unbiased=False)
        for embedding, label in zip((embeddings[:, strip] - mean) / (variance + 1e-5).sqrt(), LABELS, strict=True):
            columns = ours.weight[strip].T
            cosines = [float(embedding @ column / embedding.norm() / column.norm()) for column in columns]
            total = math.log(sum(math.exp(SCALE * cosine) for cosine in cosines))
            wanted = [SMOOTHING / 4 + (1 - SMOOTHING) * (number == label) for number in range(4)]
            losses.append(sum(w * (total - SCALE * cosine) for w, cosine in zip(wanted, cosines, strict=True)))
    assert torch.isclose(ours(embeddings, LABELS), torch.tensor(losses).mean())


def test_resumed_run_with_all_options_equals_an_uninterrupted_run(aligned_tree, tmp_path, monkeypatch):
    """The classifier is part of the state, and the learning rate falls along a cosine to 0."""
    options = "--cross_entropy", 0.5, "--schedule", "cosine", "--sampler", "views", "--log_iter", 1
    assert train(aligned_tree, tmp_path / "a", *options) == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 3, signal.SIGTERM)
        assert train(aligned_tree, tmp_path / "b", *options) == 128 + signal.SIGTERM
    assert train(aligned_tree, tmp_path / "b", *options, "--restore_iter", -1) == 0
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    rates = [point["lr"] for point in log_points(tmp_path / "a")]
    assert rates == [1e-4 * (1 + math.cos(math.pi * number / 8)) / 2 for number in range(8)]
