"""Fused distances, thresholds and probabilities against plain computations."""

import numpy as np
import pytest
from enrolled_people import gallery_of
from scipy import stats

from model.identify.matching import MIN_PAIRS, calibrate, fuse, person_distances, threshold_at


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


@pytest.mark.parametrize("far", [0.01, 0.1, 0.33])
def test_threshold_accepts_the_given_share_of_many_distances(far):
    values = np.random.default_rng(3).normal(10, 2, 457)
    threshold, extrapolated = threshold_at(values, np.arange(457), far)
    assert not extrapolated and far - 2 / 457 < (values < threshold).mean() <= far


@pytest.mark.parametrize(("people", "each"), [(3, 1), (5, 6), (10, 6), (40, 3)])
def test_thresholds_of_few_people_accept_about_the_given_share_on_average(people, each):
    """Half of the variance is common to the distances of a person, so quantiles would accept 14 % for five people."""
    rng = np.random.default_rng(people)

    def distances(count: int) -> np.ndarray:
        return np.exp(3 + 0.1 * rng.normal(size=(count, 1)) + 0.1 * rng.normal(size=(count, each)))

    own, accepted = np.repeat(np.arange(people), each), []
    for _ in range(300):
        threshold, extrapolated = threshold_at(distances(people).ravel(), own, 0.05)
        accepted.append((distances(200) < threshold).mean())
        assert extrapolated == (people < 20)
    assert 0.02 < np.mean(accepted) < 0.07


def test_extrapolation_uses_the_effective_number_of_distances():
    values = np.random.default_rng(0).normal(10, 1, 5)
    same = np.repeat(values, 12)  # twelve equal distances per person are five distances
    threshold, extrapolated = threshold_at(same, np.repeat(np.arange(5), 12), 0.05)
    logs = np.log(same)
    spread = np.sqrt((4 * 0.15**2 + 4 * logs.var(ddof=1)) / 8 * (1 + 1 / 5))
    assert extrapolated and threshold == pytest.approx(np.exp(stats.t(8, logs.mean(), spread).ppf(0.05)))
    independent = np.tile(values, 5)  # every person has the same five distances
    spread = np.sqrt((4 * 0.15**2 + 24 * np.log(independent).var(ddof=1)) / 28 * (1 + 1 / 25))
    found = threshold_at(independent, np.repeat(np.arange(5), 5), 0.05)[0]
    assert found == pytest.approx(np.exp(stats.t(28, logs.mean(), spread).ppf(0.05)))
    assert threshold_at(same[:24], np.repeat([0, 1], 12), 0.05) == (None, False), "two people are too few"
    assert 0 < threshold_at(np.array([0, 0, 1e-9]), np.arange(3), 0.05)[0] < 1e-9, "equal sequences have distance 0"


def test_calibration_uses_each_sequence_without_itself(tmp_path):
    gallery = gallery_of(tmp_path, dict.fromkeys("abcdef", 5))
    found = calibrate(gallery, 0.1)
    values = np.concatenate(list(gallery.embeddings()))
    distance = np.linalg.norm(values[:, None] - values[None], axis=2)
    genuine, strangers = [], []  # recomputed from all pairs
    for i, person in enumerate(gallery.person_ids):
        others = [np.sort(distance[i, gallery.person_ids == p])[:3].mean() for p in range(6) if p != person]
        genuine.append(np.sort(np.delete(distance[i], i)[np.delete(gallery.person_ids, i) == person])[:3].mean())
        strangers.append(min(others))
    np.testing.assert_allclose(found.genuine, genuine, rtol=1e-4)
    # Six people compare with five others, a probe with six.
    expected = threshold_at(np.array(strangers), gallery.person_ids, 1 - 0.9 ** (5 / 6))
    assert found.threshold == pytest.approx(expected[0], rel=1e-4) and found.extrapolated == expected[1]
    near, far = found.probability(min(genuine)), found.probability(max(strangers))
    assert near > 0.9 and far < 0.1 and found.probability(0.0) > near


@pytest.mark.parametrize(
    ("people", "messages"),
    [
        ({"a": 4}, ["too few people for a threshold: 1 enrolled, at least 3", "no probabilities"]),
        ({"a": 3, "b": 2}, ["too few people for a threshold: 2 enrolled", "5 comparisons of a person"]),
        ({name: 1 for name in "abc"}, ["with about 100 enrolled people", f"at least {MIN_PAIRS} of each are needed"]),
        ({name: 5 for name in "abcd"}, ["extrapolated from the distances between 4"]),
    ],
)
def test_small_galleries_say_what_they_cannot_decide(tmp_path, people, messages):
    found = calibrate(gallery_of(tmp_path, people), 0.01)
    assert (found.threshold is None) == (len(people) < 3) == (found.pair_threshold is None)
    assert (found.probability(1.0) is None) == (len(messages) == 2)
    for note, message in zip(found.notes(), messages, strict=True):
        assert message in note
