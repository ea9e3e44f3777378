"""Check the options, the precision and the paths for ATC, and find the atc command, before a model is exported.

The names of precisions follow CANN's ATC guide, pages --precision_mode and --precision_mode_v2. The guide recommends
--precision_mode_v2, which exists since CANN 6.3.RC2. The two options exclude each other.
"""

import re
import shlex
import shutil
from pathlib import Path

from model.common.errors import UsageError, UserError
from model.export.atc.commands import environment_for, output_of

_PATH_CHARACTERS = re.compile(r"[\u4e00-\u9fa5A-Za-z0-9./_-]+")  # characters that ATC accepts in paths
# Options of atc that are refused, with the reason.
_REFUSED = {
    name: f"{reason}; remove it"
    for names, reason in {
        "framework model output input_shape soc_version mode weight singleop om json":
            "is set from the model, --input_shape, --soc_version and the path of the om",
        "dynamic_batch_size dynamic_image_size dynamic_dims input_shape_range input_hint_shape":
            "has no effect: models have static shapes, one model per value of --batch_sizes",
        "insert_op_conf input_fp16_nodes is_input_adjust_hw_layout":
            "would change the om's input from float32 pixels to other values",
        "output_type out_nodes is_output_adjust_hw_layout":
            "would change the om's output from float32 embeddings to other values",
        "external_weight": "would store the weights outside the om",
        "auto_tune_mode": "was removed from atc; CANN's aoe tunes models",
    }.items()
    for name in names.split()
}  # fmt: skip
# Options of atc whose value is a file that must exist, and all options whose value is a path.
_FILES = ("cluster_config", "compression_optimize_conf", "customize_dtypes", "fusion_switch_file", "keep_dtype",
          "modify_mixlist", "op_debug_config", "op_name_map", "op_precision_mode")  # fmt: skip
_PATHS = (*_FILES, "check_report", "debug_dir", "mdl_bank_path", "op_bank_path", "op_compiler_cache_dir")

# The older and the newer option of atc for the precision of an om.
OLD, NEW = "precision_mode", "precision_mode_v2"
# The value must_keep_origin_dtype (origin) is not offered: operators that the AI Core has only in fp16 would run on the
# AI CPU, or atc would fail.
PRECISIONS = {
    "fp16": {OLD: "force_fp16", NEW: "fp16"},
    "fp32": {OLD: "force_fp32", NEW: "cube_fp16in_fp32out"},
    "mixed": {OLD: "allow_mix_precision", NEW: "mixed_float16"},
}


def check_options(text: str, folder: Path | None = None) -> list[str]:
    """Split `text`, written as on a command line, into options of atc of the form --name=value.

    Relative paths in the options become absolute, because atc runs in a temporary folder.

    Args:
        folder: folder in which relative paths start (default: the current folder).

    Raises:
        UsageError: an option is malformed, names a file that does not exist, or would prevent a single om of static
            shapes.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--atc_options={text}: {error}; correct the quotes") from None
    options: dict[str, str] = {}
    for word in words:
        match = re.fullmatch(r"--(\w+)=(.+)", word, re.DOTALL)
        if not match:
            raise UsageError(f"--atc_options={text}: {word} does not have the form --name=value; correct it")
        name, value = match.groups()
        reason = "occurs twice; give it once" if name in options else _REFUSED.get(name)
        if name in _PATHS:
            value = (folder or Path.cwd()) / value
            if name in _FILES and not value.is_file():
                raise UsageError(f"--atc_options={text}: {value}: no such file; correct --{name}")
        options[name] = f"--{name}={value}"
        if options.keys() >= {"precision_mode", "precision_mode_v2"}:
            name, reason = "precision_mode", "and --precision_mode_v2 exclude each other; give only one of them"
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
        raise UsageError(
            f"--input_shape={text}: expected the name of the input and positive sizes, such as image_seq:16,100,64,44"
        )
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
            "atc is not on the PATH: install CANN's toolkit and the operator package of the SoC, then source CANN's "
            "set_env.sh or run test/pth2om.sh with --cann_path; test/pth2om.sh --onnx-only works without atc"
        )
    return Path(found).absolute()  # absolute, because atc runs in another folder


def check_precision(precision: str, atc_options: list[str]) -> None:
    """Raise UsageError if the precision is unknown, or if `atc_options` contain a second precision."""
    if precision and precision not in PRECISIONS:
        raise UsageError(f"--precision={precision}: unknown; choose one of {', '.join(PRECISIONS)}")
    given = next((option for option in atc_options if option.startswith("--precision_mode")), None)
    if precision and given:
        raise UsageError(f"--precision={precision}: --atc_options already contains {given}; give only one of them")


def precision_option(atc: Path, precision: str) -> list[str]:
    """Return the option for `precision` that this atc knows. If `precision` is empty, return no option."""
    if not precision:
        return []
    printed = output_of([str(atc), "--help"], environment_for(str(atc)), must_succeed=False)
    name = NEW if printed and f"--{NEW}" in printed else OLD  # all versions know the older option
    return [f"--{name}={PRECISIONS[precision][name]}"]


def precision_option_of_aoe(precision: str) -> list[str]:
    """Return the option of aoe for `precision`. aoe knows only the older names."""
    return [f"--{OLD}={PRECISIONS[precision][OLD]}"] if precision else []
