"""Compare fused distances, thresholds and probabilities with simple computations from all pairs."""

import numpy as np
import pytest
from enrolled_people import gallery_of

from model.evaluation.calibration import MIN_PAIRS, threshold_at
from model.identify import matching
from model.identify.matching import calibrate, fuse, person_distances


def test_fused_distance_is_the_mean_of_the_best_three():
    rng = np.random.default_rng(0)
    ids = np.array([2, 0, 0, 2, 0, 0, 2, 3])  # person 1 has no sequence
    distance = rng.random((5, 8)).astype(np.float32)
    distance[0, 7] = np.inf  # excluded
    distance[1, 1] = distance[1, 2]  # a tie
    for row in distance:
        fused = fuse(row, ids, 4)
        for person in range(4):
            own = np.sort(row[(ids == person) & np.isfinite(row)])[:3]
            assert fused.distance[person] == pytest.approx(own.mean() if len(own) else np.inf)
            if len(own):
                assert ids[fused.row[person]] == person and row[fused.row[person]] == own[0]
        assert fuse(row, ids, 4, best=1).distance[0] == row[ids == 0].min()


def test_memory_limit_does_not_change_the_distances(tmp_path):
    gallery = gallery_of(tmp_path, {"a": 4, "b": 7, "c": 1})
    probes = np.random.default_rng(1).normal(0, 3, (7, 62)).astype(np.float32)
    whole = np.stack([found.distance for found in person_distances(probes, gallery)])
    two_together = person_distances(probes, gallery, memory=2 * 4 * len(gallery))
    np.testing.assert_allclose(np.stack([found.distance for found in two_together]), whole, rtol=1e-5)
    expected = np.linalg.norm(probes[:, None] - np.concatenate(list(gallery.embeddings()))[None], axis=2)
    np.testing.assert_allclose(whole[:, 2], expected[:, gallery.person_ids == 2][:, 0], rtol=1e-4)


def test_calibration_uses_each_sequence_without_itself(tmp_path):
    gallery = gallery_of(tmp_path, dict.fromkeys("abcdef", 5))
    found, _ = calibrate(gallery, 0.1)
    values = np.concatenate(list(gallery.embeddings()))
    distance = np.linalg.norm(values[:, None] - values[None], axis=2)
    genuine, strangers = [], []  # recomputed from all pairs
    for i, person in enumerate(gallery.person_ids):
        others = [np.sort(distance[i, gallery.person_ids == p])[:3].mean() for p in range(6) if p != person]
        genuine.append(np.sort(np.delete(distance[i], i)[np.delete(gallery.person_ids, i) == person])[:3].mean())
        strangers.append(min(others))
    np.testing.assert_allclose(found.genuine, genuine, rtol=1e-4)
    # A sequence of the gallery is compared with five other people, and a probe is compared with six people.
    expected = threshold_at(np.array(strangers), gallery.person_ids, 1 - 0.9 ** (5 / 6))
    assert found.threshold == pytest.approx(expected[0], rel=1e-4) and found.extrapolated == expected[1]
    near, far = found.probability(min(genuine)), found.probability(max(strangers))
    assert near > 0.9 and far < 0.1 and found.probability(0.0) > near


def test_a_large_gallery_is_read_once_for_a_limited_calibration_and_the_probes(tmp_path, monkeypatch):
    monkeypatch.setattr(matching, "MAX_CALIBRATION_PROBES", 9)
    gallery, reads, read = gallery_of(tmp_path, dict.fromkeys("abcdef", 5)), [], matching.Gallery.embeddings
    monkeypatch.setattr(matching.Gallery, "embeddings", lambda self: reads.append(self) or read(self))
    probes = np.random.default_rng(2).normal(0, 3, (4, 62)).astype(np.float32)
    calibration, distances = calibrate(gallery, 0.1, probes=probes)
    found = np.stack([of_probe.distance for of_probe in distances])
    assert len(calibration.genuine) == 9 and len(reads) == 1
    alone = np.stack([of_probe.distance for of_probe in person_distances(probes, gallery)])
    np.testing.assert_allclose(found, alone, rtol=1e-5)


@pytest.mark.parametrize(
    ("people", "messages"),
    [
        ({"a": 4}, ["a threshold needs at least 3 enrolled people, and the gallery has 1", "no probabilities"]),
        ({"a": 3, "b": 2}, ["the gallery has 2; enrol more people", "5 distances within a person and 5 distances"]),
        (
            {name: 1 for name in "abc"},
            ["about 100 enrolled people are needed", f"at least {MIN_PAIRS} of each are needed"],
        ),
        ({name: 5 for name in "abcd"}, ["an estimate from the distances between 4 people"]),
    ],
)
def test_small_galleries_say_what_they_cannot_decide(tmp_path, people, messages):
    found, _ = calibrate(gallery_of(tmp_path, people), 0.01)
    assert (found.threshold is None) == (len(people) < 3) == (found.pair_threshold is None)
    assert (found.probability(1.0) is None) == (len(messages) == 2)
    for note, message in zip(found.notes(), messages, strict=True):
        assert message in note
