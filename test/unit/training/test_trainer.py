"""Training: exact resuming after a stop or a kill, kept checkpoints, and messages."""

import itertools
import json
import math
import signal
import sys
from pathlib import Path

import pytest
from training_runs import TOTAL, files_of, log_points, same, stop_at, train, weights

from model.common.errors import UserError
from model.common.json_files import read_json


@pytest.fixture(scope="module")
def unbroken(aligned_tree, tmp_path_factory):
    """An uninterrupted run."""
    work = tmp_path_factory.mktemp("unbroken")
    assert train(aligned_tree, work) == 0
    return work


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_and_resumed_run_equals_an_uninterrupted_run(aligned_tree, unbroken, tmp_path, monkeypatch, number):
    with monkeypatch.context() as patch:
        stop_at(patch, 5, number)
        assert train(aligned_tree, tmp_path) == 128 + number
    assert files_of(tmp_path).last_complete() == 5
    assert train(aligned_tree, tmp_path, "--restore_iter", -1) == 0
    assert same(weights(tmp_path), weights(unbroken))
    lines = [log_points(work) for work in (tmp_path, unbroken)]
    for point in (point for points in lines for point in points):
        del point["iterations_per_second"]
    assert lines[0] == lines[1]  # including the mean losses of the log interval in which the run was stopped
    assert [point["skipped"] for point in lines[1]] == [0, 0, 0, 0], "no step is skipped in float32"


def test_resuming_with_prefetching_equals_resuming_without(aligned_tree, unbroken, tmp_path):
    train(aligned_tree, tmp_path, "--iters", 3, "--num_workers", 0)
    train(aligned_tree, tmp_path, "--restore_iter", 3, "--num_workers", 4, "--cache", False)
    assert same(weights(tmp_path), weights(unbroken))


def test_resumed_run_with_all_options_equals_an_uninterrupted_run(aligned_tree, tmp_path, monkeypatch):
    """The options train a classifier, which is part of the state, and decrease the learning rate along a cosine."""
    options = "--cross_entropy", 0.5, "--schedule", "cosine", "--sampler", "views", "--log_iter", 1
    assert train(aligned_tree, tmp_path / "a", *options) == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 3, signal.SIGTERM)
        assert train(aligned_tree, tmp_path / "b", *options) == 128 + signal.SIGTERM
    assert train(aligned_tree, tmp_path / "b", *options, "--restore_iter", -1) == 0
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    rates = [point["lr"] for point in log_points(tmp_path / "a")]
    assert rates == [1e-4 * (1 + math.cos(math.pi * number / 8)) / 2 for number in range(8)]


def test_another_seed_gives_other_weights_and_keep_keeps_more_checkpoints(aligned_tree, unbroken, tmp_path):
    train(aligned_tree, tmp_path, "--seed", 1, "--keep", 1)
    assert not same(weights(tmp_path), weights(unbroken))
    assert files_of(unbroken).iterations() == [TOTAL] and files_of(tmp_path).iterations() == [6, TOTAL]


def test_best_checkpoint_is_kept_and_evaluation_changes_no_weights(aligned_tree, unbroken, tmp_path, monkeypatch):
    scores = iter([40.0, 90.0, 50.0, 60.0])
    monkeypatch.setattr("model.training.builder.selection_score", lambda result: next(scores))
    train(aligned_tree, tmp_path, "--eval_iter", 2)
    assert files_of(tmp_path).iterations() == [4, TOTAL]
    assert json.loads(files_of(tmp_path).metadata(TOTAL).read_text())["best"] == [90.0, 4]
    assert same(weights(tmp_path), weights(unbroken))


@pytest.mark.parametrize("killed_again", [False, True])
def test_resume_runs_the_missed_evaluation(aligned_tree, tmp_path, monkeypatch, killed_again):
    """Without this evaluation, the best checkpoint could be deleted, unlike in an uninterrupted run."""
    monkeypatch.setattr("model.training.builder.selection_score", lambda result: next(scores))
    scores = iter([40.0, 90.0, 50.0, 60.0])
    assert train(aligned_tree, tmp_path / "undisturbed", "--eval_iter", 2) == 0
    work, scores = tmp_path / "stopped", iter([40.0, *[90.0] * (1 + killed_again), 50.0, 60.0])
    with monkeypatch.context() as patch:
        stop_at(patch, 4, signal.SIGTERM)
        assert train(aligned_tree, work, "--eval_iter", 2) == 128 + signal.SIGTERM
    if killed_again:
        with monkeypatch.context() as patch:
            patch.setattr("model.checkpoints.retention.RunCheckpoints.update_metadata", lambda *_, **__: sys.exit(9))
            with pytest.raises(SystemExit):
                train(aligned_tree, work, "--eval_iter", 2, "--restore_iter", "auto")
    assert train(aligned_tree, work, "--eval_iter", 2, "--restore_iter", "auto") == 0
    assert files_of(work).iterations() == [4, TOTAL]
    for iteration in (4, TOTAL):
        records = [read_json(files_of(w).metadata(iteration), sealed=True) for w in (tmp_path / "undisturbed", work)]
        assert [r["best"] for r in records] == [[90.0, 4]] * 2
        assert [r["evaluated"] for r in records] == [iteration] * 2
    assert [point["rank1"] for point in log_points(work) if "rank1" in point] == [40, 90, 50, 60]


def test_training_resumes_from_the_two_published_files(aligned_tree, unbroken, tmp_path, capsys):
    train(aligned_tree, tmp_path, "--iters", 4)
    files = files_of(tmp_path)
    for path in (files.part(4, "state"), files.metadata(4)):
        path.unlink()
    assert train(aligned_tree, tmp_path, "--restore_iter", 4) == 0
    assert "the checkpoint is not complete" in capsys.readouterr().out
    assert same(weights(tmp_path), weights(unbroken))  # batches depend on the iteration alone


def test_one_command_starts_resumes_and_ends_the_training(aligned_tree, unbroken, tmp_path, monkeypatch, capsys):
    """With `auto`, the same command works for the first start and for every restart."""
    with monkeypatch.context() as patch:
        stop_at(patch, 5, signal.SIGTERM)
        assert train(aligned_tree, tmp_path, "--restore_iter", "auto") == 128 + signal.SIGTERM
    for said in ("resuming from iteration 5", "nothing to do: iteration 8"):
        assert train(aligned_tree, tmp_path, "--restore_iter", "auto") == 0
        printed = capsys.readouterr().out
        assert said in printed
    assert "--iters" in printed and "wrote" not in printed and "iterations/s" not in printed
    assert same(weights(tmp_path), weights(unbroken))


def test_resume_without_a_checkpoint_is_rejected(aligned_tree, tmp_path):
    with pytest.raises(UserError, match="no complete checkpoint"):
        train(aligned_tree, tmp_path, "--restore_iter", -1)


def test_resume_from_an_earlier_iteration_keeps_later_checkpoints(aligned_tree, tmp_path):
    train(aligned_tree, tmp_path, "--iters", 6, "--save_iter", 2, "--keep", 10)
    train(aligned_tree, tmp_path, "--iters", 3, "--save_iter", 2, "--keep", 10, "--restore_iter", 2)
    assert files_of(tmp_path).iterations() == [2, 3, 4, 6]


def test_last_checkpoint_is_the_newest_and_not_the_highest_iteration(aligned_tree, tmp_path):
    """The second run of the same experiment is shorter than the first run and keeps its later checkpoints."""
    train(aligned_tree, tmp_path, "--iters", 6)
    train(aligned_tree, tmp_path, "--iters", 2, "--seed", 5)
    assert files_of(tmp_path).iterations() == [2, 6] and files_of(tmp_path).last_complete() == 2
    train(aligned_tree, tmp_path, "--iters", 4, "--seed", 5, "--restore_iter", -1)
    assert files_of(tmp_path).last_complete() == 4
    train(aligned_tree, tmp_path / "b", "--iters", 4, "--seed", 5)
    assert same(weights(tmp_path, 4), weights(tmp_path / "b", 4))


@pytest.mark.parametrize(("keep", "expected"), [(0, [6]), (1, [5, 6]), (3, [3, 4, 5, 6]), (9, [1, 2, 3, 4, 5, 6])])
def test_number_of_kept_checkpoints_is_configured(aligned_tree, tmp_path, keep, expected):
    train(aligned_tree, tmp_path, "--iters", 6, "--save_iter", 1, "--keep", keep)
    assert files_of(tmp_path).iterations() == expected


@pytest.mark.parametrize("deleted", [1, 2, 3])
def test_kill_during_a_deletion_leaves_no_part_of_it(aligned_tree, unbroken, tmp_path, monkeypatch, deleted):
    """The run is killed while it deletes the previous checkpoint, and writes nothing after the kill."""
    with monkeypatch.context() as patch:
        unlink, count = Path.unlink, itertools.count(1)

        def killed(self, missing_ok=False):
            if self.name.startswith("GaitSet_") and "-00006" in self.name and next(count) > deleted:
                raise KeyboardInterrupt
            unlink(self, missing_ok)

        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            train(aligned_tree, tmp_path)
    folder = files_of(tmp_path).folder
    other = folder / "GaitSet_Other-00006-optimizer.ptm"
    other.touch()
    assert len(list(folder.glob("*-00006*"))) == 5 - deleted
    assert train(aligned_tree, tmp_path, "--restore_iter", "auto") == 0
    assert other.exists()
    other.unlink()
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in files_of(unbroken).folder.iterdir())


def test_data_that_cannot_be_evaluated_are_reported_before_training(aligned_tree, tmp_path):
    with pytest.raises(UserError, match=r"OUMVLP|01"):
        train(aligned_tree, tmp_path, "--dataset", "OUMVLP", "--eval_iter", 4)
    assert not list(tmp_path.glob("checkpoint/*/*"))
