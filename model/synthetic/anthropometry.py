"""Draw the stature and mass of people by sex, and the body measures that depend on stature and mass.

Shapes: b people. Every measure other than stature and mass is the typical value of the sex, multiplied by a power of
the stature, by a power of the mass (girths only) and by a personal deviation. A few factors correlate the deviations of
one person.

Sources:

- Girths, breadths and depths (`_GIRTHS`): we fitted them to the 507 adults (247 men, 260 women) of Heinz, Peterson,
  Johnson and Kerk (Exploring Relationships in Body Dimensions, Journal of Statistics Education 11(2), 2003). Within
  each sex, the logarithm of each measure was regressed on the logarithms of stature and mass. The residuals were then
  described by four factors (factor analysis, varimax). The root mean square error of the correlations is 0.06.
- Lengths and heads (`_LENGTHS`): our means are between the means of Chinese adults (GB/T 10000-1988, tables 1 to 6) and
  the means of ANSUR II (Gordon et al. 2014, NATICK/TR-15/007). Joints are placed after Drillis and Contini (1966). The
  standard deviations are from ANSUR II, among people of equal stature. The loadings on the factor `limbs` are our own
  judgement.
- Population: GB/T 10000-1988 gives 1.678 m (standard deviation 0.058 m) and 59 kg for men, 1.570 m (0.053 m) and 52 kg
  for women. Young adults of today are 3 to 4 cm taller. The walkers represent a mixed population. Our means are
  therefore between the Chinese means and the means of ANSUR II, and our spread is larger than the Chinese spread.
"""

import torch
from torch import Tensor

from model.synthetic.scaled_draws import ScaledDraws

WOMEN = 0.4  # fraction of all subjects; in CASIA-B, 31 of 124 subjects are women
STATURE = {"male": (1.715, 0.066), "female": (1.600, 0.062)}  # mean and standard deviation in metres
BODY_MASS_INDEX = {"male": (22.3, 0.130), "female": (20.9, 0.135)}  # median in kg/m2, standard deviation of the log
# Stature (m) and mass (kg) of the typical man and the typical woman of `_GIRTHS`.
_REFERENCE = {"male": (1.776, 77.4), "female": (1.647, 59.9)}
# Columns: value of the typical man and the typical woman in metres; exponents of stature and mass; standard deviation
# of the logarithm of the personal deviation; loadings on four factors: muscular arms, thick legs with a small belly,
# wide hips with a wide lower belly, and a broad upper trunk.
_GIRTHS = {
    "biacromial": (0.4119, 0.3646, 0.40, 0.11, 0.042, (0.03, 0.14, -0.03, 0.58)),
    "bitrochanteric": (0.3247, 0.3139, 0.18, 0.27, 0.045, (-0.13, 0.13, 0.49, 0.18)),
    "chest_depth": (0.2070, 0.1764, -0.35, 0.51, 0.076, (-0.01, -0.27, 0.05, -0.06)),
    "chest_breadth": (0.2988, 0.2604, -0.13, 0.35, 0.051, (0.08, -0.07, -0.07, 0.59)),
    "shoulder_girth": (1.1632, 1.0010, -0.19, 0.35, 0.037, (0.36, -0.11, -0.17, 0.47)),
    "waist_girth": (0.8409, 0.6942, -0.79, 0.70, 0.051, (-0.25, -0.52, 0.26, 0.10)),
    "navel_girth": (0.8727, 0.8318, -0.49, 0.65, 0.064, (-0.07, -0.46, 0.52, -0.04)),
    "hip_girth": (0.9757, 0.9541, -0.26, 0.46, 0.029, (-0.11, 0.04, 0.80, -0.11)),
    "thigh_girth": (0.5634, 0.5701, -0.43, 0.50, 0.041, (0.06, 0.33, 0.22, -0.29)),
    "biceps_girth": (0.3427, 0.2797, -0.65, 0.58, 0.054, (0.83, -0.11, -0.03, -0.02)),
    "forearm_girth": (0.2818, 0.2370, -0.28, 0.40, 0.041, (0.82, 0.20, -0.13, 0.08)),
    "knee_girth": (0.3713, 0.3517, 0.03, 0.36, 0.040, (0.01, 0.54, 0.16, -0.03)),
    "calf_girth": (0.3711, 0.3491, -0.21, 0.41, 0.048, (0.03, 0.70, 0.02, 0.02)),
    "ankle_girth": (0.2310, 0.2116, 0.02, 0.32, 0.054, (0.13, 0.47, 0.14, 0.13)),
    "wrist_girth": (0.1717, 0.1504, 0.05, 0.24, 0.041, (0.50, 0.28, -0.02, 0.24)),
    # Necks are from ANSUR II: 398 mm for men of 85.5 kg, 330 mm for women of 67.8 kg.
    "neck_girth": (0.3880, 0.3180, -0.20, 0.35, 0.040, (0.40, 0.10, -0.05, 0.15)),
}
# Columns: fraction of the stature for men and for women; exponent of the stature; standard deviation of the logarithm
# of the personal deviation; loading on the factor `limbs`.
_LENGTHS = {
    "hip_height": (0.518, 0.513, 1.0, 0.022, 0.60),  # height of the hip joint
    "acromion_height": (0.817, 0.813, 1.0, 0.010, 0.00),
    "thigh_share": (0.496, 0.496, 0.0, 0.018, 0.00),  # thigh / distance from ankle to hip joint
    "ankle_height": (0.040, 0.039, 1.0, 0.050, 0.10),
    "upper_arm": (0.162, 0.161, 1.0, 0.029, 0.60),  # from the shoulder joint, which is below the acromion
    "forearm": (0.146, 0.142, 1.0, 0.034, 0.65),
    "hand": (0.109, 0.109, 1.0, 0.036, 0.60),
    "foot": (0.150, 0.148, 1.0, 0.034, 0.50),
    "hip_joints": (0.096, 0.104, 0.8, 0.050, 0.00),  # distance between the two hip joints
    "head_length": (0.1090, 0.1115, 0.3, 0.034, 0.00),  # 187 mm for men, 178 mm for women
    "head_breadth": (0.0900, 0.0938, 0.3, 0.035, 0.00),  # 154 mm for men, 150 mm for women
    "head_height": (0.1308, 0.1356, 0.3, 0.042, 0.00),  # chin to vertex: 224 mm for men, 217 mm for women
}


def draw_stature_and_mass(draws: ScaledDraws, female: Tensor) -> tuple[Tensor, Tensor]:
    """Return stature in metres and mass in kilograms, [b] each.

    The mass grows with the square of the stature. The correlation of their logarithms is about 0.5.
    """
    mean, sd = by_sex(female, STATURE)
    stature = draws.normal("stature", mean, sd).clamp(1.42, 2.02)
    median, sd = by_sex(female, BODY_MASS_INDEX)
    bmi = (median * draws.normal("bmi", 0.0, sd).exp()).clamp(15.5, 38.0)
    return stature, bmi * stature**2


def draw_measures(draws: ScaledDraws, female: Tensor, stature: Tensor, mass: Tensor) -> dict[str, Tensor]:
    """Return all measures of the tables above by name, [b] each, in metres (`thigh_share` is a fraction)."""
    # Girths. Powers are computed with exp and log, because the rounding of torch.pow may depend on the batch size.
    usual, weight = by_sex(female, _REFERENCE)
    tall, heavy = (stature / usual).log(), (mass / weight).log()
    measures = {}
    deviations = _correlated(draws, "girths", [row[5] for row in _GIRTHS.values()], female)
    for column, (name, (man, woman, a, b, sd, _)) in enumerate(_GIRTHS.items()):
        typical = torch.where(female, woman, man)
        measures[name] = typical * (a * tall + b * heavy + sd * deviations[:, column]).exp()
    # Lengths.
    deviations = _correlated(draws, "lengths", [(row[4],) for row in _LENGTHS.values()], female)
    average, _ = by_sex(female, STATURE)
    tall = (stature / average).log()
    for column, (name, (man, woman, a, sd, _)) in enumerate(_LENGTHS.items()):
        typical = torch.where(female, woman, man) * (1.0 if a == 0 else average)
        measures[name] = typical * (a * tall + sd * deviations[:, column]).exp()
    return measures


def by_sex(female: Tensor, table: dict[str, tuple[float, ...]]) -> tuple[Tensor, ...]:
    """Look up the sex of each person in a table with one row per sex. Return one tensor [b] per column."""
    return tuple(torch.where(female, woman, man) for man, woman in zip(table["male"], table["female"], strict=True))


def _correlated(draws: ScaledDraws, name: str, loadings: list[tuple[float, ...]], like: Tensor) -> Tensor:
    """Return standard normal numbers [b, measures] that are correlated through common factors."""
    loading = torch.tensor(loadings, device=like.device)
    common = draws.normal(f"{name} factors", shape=(loading.shape[1],))
    deviation = draws.normal(name, shape=(len(loading),)) * (1 - loading.square().sum(-1)).sqrt()
    for factor in range(loading.shape[1]):  # a loop, because the rounding of a matrix product may depend on the batch
        deviation = deviation + common[:, factor, None] * loading[:, factor]
    return deviation
