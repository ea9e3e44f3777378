"""Stand-in for Ascend's ais_bench, see __main__.py."""
