"""Output of short commands of Ascend's software."""

import subprocess
from collections.abc import Mapping, Sequence

TIMEOUT = 60  # seconds; npu-smi can hang if the driver has a problem


def output_of(
    command: Sequence[str], environment: Mapping[str, str] | None = None, must_succeed: bool = True
) -> str | None:
    """Return the standard output of a command; None if it is missing, hangs or, with `must_succeed`, fails."""
    try:
        return subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
            errors="replace", timeout=TIMEOUT, check=must_succeed,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
