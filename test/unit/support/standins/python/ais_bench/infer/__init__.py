"""A subpackage that every version of ais_bench has. The tool for language models of the same name does not have it."""
