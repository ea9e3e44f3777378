"""Compute thresholds and probabilities from measured genuine and impostor distances.

A genuine distance is between two sequences of the same person. An impostor distance is between sequences of two people.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import stdtrit

MIN_PAIRS = 10  # minimum number of genuine distances, and of impostor distances, for the logistic fit
MIN_PEOPLE = 3  # minimum number of people for a threshold; two people form only one pair of different people
# Usual standard deviation of the logarithms of impostor distances, and its weight as a number of degrees of freedom.
# With the bundled encoder, the standard deviation is 0.10 to 0.12 for 100 synthetic walkers, and 0.12 to 0.18 for ten
# real people.
USUAL_SPREAD, USUAL_FREEDOM = 0.15, 4


def threshold_at(impostor: np.ndarray, own: np.ndarray, far: float) -> tuple[float | None, bool]:
    """Return a threshold such that a new impostor distance is below the threshold with the probability `far`.

    The distances of one person are correlated. A quantile of the distances therefore needs about 1 / `far` people, and
    not only 1 / `far` distances. For fewer people, the logarithms of the distances are assumed to have a normal
    distribution. A new value then follows a shifted and scaled Student's t distribution, and the threshold is the
    quantile `far` of this distribution. The effective number of independent distances is between the number of people
    and the number of distances. It is computed from the variance of the means per person. The variance of a few
    distances is very uncertain, so it is averaged with the usual variance.

    Args:
        impostor: distances [n].
        own: for each distance, the id of the person whose sequence was compared with another person's, [n].

    Returns:
        The threshold (None for fewer than MIN_PEOPLE people), and whether the threshold is extrapolated.
    """
    people, place, counts = np.unique(own, return_inverse=True, return_counts=True)
    if len(people) < MIN_PEOPLE:
        return None, False
    if (len(people) + 1) * far >= 1:
        return float(np.sort(impostor)[int((len(impostor) + 1) * far + 1e-9) - 1]), False
    # The distance of equal sequences is 0, whose logarithm would be infinite.
    logs = np.log(np.maximum(impostor, 1e-3 * impostor.mean()))
    means = np.bincount(place, logs) / counts
    effective = np.clip(len(people) * logs.var() / max(means.var(), 1e-12), len(people), len(logs))
    freedom = effective - 1 + USUAL_FREEDOM
    variance = (USUAL_FREEDOM * USUAL_SPREAD**2 + (effective - 1) * logs.var(ddof=1)) / freedom * (1 + 1 / effective)
    return float(np.exp(logs.mean() + stdtrit(freedom, far) * np.sqrt(variance))), True


def logistic_fit(genuine: np.ndarray, impostor: np.ndarray) -> Callable[[float], float | None]:
    """Return a function that maps a distance to the probability that the two sequences show the same person.

    The function returns None if `genuine` or `impostor` has too few distances. Both have the same total weight in the
    fit, so the probability assumes that the same person and different people are equally likely a priori.
    """
    if min(len(genuine), len(impostor)) < MIN_PAIRS:
        return lambda distance: None
    from sklearn.linear_model import LogisticRegression  # slow to import

    values = np.concatenate([genuine, impostor]).astype(np.float64)[:, None]
    scale = values.std() or 1.0
    same = np.repeat([1, 0], [len(genuine), len(impostor)])
    fit = LogisticRegression(class_weight="balanced").fit(values / scale, same)
    return lambda distance: float(fit.predict_proba([[distance / scale]])[0, 1])
