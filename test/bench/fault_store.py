"""Create the store and the partition of a data set. The fault experiments run this module as a command."""

from model.common.errors import run_command
from model.initialization import open_dataset
from model.settings.config_file import load_config

if __name__ == "__main__":
    run_command(lambda: open_dataset(load_config("recipe.py")) and None)
