"""Compare cross-view tables with figures of the original code and with a loop-based implementation."""

import json
from itertools import product

import numpy as np
import pytest
import torch
from people import TAKES, made_embeddings
from scripts import ROOT

from model.common.errors import UserError
from model.data.index import SequenceIndex
from model.evaluation.cross_view import evaluate_index
from model.evaluation.protocols import Protocol, protocol_of
from model.evaluation.result import CrossViewResult
from model.evaluation.streaming import Streaming

VIEWS = [f"{18 * v:03d}" for v in range(11)]
REFERENCE = ROOT / "test/unit/support/reference/evaluator.npz"
Rows = list[tuple[str, str, str]]  # subject, seq_type, view


def grid(subjects: list[str], takes: list[str], views: list[str]) -> Rows:
    return [(s, t, v) for s in subjects for t in takes for v in views]


def index_of(rows: Rows) -> SequenceIndex:
    return SequenceIndex.from_lengths(*map(list, zip(*rows, strict=True)), [1] * len(rows))


def embeddings_of(rows: Rows, seed: int = 0) -> torch.Tensor:
    """Return embeddings scattered around a center per subject, so that rank-1 is between 0 and 100."""
    return made_embeddings(index_of(rows), 1.3, seed, 24).flatten(1)


def evaluated(rows: Rows, embeddings=None, dataset: str = "CASIA-B", ranks: int = 5, **settings) -> CrossViewResult:
    """Evaluate `embeddings`, or `embeddings_of(rows)`, with settings of `Streaming`."""
    embeddings = embeddings_of(rows) if embeddings is None else embeddings
    return evaluate_index(embeddings, index_of(rows), dataset, Streaming(**settings), ranks)


def loop_based_cells(embeddings: torch.Tensor, rows: Rows, protocol: Protocol, ranks: int) -> dict:
    """Return {(condition, probe view, gallery view): (rank-1..k, mAP, probes without a mate)}, computed per probe."""
    x = embeddings.double().flatten(1).numpy()
    cells = {}
    views = {row[2] for row in rows}
    for (condition, wanted), probe_view, gallery_view in product(protocol.probes.items(), views, views):
        probes = [i for i, (_, t, v) in enumerate(rows) if t in wanted and v == probe_view]
        gallery = [i for i, (_, t, v) in enumerate(rows) if t in protocol.gallery and v == gallery_view]
        if not probes or not gallery:
            continue
        hits, precisions, no_mate = np.zeros(ranks), [], 0
        for p in probes:
            near = sorted(gallery, key=lambda g, p=p: float(np.linalg.norm(x[p] - x[g])))
            right = [rows[g][0] == rows[p][0] for g in near]
            hits += [any(right[:k]) for k in range(1, ranks + 1)]
            found = [sum(right[: i + 1]) / (i + 1) for i in range(len(right)) if right[i]]
            precisions.append(np.mean(found) if found else 0.0)
            no_mate += not found
        cells[condition, probe_view, gallery_view] = hits * 100 / len(probes), 100 * np.mean(precisions), no_mate
    return cells


def assert_equals_loops(result: CrossViewResult, embeddings: torch.Tensor, rows: Rows, dataset: str) -> None:
    cells = loop_based_cells(embeddings, rows, protocol_of(dataset), result.ranks)
    for index in np.ndindex(result.average_precision.shape):
        i, j, k = index
        key = result.conditions[i], result.views[j], result.views[k]
        if key not in cells:
            assert np.isnan(result.accuracy[index]).all() and np.isnan(result.average_precision[index])
            continue
        accuracy, mean_precision, no_mate = cells.pop(key)
        np.testing.assert_allclose(result.accuracy[index], accuracy, atol=1e-9)
        assert result.average_precision[index] == pytest.approx(mean_precision, abs=1e-9)
        assert result.without_mate[index] == no_mate
    assert not cells, "cells that are missing from the result"


@pytest.mark.parametrize("probe_chunk", [7, 1024])
def test_result_equals_the_original_code(probe_chunk):
    # evaluator.npz was computed with the original GaitSet code (AbnerHqC/GaitSet, commit 5535943).
    expected = np.load(REFERENCE)
    rng = np.random.default_rng(20190127)
    subject_part = rng.standard_normal((12, 64))
    take_part, view_part = 0.8 * rng.standard_normal((10, 64)), 0.8 * rng.standard_normal((11, 64))
    noise = 1.5 * rng.standard_normal((12, 10, 11, 64))
    embeddings = subject_part[:, None, None] + take_part[:, None] + view_part + noise
    rows = grid([f"{75 + s:03d}" for s in range(12)], TAKES, VIEWS)
    result = evaluated(rows, torch.from_numpy(embeddings.reshape(-1, 64).astype(np.float32)), probe_chunk=probe_chunk)
    assert result.views == tuple(VIEWS)
    np.testing.assert_array_equal(np.round(result.accuracy, 2), expected["accuracy"])
    assert list(result.including().values()) == pytest.approx(expected["rank1_including"].tolist(), abs=1e-10)
    assert list(result.excluding().values()) == pytest.approx(expected["rank1_excluding"].tolist(), abs=1e-10)
    assert not result.notes


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_incomplete_data_and_free_names(seed):
    rng = np.random.default_rng(seed)
    rows = grid(["anna", "Bo", "007", "x y"], [*TAKES, "xx-01"], ["000", "90", "front"])
    rows = [row for row in rows if rng.random() < 0.6]
    rows += [("only-probe", "nm-05", "45"), ("only-gallery", "nm-01", "135")]
    rows = [rows[i] for i in rng.permutation(len(rows))]
    embeddings = embeddings_of(rows, seed)
    result = evaluated(rows, embeddings, probe_chunk=5, ranks=8)
    assert result.views == ("000", "45", "90", "135", "front") and result.ranks == 8
    assert_equals_loops(result, embeddings, rows, "CASIA-B")
    notes = " | ".join(result.notes)
    assert "no gallery sequence in view 45" in notes
    assert "no probe in view" in notes and "135" in notes
    assert "count as wrong" in notes  # subject only-probe has no mate in any view
    assert "xx-01" in notes


@pytest.mark.parametrize(("spread", "warned"), [(0, True), (1e-6, True), (1e-2, False), (1, False)])
def test_collapse_adds_a_warning_to_the_result(spread, warned):
    rows = grid([f"{i:03d}" for i in range(9)], TAKES[:5], ["000", "090"])
    draw = torch.Generator().manual_seed(0)
    embeddings = torch.randn(1, 100, generator=draw) + spread * torch.randn(len(rows), 100, generator=draw)
    assert any("the network has collapsed" in note for note in evaluated(rows, embeddings).notes) is warned


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_a_gallery_of_one_subject_adds_a_note(scale):
    def result_with(*more: Rows) -> CrossViewResult:
        rows.extend(row for added in more for row in added)
        return evaluated(rows, scale * embeddings_of(rows))

    rows = grid(["anna"], ["nm-01", "nm-05", "cl-01"], ["000", "090"])
    result = result_with()
    assert set(result.including().values()) == {100.0}  # also with equal embeddings
    note = "the gallery contains one subject (anna): rank-1 is 100 % for any model"
    assert any(note in text for text in result.notes) and any(note in text for text in result.to_json()["notes"])

    result = result_with(grid(["bert"], ["nm-05"], ["000", "090"]))  # not enrolled
    assert result.including() == {"NM": 50.0, "CL": 100.0}
    assert any("one subject (anna): rank-1 is the same for any model" in text for text in result.notes)

    notes = result_with([("bert", "nm-02", "090")]).notes
    assert any("one subject in the gallery of view 000: " in text for text in notes)
    notes = result_with([("bert", "nm-02", "000")]).notes
    assert not any("one subject" in text for text in notes)


def test_means_skip_missing_cells():
    rows = grid(["a", "b", "c"], ["00", "01"], ["000", "015", "030"])
    rows = [row for row in rows if row[1:] not in {("01", "015"), ("00", "030")}]
    embeddings = embeddings_of(rows, 3)
    result = evaluated(rows, embeddings, "OUMVLP")
    by_loops = loop_based_cells(embeddings, rows, protocol_of("OUMVLP"), 1)
    cells = {key[1:]: value[0][0] for key, value in by_loops.items()}
    assert set(cells) == {("000", "000"), ("000", "030"), ("015", "000"), ("015", "030")}
    assert result.including(rounded=False)["NM"] == pytest.approx(np.mean(list(cells.values())))
    per_view = result.per_probe_view(rounded=False)["NM"]
    mean_of_015 = (cells["015", "000"] + cells["015", "030"]) / 2
    assert per_view == pytest.approx({"000": cells["000", "030"], "015": mean_of_015})
    assert result.excluding(rounded=False)["NM"] == pytest.approx(np.mean(list(per_view.values())))


def test_single_view_has_no_rank_excluding_identical_views():
    rows = grid(["a", "b", "c", "d", "e", "f"], TAKES, ["090"])
    result = evaluated(rows, None, "Synthetic")
    assert_equals_loops(result, embeddings_of(rows), rows, "Synthetic")
    assert np.isfinite(list(result.including().values())).all() and np.isnan(list(result.excluding().values())).all()
    assert json.loads(json.dumps(result.to_json(), allow_nan=False))["rank1"]["NM"]["excluding"] is None


def test_gallery_of_three_clips_the_ranks():
    rows = [*grid(["a", "b", "c"], ["nm-01"], ["000"]), *grid(["a", "b", "c", "z"], ["nm-03"], ["000"])]
    embeddings = embeddings_of(rows)
    result = evaluated(rows, embeddings, "CASIA-A")
    assert_equals_loops(result, embeddings, rows, "CASIA-A")
    # Rank 3 covers the whole gallery. Subject z is not enrolled, so rank-5 stays below 100.
    assert result.accuracy[0, 0, 0, 2:].tolist() == [75, 75, 75]
    assert any("fewer than 5 gallery sequences in view 000 (3)" in note for note in result.notes)


PAIR = grid(["a", "b", "c"], TAKES, ["000", "018"])  # two views


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_error_counts_non_finite_embeddings_and_names_the_first(bad):
    embeddings = embeddings_of(PAIR)
    embeddings[[5, 9], 3] = bad
    with pytest.raises(UserError, match="2 of 60 embeddings are not finite") as error:
        evaluated(PAIR, embeddings)
    assert "/".join(PAIR[5]) in str(error.value) and "\n" not in str(error.value)


def test_large_half_precision_embeddings_do_not_overflow():
    embeddings = embeddings_of(PAIR).half()
    expected, result = evaluated(PAIR, embeddings.float()), evaluated(PAIR, embeddings * 4096)
    np.testing.assert_array_equal(result.accuracy, expected.accuracy)


def test_rank_0_is_rejected():
    with pytest.raises(ValueError, match="ranks must be at least 1, got 0"):
        evaluated(PAIR, ranks=0)


def test_error_names_lengths_that_differ():
    with pytest.raises(ValueError, match="got 20 for 60 sequences"):
        evaluate_index(torch.zeros(20, 3), index_of(PAIR), "CASIA-B")
