"""Forward `python -m model.embed` to `model.commands.embed`."""

from model.commands.embed import main
from model.common.errors import run_command

if __name__ == "__main__":
    run_command(main)
