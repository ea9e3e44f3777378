"""Choose the SoC version for ATC: the version that the user gives, or the version of this machine's chip.

The page --soc_version of CANN's ATC guide defines the version as `Ascend` and the Name in `npu-smi info`. On A3 and 950
products, it is the Chip Name, `_` and the NPU Name in `npu-smi info -t board`. In the published source of npu-smi, the
table of `npu-smi info` has two rows per chip.
"""

import re

from model.common.errors import UsageError, UserError
from model.export.atc.commands import output_of

PUBLISHED = "Ascend310"  # the SoC of the published om
_FORM = re.compile(r"Ascend\d\w*(-\d+)?", re.ASCII)


def choose_soc_version(given: str) -> tuple[str, str]:
    """Return the SoC version and a text that says where it comes from. If `given` is empty, run npu-smi.

    Raises:
        UsageError: `given` does not have the form that ATC accepts.
        UserError: the machine has several kinds of chips, or npu-smi does not report the full name.
    """
    if given:
        if not _FORM.fullmatch(given):
            known = _FORM.fullmatch(f"Ascend{given}") and f"Ascend{given}"
            raise UsageError(
                f"--soc_version={given}: ATC expects `Ascend` and the Name of `npu-smi info`, for example "
                f"{known or 'Ascend310P3'}"
            )
        return given, "as given"
    found = soc_versions()
    if not found:
        reason = "npu-smi does not work here" if found is None else "npu-smi info shows no NPU"
        return PUBLISHED, f"the SoC of the published om, because {reason}; change it with --soc_version"
    if len(found) > 1:
        raise UserError(
            f"npu-smi info shows several kinds of chips, {' and '.join(found)}; choose one with --soc_version"
        )
    return found[0], "from npu-smi info"


def soc_versions() -> list[str] | None:
    """Return the different SoC versions of the chips of this machine; None if npu-smi does not work."""
    output = run_npu_smi("info")
    return None if output is None else sorted({soc_version_of(*chip) for chip in parse_chips(output)})


def parse_chips(output: str) -> list[tuple[str, str]]:
    """Return the NPU number and the Name of each chip in the output of `npu-smi info`.

    Each chip has two rows of three cells. The first row is `number name | health | ...`, the second row is
    `chip device | bus | ...`. A table of processes may follow.
    """
    rows = []
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if "Process id" in cells:
            break
        if line.startswith("|") and len(cells) == 3 and not cells[0].startswith(("NPU", "Chip")):
            rows.append(cells[0].split(maxsplit=1))
    return [(row[0], row[1]) for row in rows[::2] if len(row) == 2]


def soc_version_of(number: str, name: str) -> str:
    """Return ATC's name of the chip that `npu-smi info` lists with `number` and `name`."""
    if not name.startswith("Ascend"):
        soc_version = f"Ascend{name}"
    else:  # A3 and 950 products: the table shows only the family
        board = read_board(number)
        chip, npu = board.get("Chip Name", ""), board.get("NPU Name", "")
        soc_version = f"{chip}_{npu}" if npu not in ("", "NA", "-") else ""
    if not _FORM.fullmatch(soc_version):
        raise UserError(
            f"npu-smi info reports the chip as {name}, which is not the full name for ATC; give --soc_version "
            f"(Chip Name, `_` and NPU Name of npu-smi info -t board -i {number} -c 0)"
        )
    return soc_version


def read_board(number: str) -> dict[str, str]:
    """Return the `key : value` lines of npu-smi about one NPU. Some products print lines only about its chip 0."""
    board: dict[str, str] = {}
    for chip in (["-c", "0"], []):
        for line in (run_npu_smi("info", "-t", "board", "-i", number, *chip) or "").splitlines():
            key, colon, value = line.partition(":")
            if colon:
                board.setdefault(key.strip(), value.strip())
    return board


def run_npu_smi(*arguments: str) -> str | None:
    return output_of(["npu-smi", *arguments])
