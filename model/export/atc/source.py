"""Check a model before it is tuned and converted. Of the modules of this package, only `source` imports onnx."""

import logging
from collections.abc import Sequence
from pathlib import Path

from model.common.errors import UsageError, UserError
from model.export.atc.arguments import check_path
from model.export.atc.convert import Source
from model.export.lint import find_problems, in_short, is_static
from model.export.onnx_file import inputs_of, load_onnx, shape_of, with_input_shape

logger = logging.getLogger(__name__)

_MAX_WARNINGS = 5  # per model


def source_of(path: Path, input_shape: Sequence[int] | None = None, lint: bool = True) -> Source:
    """Check a model for ATC. Failures of the model raise an error, and risks are logged as warnings (see `lint.py`).

    Args:
        input_shape: shape of the input, for a model with a symbolic batch size (default: the shape in the file).
        lint: check the whole graph. If False, check only that the input has a static shape.

    Raises:
        UsageError: `input_shape` contradicts the model.
        UserError: the model has a failure.
    """
    path = check_path(path)
    model = load_onnx(path)
    inputs = inputs_of(model)
    own = shape_of(inputs[0]) if inputs else []
    shape = list(input_shape or own)
    if input_shape is not None:
        fixed = [size if isinstance(size, int) else given for size, given in zip(own, shape, strict=False)]
        if len(own) != len(shape) or fixed != shape:
            raise UsageError(
                f"--input_shape={','.join(map(str, shape))}: the input of {path} has the shape {own}; give the same "
                "numbers, and a number in place of each name"
            )
        model = with_input_shape(model, shape)
    problems, risks = find_problems(model, symbolic=input_shape is not None) if lint else ([], [])
    if not problems and not (shape and is_static(shape)):
        problems = [f"the input has shape {shape}, which is not static; give --input_shape"]
    if problems:
        raise UserError(f"{path}: does not suit ATC: {in_short(problems)}")
    for risk in risks[:_MAX_WARNINGS]:
        logger.warning("%s: some versions of ATC may reject the model or run it slowly: %s", path, risk)
    if len(risks) > _MAX_WARNINGS:
        logger.warning("%s: %d more warnings of this kind", path, len(risks) - _MAX_WARNINGS)
    return Source(path, inputs[0].name, shape)
