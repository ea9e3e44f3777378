"""Part of every version of ais_bench, but not of the tool for language models with the same name."""
