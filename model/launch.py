"""Forward `python -m model.launch` to `model.commands.launch`."""

import sys

from model.commands.launch import main

if __name__ == "__main__":
    sys.exit(main())
