"""The SoC that an om is made for, in ATC's words: given, or this machine's by `npu-smi info`.

Facts: CANN's ATC guide, page --soc_version (`Ascend` and the Name of `npu-smi info`; on A3 and 950 products Chip Name
and NPU Name of `npu-smi info -t board`), and the published source of npu-smi, whose table has two rows a chip.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence

from model.common.errors import UsageError, UserError

PUBLISHED = "Ascend310"  # what the published om was made for
PATIENCE = 60  # seconds; npu-smi can hang where the driver is in trouble
_FORM = re.compile(r"Ascend\d\w*(-\d+)?", re.ASCII)

Run = Callable[[Sequence[str]], str | None]


def choose_soc_version(given: str) -> tuple[str, str]:
    """The SoC version and, for people, where it is from. `given` is empty where the machine is to be asked.

    Raises UsageError when `given` has not the form that ATC takes, UserError when the machine has several kinds
    of chip, or one whose name npu-smi does not tell in full.
    """
    if given:
        if not _FORM.fullmatch(given):
            known = _FORM.fullmatch(f"Ascend{given}") and f"Ascend{given}"
            raise UsageError(
                f"--soc_version={given}: ATC takes `Ascend` and the name that `npu-smi info` shows, "
                f"here probably {known or 'Ascend310P3 or the like'}"
            )
        return given, "as given"
    output = run_npu_smi(["info"])
    if output is None:
        return PUBLISHED, "the published one, there is no working npu-smi here; --soc_version names another"
    chips = table_of(output)
    if not chips:
        return PUBLISHED, "the published one, npu-smi info shows no NPU; --soc_version names another"
    found = sorted({soc_version_of(number, name) for number, name in chips})
    if len(found) > 1:
        raise UserError(f"npu-smi info shows {' and '.join(found)}: say for which with --soc_version")
    return found[0], "by npu-smi info"


def table_of(output: str) -> list[tuple[str, str]]:
    """NPU number and Name of each chip in what `npu-smi info` prints.

    A chip has two rows of three cells: number, name | health | ..., then chip, device | bus | .... Below them there
    may be a table of processes.
    """
    rows = []
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if "Process id" in cells:
            break
        if line.startswith("|") and len(cells) == 3 and not cells[0].startswith(("NPU", "Chip")):
            rows.append(cells[0].split(maxsplit=1))
    return [(row[0], row[1]) for row in rows[::2] if len(row) == 2]


def soc_version_of(number: str, name: str, run: Run | None = None) -> str:
    """ATC's word for the chip that `npu-smi info` calls `name` and counts as `number`."""
    if not name.startswith("Ascend"):
        soc_version = f"Ascend{name}"
    else:  # A3 and 950 products, whose table tells only the family
        board = board_of(number, run or run_npu_smi)
        chip, npu = board.get("Chip Name", ""), board.get("NPU Name", "")
        soc_version = f"{chip}_{npu}" if npu not in ("", "NA", "-") else ""
    if not _FORM.fullmatch(soc_version):
        raise UserError(
            f"npu-smi info calls the chip {name}, from which ATC's name does not follow; give --soc_version "
            f"(Chip Name, `_` and NPU Name of npu-smi info -t board -i {number} -c 0)"
        )
    return soc_version


def board_of(number: str, run: Run) -> dict[str, str]:
    """The `key : value` lines of npu-smi about one NPU; some products have them for a chip of it only."""
    board: dict[str, str] = {}
    for place in (["-i", number, "-c", "0"], ["-i", number]):
        for line in (run(["info", "-t", "board", *place]) or "").splitlines():
            key, colon, value = line.partition(":")
            if colon:
                board.setdefault(key.strip(), value.strip())
    return board


def run_npu_smi(arguments: Sequence[str]) -> str | None:
    """What npu-smi prints; None where it is not there, fails or does not end."""
    try:
        done = subprocess.run(
            ["npu-smi", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PATIENCE,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
