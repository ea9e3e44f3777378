"""Forward `python -m model.data.synthetic` to its new name, `python -m model.synthetic`."""

import sys

from model.common.errors import run_command
from model.synthetic.__main__ import main

if __name__ == "__main__":
    print("note: python -m model.data.synthetic is now python -m model.synthetic", file=sys.stderr)
    run_command(main)
