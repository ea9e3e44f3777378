"""Check what is passed to ATC before a model is exported: options, precision, paths and the atc command itself.

Sources of the precision: CANN's ATC guide, pages --precision_mode and --precision_mode_v2 (from CANN 6.3.RC2). The
guide recommends the second option, and the two exclude each other.
"""

import re
import shlex
import shutil
from pathlib import Path

from model.common.errors import UsageError, UserError
from model.export.atc.commands import environment_for, output_of

_PATH_CHARACTERS = re.compile(r"[\u4e00-\u9fa5A-Za-z0-9./_-]+")  # those that ATC accepts
# Options of atc that are refused, with the reason.
_REFUSED = {
    name: reason
    for names, reason in {
        "framework model output input_shape soc_version mode weight singleop om json":
            "is set from the model, --input_shape, --soc_version and the path of the om",
        "dynamic_batch_size dynamic_image_size dynamic_dims input_shape_range input_hint_shape":
            "has no effect: models have static shapes, one model per value of --batch_sizes",
        "insert_op_conf input_fp16_nodes is_input_adjust_hw_layout":
            "would change the om's input from float32 pixels",
        "output_type out_nodes is_output_adjust_hw_layout": "would change the om's output from float32 embeddings",
        "external_weight": "would store the weights outside the om",
        "auto_tune_mode": "was removed from atc; CANN's aoe tunes models",
    }.items()
    for name in names.split()
}  # fmt: skip
# Options of atc whose value is a file to read, or another path.
_FILES = ("cluster_config", "compression_optimize_conf", "customize_dtypes", "fusion_switch_file", "keep_dtype",
          "modify_mixlist", "op_debug_config", "op_name_map", "op_precision_mode")  # fmt: skip
_PATHS = (*_FILES, "check_report", "debug_dir", "mdl_bank_path", "op_bank_path", "op_compiler_cache_dir")

# Names of the precision of an om in the options of different CANN versions.
OLD, NEW = "precision_mode", "precision_mode_v2"
# must_keep_origin_dtype (origin) is not a precision for this model: operators that the AI Core has only in fp16 would
# run on the AI CPU, or atc fails.
PRECISIONS = {
    "fp16": {OLD: "force_fp16", NEW: "fp16"},
    "fp32": {OLD: "force_fp32", NEW: "cube_fp16in_fp32out"},
    "mixed": {OLD: "allow_mix_precision", NEW: "mixed_float16"},
}


def check_options(text: str, folder: Path | None = None) -> list[str]:
    """Split `text`, written as on a command line, into further options of atc of the form --name=value.

    Args:
        folder: where relative paths in the options start (default: the current folder). atc runs elsewhere.

    Raises:
        UsageError: an option is malformed, names a file that does not exist, or would prevent a single om of static
            shapes.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--atc_options={text}: {error}") from None
    options: dict[str, str] = {}
    for word in words:
        match = re.fullmatch(r"--(\w+)=(.+)", word, re.DOTALL)
        if not match:
            raise UsageError(f"--atc_options={text}: {word} does not have the form --name=value")
        name, value = match.groups()
        reason = "occurs twice" if name in options else _REFUSED.get(name)
        if name in _PATHS:
            value = (folder or Path.cwd()) / value
            if name in _FILES and not value.is_file():
                raise UsageError(f"--atc_options={text}: {value}: no such file; correct --{name}")
        options[name] = f"--{name}={value}"
        if options.keys() >= {"precision_mode", "precision_mode_v2"}:
            name, reason = "precision_mode", "and --precision_mode_v2 exclude each other"
        if reason:
            raise UsageError(f"--atc_options={text}: --{name} {reason}")
    return list(options.values())


def parse_input_shape(text: str) -> list[int] | None:
    """Return the sizes in `image_seq:16,100,64,44` or `16,100,64,44`; None for an empty text.

    Raises:
        UsageError: the text has another form, or a size is not positive.
    """
    if not text:
        return None
    match = re.fullmatch(r"(?:[\w./-]+:)?(\d{1,9}(?:,\d{1,9})*)", text, re.ASCII)
    sizes = [int(size) for size in match[1].split(",")] if match else []
    if not sizes or min(sizes) < 1:
        raise UsageError(f"--input_shape={text}: expected the name and positive sizes, such as image_seq:16,100,64,44")
    return sizes


def check_path(path: Path) -> Path:
    """Return the absolute path. Raise UsageError if it contains characters that ATC does not accept."""
    full = path.resolve()
    odd = sorted({character for character in str(full) if not _PATH_CHARACTERS.fullmatch(character)})
    if odd:
        raise UsageError(
            f"{full}: ATC accepts letters, digits, `_`, `-`, `.`, `/` and Chinese characters in paths, but not "
            f"{' '.join(map(repr, odd))}; use another folder"
        )
    return full


def find_atc() -> Path:
    """Return the atc on the PATH. Raise UserError with installation instructions if there is none."""
    found = shutil.which("atc")
    if found is None:
        raise UserError(
            "atc is not on the PATH: install CANN's toolkit and the operator package of the SoC, then source its "
            "set_env.sh; test/pth2om.sh also takes CANN's folder with --cann_path, and needs no atc with --onnx-only"
        )
    return Path(found).absolute()  # absolute, because atc runs in another folder


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
