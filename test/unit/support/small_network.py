"""A configuration file for `--config` with a small network, which trains ten times as fast as the default network."""

conf = {"model": {"hidden_dim": 8, "channels": [4, 6, 10]}}
