"""Import ONNX Runtime without telemetry. All other modules import it with the function of this module."""

import importlib
from types import ModuleType

from model.common.errors import UserError


def import_onnxruntime(module: str = "onnxruntime") -> ModuleType:
    """Return `onnxruntime` or one of its submodules. Raises UserError if it cannot be imported.

    `model/__init__.py` has already set the environment variable that disables telemetry.
    """
    try:
        # Builds for Windows that use TraceLogging ignore the environment variable.
        importlib.import_module("onnxruntime").disable_telemetry_events()
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"ONNX Runtime cannot be imported ({error}); run `pip install onnxruntime`") from error
