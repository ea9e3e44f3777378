"""Test the reading and thinning of training logs."""

import pytest
from small_results import write_training_log

from model.common.errors import UserError
from model.report.training_curves import log_of_checkpoint, read_log, thinned


def test_the_log_of_a_checkpoint_is_found_read_and_thinned(tmp_path):
    checkpoint = tmp_path / "checkpoint" / "GaitSet" / "GaitSet_X_1-00200-encoder.ptm"
    folder = tmp_path / "log" / "GaitSet_X_1"
    folder.mkdir(parents=True)
    assert log_of_checkpoint(checkpoint) is None and log_of_checkpoint(tmp_path / "model.onnx") is None
    log = write_training_log(folder / "train.jsonl")
    assert log_of_checkpoint(checkpoint) == log
    assert len(read_log(log)) == 701, "the incomplete line is skipped"
    x, y = thinned(list(range(1000)), [2.0 * i for i in range(1000)])
    assert len(x) <= 300 and y == pytest.approx(2 * x)
    with pytest.raises(UserError, match=r"none\.jsonl: cannot be read as a training log"):
        read_log(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    "line",
    [
        "{}", "[1]", "5", "null", "[" * 100_000, '{"iteration": "x", "rank1": 5}', '{"iteration": 5, "rank1": null}',
        '{"iteration": 5, "rank1": NaN}', '{"iteration": 5, "full_loss_metric": 1}', '{"iteration": 5',
    ],
    ids=lambda line: line[:40],
)  # fmt: skip
def test_a_damaged_line_is_skipped(tmp_path, line):
    log = write_training_log(tmp_path / "train.jsonl")
    before = read_log(log)
    with log.open("a") as file:
        file.write(f"\n{line}\n")
    assert read_log(log) == before
