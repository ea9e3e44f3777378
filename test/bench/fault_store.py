"""Only the first step of training and testing: the store of a tree, and the partition. For the experiments beside."""

from __future__ import annotations

from model.common.errors import run_command
from model.config import load_config
from model.initialization import open_dataset

if __name__ == "__main__":
    run_command(lambda: open_dataset(load_config("recipe.py"), quiet=True) and None)
