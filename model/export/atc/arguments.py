"""What atc will be given, checked before any model is made: options, paths, atc itself."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

from model.common.errors import UsageError, UserError

_PLAIN = re.compile(r"[\u4e00-\u9fa5A-Za-z0-9./_-]+")  # what ATC takes of a path
_REFUSED = (
    (
        "framework model output input_shape soc_version mode weight singleop om json",
        "is set from the model, --soc_version and the place of the om",
    ),
    (
        "dynamic_batch_size dynamic_image_size dynamic_dims input_shape_range input_hint_shape",
        "has no use: models are of fixed shapes, one for each of --batch_sizes",
    ),
    ("insert_op_conf input_fp16_nodes is_input_adjust_hw_layout", "would make the om read other than float32 bins"),
    ("output_type out_nodes is_output_adjust_hw_layout", "would make the om write other than float32 features"),
    ("external_weight", "would leave the weights outside the om"),
    ("auto_tune_mode", "is in no atc any more; CANN's aoe tunes"),
)


def check_options(text: str) -> list[str]:
    """`text`, written as on a command line, as further options of atc: --name=value each.

    Raises UsageError for what is none, and for what would not give the one whole om of fixed shape that is wanted.
    """
    try:
        options = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--atc_options={text}: {error}") from None
    names = []
    for option in options:
        match = re.fullmatch(r"--(\w+)=(.+)", option, re.DOTALL)
        if not match:
            raise UsageError(f"--atc_options={text}: {option} has not the form --name=value")
        names.append(match[1])
    for name in names:
        reason = next((reason for refused, reason in _REFUSED if name in refused.split()), "")
        if names.count(name) > 1:
            reason = "is there twice"
        if name == "precision_mode" and "precision_mode_v2" in names:
            reason = "and --precision_mode_v2 exclude each other"
        if reason:
            raise UsageError(f"--atc_options={text}: --{name} {reason}")
    return options


def check_path(path: Path) -> Path:
    """`path` in full. Raises UsageError when ATC does not take its characters."""
    full = path.resolve()
    odd = sorted({character for character in str(full) if not _PLAIN.fullmatch(character)})
    if odd:
        raise UsageError(
            f"{full}: ATC takes letters, digits, `_`, `-`, `.`, `/` and Chinese characters in paths, not "
            f"{' '.join(map(repr, odd))}; use another folder"
        )
    return full


def find_atc() -> Path:
    """The atc of the PATH. Raises UserError that says how to get there."""
    found = shutil.which("atc")
    if found is None:
        raise UserError(
            "atc is not on the PATH: install CANN's toolkit and the operator package of the SoC, then source its "
            "set_env.sh or name its folder with --cann_path; --onnx-only stops after the ONNX files"
        )
    return Path(found).absolute()  # it runs in a folder of its own
