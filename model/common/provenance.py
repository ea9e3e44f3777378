"""Collect the provenance of a result, which is the information that is needed to reproduce the result."""

import datetime
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import torch


def provenance() -> dict[str, Any]:
    """Return the command, commit, versions, machine and time as JSON values."""
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(Path(__file__).resolve().parents[2]),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__},
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _commit(root: Path) -> str | None:
    """Return the current commit, followed by `+` if files are modified. Return None outside a git checkout."""
    # Do not use `git describe --dirty` or `git diff`, which would lock and rewrite the index of the checkout.
    commands = (["describe", "--always", "--abbrev=12"], ["status", "--porcelain", "--untracked-files=no"])
    try:
        commit, changes = (
            subprocess.run(
                ["git", "--no-optional-locks", *command], cwd=root, capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + "+" * bool(changes)
