"""Tables of the means of the gait parameters, of their spreads between people and between takes, and of their sources.

- Speed and cadence: Kadaba, Ramakrishnan and Wootten (1990); Grieve and Gear (1966).
- Leg curves and their differences between people: the sources are in `curves`.
- Pelvis: Kadaba et al. (1990). Women tilt the pelvis more from side to side than men, and men move the shoulders more
  than women (Smith, Lelas and Kerrigan 2002; Bruening et al. 2015).
- Arms: Murray, Sepic and Barnard (1967). The upper arm swings from 24 degrees backward to 8 degrees forward, and the
  flexion of the elbow varies from 17 to 47 degrees (we chose 16 to 40 degrees by eye). In two of three people, the left
  arm swings wider than the right arm (Killeen et al. 2018).
- Step width: 0.10 m, standard deviation 0.03 m (Owings and Grabiner 2004), wider for heavy people.
- Differences between takes: about a fifth of the differences between people, because the curves of one person repeat
  well within a day (Kadaba et al. 1989).
- Posture of trunk and head, and hands in pockets: our own judgement.
"""

import math
from typing import NamedTuple


class Spread(NamedTuple):
    """Normal distribution of one gait parameter over people, and of the deviations of takes.

    `draw` names the random number of a person; a different name gives different people. If `side_draw` is given, the
    left and the right value deviate from the person's value with the standard deviation `side_sd`. Takes deviate from
    the person's value with the standard deviation `take_sd`. A person's value is at least `minimum`, and the value of a
    take is at least `take_minimum`.
    """

    draw: str
    men: float  # mean of men
    women: float  # mean of women
    sd: float  # standard deviation between people
    take_sd: float  # 0 if `vary_gait` draws the deviation in a different way
    minimum: float = -math.inf
    take_minimum: float = -math.inf
    side_draw: str = ""
    side_sd: float = 0.0


SPREADS = {
    # Legs (step width: Owings and Grabiner 2004; other values: our own judgement)
    "asymmetry": Spread("asymmetry", 0.0, 0.0, 0.025, 0.005),
    "step_width": Spread("step width", 0.105, 0.088, 0.025, 0.007, 0.03, 0.02),
    "foot_progression": Spread("feet", 7.0, 4.5, 4.5, 1.0, side_draw="each foot", side_sd=2.0),
    "knee_out": Spread("knees", 0.003, -0.003, 0.010, 0.001),
    # Pelvis and shoulders (Kadaba 1990; Smith 2002; Bruening 2015)
    "pelvis_yaw": Spread("pelvis yaw", 4.6, 5.4, 1.8, 0.5, 0.5, 0.3),
    "pelvis_roll": Spread("pelvis roll", 3.3, 4.7, 1.2, 0.3, 0.3, 0.2),
    "pelvis_tilt": Spread("pelvis tilt", 3.5, 5.0, 4.0, 0.6),
    "sway": Spread("sway", 0.022, 0.022, 0.005, 0.0015, 0.004, 0.003),
    "thorax_yaw": Spread("thorax yaw", 4.5, 3.8, 1.6, 0.5, 0.5, 0.3),
    "thorax_lag": Spread("thorax lag", 0.0, 0.0, 0.03, 0.008),
    # Posture of trunk and head (our own judgement)
    "lean": Spread("lean", 2.8, 2.8, 2.6, 0.8),
    "kyphosis": Spread("kyphosis", 8.0, 8.0, 5.5, 0.9),
    "thorax_roll": Spread("shoulders", 0.0, 0.0, 1.4, 0.3),
    "nod": Spread("nod", 2.0, 2.0, 6.0, 2.5),
    "head_turn": Spread("head turn", 0.0, 0.0, 2.0, 0.0),
    "head_forward": Spread("head forward", 0.028, 0.028, 0.014, 0.003),
    # Arms (Murray 1967; the angles outward and inward: our own judgement)
    "arm_lag": Spread("arm lag", 0.0, 0.0, 0.03, 0.008),
    "arm_abduction": Spread("abduction", 9.0, 9.0, 2.5, 0.7, side_draw="each abduction", side_sd=1.0),
    "elbow": Spread("elbow", 16.0, 16.0, 6.0, 2.2, 3.0, 2.0, side_draw="each elbow", side_sd=3.0),
    "elbow_swing": Spread("elbow swing", 24.0, 24.0, 7.0, 2.0, 0.0, 0.0),
    "forearm_in": Spread("forearm", 5.5, 5.5, 6.0, 1.5, side_draw="each forearm", side_sd=2.0),
}
# Speed in statures per second and cadence in steps per minute at the mean stature of each sex. Kadaba et al. (1990):
# men 1.34 m/s and 112 steps/min, women 1.27 m/s and 115 steps/min.
SPEED = 0.785, 0.760  # women, men
CADENCE = 131.8, 129.6  # women, men, at a speed of 1 stature per second
CADENCE_POWER = 0.57  # the cadence is proportional to this power of the speed (Grieve and Gear 1966)
FORWARD_ARM, BACKWARD_ARM = (8.0, 5.5), (24.0, 7.0)  # peaks of the upper arm: mean and standard deviation
