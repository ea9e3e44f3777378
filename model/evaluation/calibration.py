"""Thresholds and probabilities from genuine distances (of one person) and impostor distances (of different people)."""

from collections.abc import Callable

import numpy as np
from scipy.special import stdtrit

MIN_PAIRS = 10  # genuine or impostor distances that the logistic fit needs at least
MIN_PEOPLE = 3  # minimum for a threshold: two people have only one distance between them
# Standard deviation of the logarithm of impostor distances, and the number of degrees of freedom that it counts for.
# With the bundled encoder, the spread is 0.10 to 0.12 for 100 synthetic walkers, and 0.12 to 0.18 for ten real people.
USUAL_SPREAD, USUAL_FREEDOM = 0.15, 4


def threshold_at(impostor: np.ndarray, own: np.ndarray, far: float) -> tuple[float | None, bool]:
    """Return a threshold below which a further impostor distance is with the probability `far`.

    Distances of the same person resemble each other, so a quantile of the distances needs about 1 / `far` people. For
    fewer people, the logarithms of the distances are assumed to be normal. A further value of a normal sample follows a
    shifted and scaled Student's distribution, and the threshold is a quantile of it. The effective number of distances
    is between the number of people and the number of distances; it follows from the variance of the means per person.
    The variance of the distances is combined with the usual one, because that of a few distances is very uncertain.

    Args:
        impostor: distances [n].
        own: number of the person [n] whose sequence was compared.

    Returns:
        The threshold, None for fewer than MIN_PEOPLE people, and whether it is extrapolated.
    """
    people, place, counts = np.unique(own, return_inverse=True, return_counts=True)
    if len(people) < MIN_PEOPLE:
        return None, False
    if (len(people) + 1) * far >= 1:
        return float(np.sort(impostor)[int((len(impostor) + 1) * far + 1e-9) - 1]), False
    logs = np.log(np.maximum(impostor, 1e-3 * impostor.mean()))  # equal sequences have the distance 0
    means = np.bincount(place, logs) / counts
    effective = np.clip(len(people) * logs.var() / max(means.var(), 1e-12), len(people), len(logs))
    freedom = effective - 1 + USUAL_FREEDOM
    variance = (USUAL_FREEDOM * USUAL_SPREAD**2 + (effective - 1) * logs.var(ddof=1)) / freedom * (1 + 1 / effective)
    return float(np.exp(logs.mean() + stdtrit(freedom, far) * np.sqrt(variance))), True


def logistic_fit(genuine: np.ndarray, impostor: np.ndarray) -> Callable[[float], float | None]:
    """Return a function from a distance to the probability that both sequences show the same person.

    The function returns None if there are too few distances. Genuine and impostor distances have the same total weight,
    so the same person and different people are equally likely a priori.
    """
    if min(len(genuine), len(impostor)) < MIN_PAIRS:
        return lambda distance: None
    from sklearn.linear_model import LogisticRegression  # slow to import

    values = np.concatenate([genuine, impostor]).astype(np.float64)[:, None]
    scale = values.std() or 1.0
    same = np.repeat([1, 0], [len(genuine), len(impostor)])
    fit = LogisticRegression(class_weight="balanced").fit(values / scale, same)
    return lambda distance: float(fit.predict_proba([[distance / scale]])[0, 1])
