"""GaitSet: regarding gait as a set (Chao et al., AAAI 2019). All importable code of this repository."""
