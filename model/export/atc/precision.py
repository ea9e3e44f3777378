"""Names of the precision of an om in the options of different CANN versions.

Sources: CANN's ATC guide, pages --precision_mode and --precision_mode_v2 (from CANN 6.3.RC2). The guide recommends the
second option, and the two exclude each other.
"""

from pathlib import Path

from model.common.errors import UsageError
from model.export.atc.convert import environment_for
from model.export.atc.tool_output import output_of

OLD, NEW = "precision_mode", "precision_mode_v2"
# must_keep_origin_dtype (origin) is not a precision for this model: operators that the AI Core has only in fp16 would
# run on the AI CPU, or atc fails.
PRECISIONS = {
    "fp16": {OLD: "force_fp16", NEW: "fp16"},
    "fp32": {OLD: "force_fp32", NEW: "cube_fp16in_fp32out"},
    "mixed": {OLD: "allow_mix_precision", NEW: "mixed_float16"},
}


def check_precision(precision: str, atc_options: list[str]) -> None:
    """Raise UsageError if the precision is unknown, or if `atc_options` contain a precision, too."""
    if precision and precision not in PRECISIONS:
        raise UsageError(f"--precision={precision}: unknown; choose one of {', '.join(PRECISIONS)}")
    given = next((option for option in atc_options if option.startswith("--precision_mode")), None)
    if precision and given:
        raise UsageError(f"--precision={precision}: --atc_options already contains {given}; give only one of them")


def precision_option(atc: Path, precision: str) -> list[str]:
    """Return the option of this atc for `precision`; an empty list for an empty text, which keeps atc's default."""
    if not precision:
        return []
    printed = output_of([str(atc), "--help"], environment_for(str(atc)), must_succeed=False)
    name = NEW if printed and f"--{NEW}" in printed else OLD  # all versions know the older option
    return [f"--{name}={PRECISIONS[precision][name]}"]


def precision_option_of_aoe(precision: str) -> list[str]:
    """Return the option of aoe, which knows only the older names."""
    return [f"--{OLD}={PRECISIONS[precision][OLD]}"] if precision else []
