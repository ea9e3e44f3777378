"""NaN and Inf in the loss, gradients, Adam's state and embeddings are found at the next log point, and the last finite
state is saved."""

import itertools

import pytest
import torch
from training_runs import FP16, arguments, files_of, log_points, overflow_at, same, torchrun, train, weights

from model.checkpoints.loading import load_tensors
from model.common.errors import UserError
from model.network import GaitSet
from model.training.state import all_finite

REASON = "the loss, a weight or Adam's state is not a finite number"
BAD = {"NaN": torch.nan, "Inf": torch.inf, "-Inf": -torch.inf}


def small_network(monkeypatch, at=0, place="embedding", value=torch.nan):
    """Replace the network by a faster one. In iteration `at`, counted from 1, a number at `place` becomes `value`."""
    calls = itertools.count(1)

    def forward(self, sils, ends):
        now = next(calls) == at
        pixels = torch.stack([sils[a:b].float().mean() for a, b in itertools.pairwise(ends)])[:, None, None] / 255
        weight = torch.stack([parameter.flatten()[0] + 1 for parameter in self.parameters()])
        embeddings = 0.1 * pixels * weight.expand(62, -1)  # embeddings close enough to each other for a loss above 0
        if now and place == "embedding":
            embeddings = torch.where(torch.arange(embeddings.shape[0])[:, None, None] == 1, value, embeddings)
        if now and place == "all embeddings":
            embeddings = embeddings * 0 + value
        if now and place == "gradient":
            embeddings.register_hook(lambda gradient: gradient * value)
        if now and place == "large gradient":  # its square is infinite, so Adam would never change the weight again
            embeddings.register_hook(lambda gradient: gradient * 1e25)
        if now and place == "weight":
            with torch.no_grad():
                next(self.parameters()).flatten()[3] = value
        return embeddings

    monkeypatch.setattr(GaitSet, "forward", forward)


def optimizer_of(work, iteration):
    state = load_tensors(files_of(work).part(iteration, "optimizer"))["state"]
    return {f"{i}.{key}": value for i, values in state.items() for key, value in values.items()}


@pytest.fixture(scope="module")
def undisturbed(aligned_tree, tmp_path_factory):
    work = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        small_network(patch)
        train(aligned_tree, work, "--iters", 12, "--log_iter", 2, "--save_iter", 2, "--keep", 9)
    return work


CASES = [
    ("embedding", "NaN"), ("embedding", "-Inf"), ("all embeddings", "NaN"), ("gradient", "NaN"), ("gradient", "Inf"),
    ("large gradient", "Inf"), ("weight", "NaN"),
]  # fmt: skip


@pytest.mark.parametrize("at", [5, 6])
@pytest.mark.parametrize(("place", "name"), CASES)
def test_non_finite_numbers_are_found_at_the_next_log_point_and_the_state_before_them_is_saved(
    aligned_tree, undisturbed, tmp_path, monkeypatch, place, name, at
):
    """The distance of log points is shorter than the distance of checkpoints. If the saved state is resumed and all
    numbers stay finite, the run ends with the weights of an undisturbed run."""
    run = ("--iters", 12, "--log_iter", 2, "--save_iter", 100)
    found = at + at % 2
    with monkeypatch.context() as patch:
        small_network(patch, at, place, BAD[name])
        with pytest.raises(UserError) as caught:
            train(aligned_tree, tmp_path, *run)
    assert str(caught.value) == (
        f"iteration {found}: {REASON}; the state of iteration {found - 2} is saved: resume with --restore_iter -1 and "
        "use a lower learning rate or --amp off"
    )
    assert files_of(tmp_path).iterations() == [found - 2] and files_of(tmp_path).complete_metadata(found - 2)
    assert same(weights(tmp_path, found - 2), weights(undisturbed, found - 2))
    assert same(optimizer_of(tmp_path, found - 2), optimizer_of(undisturbed, found - 2))
    small_network(monkeypatch)
    train(aligned_tree, tmp_path, *run, "--restore_iter", -1)
    assert same(weights(tmp_path, 12), weights(undisturbed, 12))
    assert same(optimizer_of(tmp_path, 12), optimizer_of(undisturbed, 12))


def test_nothing_is_saved_before_the_first_log_point(aligned_tree, tmp_path, monkeypatch):
    small_network(monkeypatch, at=1)
    with pytest.raises(UserError, match=rf"^iteration 2: {REASON}; no earlier state is saved: start again and use a l"):
        train(aligned_tree, tmp_path)
    assert files_of(tmp_path).iterations() == []


def test_training_resumes_from_a_checkpoint_after_the_log_point(aligned_tree, tmp_path, monkeypatch):
    small_network(monkeypatch, at=8)
    with pytest.raises(UserError, match=r"iteration 9: .* the state of iteration 7 is saved"):
        train(aligned_tree, tmp_path, "--iters", 20, "--log_iter", 3, "--save_iter", 7)
    assert files_of(tmp_path).iterations() == [7]


def test_no_checkpoint_with_non_finite_numbers_is_written_between_log_points(aligned_tree, tmp_path, monkeypatch):
    small_network(monkeypatch, at=4, place="gradient")
    with pytest.raises(UserError, match=r"iteration 5: .* the state of iteration 3 is saved"):
        train(aligned_tree, tmp_path, "--iters", 20, "--log_iter", 3, "--save_iter", 5)
    assert files_of(tmp_path).iterations() == [3]


@pytest.mark.parametrize("name", BAD)
def test_non_finite_embeddings_end_the_training_and_its_state_is_saved(aligned_tree, tmp_path, monkeypatch, name):
    small_network(monkeypatch)
    monkeypatch.setattr(GaitSet, "embed", lambda self, *maps: torch.full((len(maps[0]), 62, 8), BAD[name]))
    expected = (
        r"iteration 4: .*20 of 20 embeddings are not finite .* iteration 4 is saved: resume with --restore_iter -1$"
    )
    with pytest.raises(UserError, match=expected):
        train(aligned_tree, tmp_path, "--eval_iter", 4, "--save_iter", 100)
    assert files_of(tmp_path).last_complete() == 4


def test_resume_repeats_an_evaluation_after_the_last_finite_state(aligned_tree, tmp_path, monkeypatch):
    """The evaluation of iteration 6 is later than the saved state of iteration 4, so the resumed run repeats it."""
    run = ("--iters", 9, "--log_iter", 4, "--save_iter", 100, "--eval_iter", 3)
    scores = iter([90.0, 40.0, 50.0, 60.0])
    monkeypatch.setattr("model.training.builder.selection_score", lambda result: next(scores))
    small_network(monkeypatch, at=7)
    with pytest.raises(UserError, match=r"iteration 8: .* the state of iteration 4 is saved"):
        train(aligned_tree, tmp_path, *run)
    small_network(monkeypatch)
    train(aligned_tree, tmp_path, *run, "--restore_iter", -1)
    found = [(point["iteration"], point["rank1"]) for point in log_points(tmp_path) if "rank1" in point]
    assert found == [(3, 90.0), (6, 50.0), (9, 60.0)]


def test_resume_leaves_out_a_failed_evaluation_after_the_saved_state(aligned_tree, tmp_path, monkeypatch):
    """The evaluation of iteration 4 fails after the saved state of iteration 3. The resumed run does not fail again."""
    run = ("--iters", 5, "--log_iter", 3, "--save_iter", 100, "--eval_iter", 4)
    small_network(monkeypatch)
    monkeypatch.setattr(GaitSet, "embed", lambda self, *maps: torch.full((len(maps[0]), 62, 8), torch.nan))
    with pytest.raises(UserError, match=r"iteration 4: .* the state of iteration 3 is saved"):
        train(aligned_tree, tmp_path, *run)
    train(aligned_tree, tmp_path, *run, "--restore_iter", -1)
    assert files_of(tmp_path).last_complete() == 5


def test_performance_run_writes_no_checkpoint_after_an_error(aligned_tree, tmp_path, monkeypatch):
    small_network(monkeypatch, at=5)
    with pytest.raises(UserError, match="not a finite number"):
        train(aligned_tree, tmp_path, "--performance")
    assert not (tmp_path / "checkpoint").exists()


def test_only_skipped_steps_end_the_training_and_its_state_is_saved(aligned_tree, tmp_path, monkeypatch):
    """Four skipped steps in a row are an error. A successful step restarts the count of skipped steps."""
    monkeypatch.setattr("model.training.progress.ALL_SKIPPED", 4)
    overflow_at(monkeypatch, (1, 2, *range(4, 100)))
    reason = r"^iteration 8: the last 4 steps were all skipped .* iteration 6 is saved.*--amp off$"
    with pytest.raises(UserError, match=reason):
        train(aligned_tree, tmp_path, *FP16, "--iters", 100, "--save_iter", 100, "--log_iter", 2)
    assert [point["skipped"] for point in log_points(tmp_path)] == [2, 1, 2, 2]
    assert all_finite(weights(tmp_path, 6))


def test_all_finite_checks_nested_values():
    good = {"a": [torch.ones(2), (torch.zeros(3, dtype=torch.int64), 5, "x")], "b": None}
    assert all_finite(good) and all_finite({})
    for value in BAD.values():
        assert not all_finite({**good, "c": [torch.tensor([1.0, value])]})
        assert not all_finite([torch.ones(1), torch.tensor(value, dtype=torch.float16)])


@pytest.mark.slow
def test_non_finite_loss_in_one_of_two_processes_ends_both_with_one_line(aligned_tree, tmp_path):
    """At this learning rate the weights overflow. The processes have different frames and the same weights."""
    options = arguments(aligned_tree, tmp_path, "--iters", 50, "--lr", 1e30, "--save_iter", 50)
    done = torchrun(2, "train.py", *options)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "not a finite number" in lines[0], done.stderr
