"""There in every release of ais_bench, and not in the tool for language models of the same name."""
