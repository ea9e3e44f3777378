"""Means and spreads of the gait parameters between people and between takes, with their sources.

- Speed and cadence: Kadaba, Ramakrishnan and Wootten (1990); Grieve and Gear (1966).
- Leg curves and their differences between people: see `curves`.
- Pelvis: Kadaba et al. (1990). Women tilt the pelvis more from side to side, men sway the shoulders more (Smith, Lelas
  and Kerrigan 2002; Bruening et al. 2015).
- Arms: Murray, Sepic and Barnard (1967). The upper arm swings between 8 degrees forward and 24 backward, the elbow
  bends between 17 and 47 degrees (we use 16 and 40, chosen by eye). Arms swing unequally: in two of three people the
  left arm swings wider (Killeen et al. 2018).
- Step width: 0.10 m, standard deviation 0.03 m (Owings and Grabiner 2004), wider for heavy people.
- Differences between takes: about a fifth of the differences between people, because the curves of one person repeat
  well within a day (Kadaba et al. 1989).
- Posture of trunk and head, and hands in pockets: our own judgement.
"""

import math
from typing import NamedTuple


class PersonSpread(NamedTuple):
    """Normal distribution of one gait parameter over people.

    `draw` names the random number: another name gives other people. With `side_draw`, left and right deviate from the
    person's value with the standard deviation `side_sd`. Results are at least `minimum`.
    """

    draw: str
    men: float  # mean
    women: float
    sd: float
    minimum: float = -math.inf
    side_draw: str = ""
    side_sd: float = 0.0


PERSON_SPREADS = {
    # Legs (step width: Owings and Grabiner 2004; the others: our own judgement)
    "asymmetry": PersonSpread("asymmetry", 0.0, 0.0, 0.025),
    "step_width": PersonSpread("step width", 0.105, 0.088, 0.025, 0.03),
    "foot_progression": PersonSpread("feet", 7.0, 4.5, 4.5, side_draw="each foot", side_sd=2.0),
    "knee_out": PersonSpread("knees", 0.003, -0.003, 0.010),
    # Pelvis and shoulders (Kadaba 1990; Smith 2002; Bruening 2015)
    "pelvis_yaw": PersonSpread("pelvis yaw", 4.6, 5.4, 1.8, 0.5),
    "pelvis_roll": PersonSpread("pelvis roll", 3.3, 4.7, 1.2, 0.3),
    "pelvis_tilt": PersonSpread("pelvis tilt", 3.5, 5.0, 4.0),
    "sway": PersonSpread("sway", 0.022, 0.022, 0.005, 0.004),
    "thorax_yaw": PersonSpread("thorax yaw", 4.5, 3.8, 1.6, 0.5),
    "thorax_lag": PersonSpread("thorax lag", 0.0, 0.0, 0.03),
    # Posture of trunk and head (our own judgement)
    "lean": PersonSpread("lean", 2.8, 2.8, 2.6),
    "kyphosis": PersonSpread("kyphosis", 8.0, 8.0, 5.5),
    "thorax_roll": PersonSpread("shoulders", 0.0, 0.0, 1.4),
    "nod": PersonSpread("nod", 2.0, 2.0, 6.0),
    "head_turn": PersonSpread("head turn", 0.0, 0.0, 2.0),
    "head_forward": PersonSpread("head forward", 0.028, 0.028, 0.014),
    # Arms (Murray 1967; the angles outward and inward: our own judgement)
    "arm_lag": PersonSpread("arm lag", 0.0, 0.0, 0.03),
    "arm_abduction": PersonSpread("abduction", 9.0, 9.0, 2.5, side_draw="each abduction", side_sd=1.0),
    "elbow": PersonSpread("elbow", 16.0, 16.0, 6.0, 3.0, side_draw="each elbow", side_sd=3.0),
    "elbow_swing": PersonSpread("elbow swing", 24.0, 24.0, 7.0, 0.0),
    "forearm_in": PersonSpread("forearm", 5.5, 5.5, 6.0, side_draw="each forearm", side_sd=2.0),
}
# Speed in statures per second and cadence in steps per minute at the mean stature of each sex. Kadaba et al. (1990):
# men 1.34 m/s and 112 steps/min, women 1.27 m/s and 115 steps/min.
MEN_SPEED, WOMEN_SPEED = 0.760, 0.785
MEN_CADENCE, WOMEN_CADENCE = 129.6, 131.8  # at a speed of 1 stature per second
CADENCE_POWER = 0.57  # of speed (Grieve and Gear 1966)
FORWARD_ARM, BACKWARD_ARM = (8.0, 5.5), (24.0, 7.0)  # peaks of the upper arm: mean and standard deviation

# Deviation of a take from the person's value: its standard deviation, and the minimum of the result.
NO_MINIMUM = -math.inf
TAKE_SPREADS = {
    "asymmetry": (0.005, NO_MINIMUM),
    "step_width": (0.007, 0.02),
    "foot_progression": (1.0, NO_MINIMUM),
    "knee_out": (0.001, NO_MINIMUM),
    "pelvis_yaw": (0.5, 0.3),
    "pelvis_roll": (0.3, 0.2),
    "pelvis_tilt": (0.6, NO_MINIMUM),
    "sway": (0.0015, 0.003),
    "thorax_yaw": (0.5, 0.3),
    "thorax_lag": (0.008, NO_MINIMUM),
    "lean": (0.8, NO_MINIMUM),
    "kyphosis": (0.9, NO_MINIMUM),
    "thorax_roll": (0.3, NO_MINIMUM),
    "nod": (2.5, NO_MINIMUM),
    "head_forward": (0.003, NO_MINIMUM),
    "arm_mean": (1.2, NO_MINIMUM),
    "arm_lag": (0.008, NO_MINIMUM),
    "arm_abduction": (0.7, NO_MINIMUM),
    "elbow": (2.2, 2.0),
    "elbow_swing": (2.0, 0.0),
    "forearm_in": (1.5, NO_MINIMUM),
}
