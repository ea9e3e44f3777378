"""Import of `apex.amp`, and an explanation if another package with the name apex is installed."""

import importlib
import importlib.util
from importlib import metadata
from types import ModuleType

import torch

from model.common.errors import UsageError, first_line

USE_TORCH = "use --amp torch, which takes the same --loss_scale"
ADVICE = (
    f"{USE_TORCH}, or build apex from source: Ascend's patched version for an NPU; the package named apex in the "
    "Python package index is unrelated"
)


def import_apex_amp() -> ModuleType:
    """Return `apex.amp`. Raise UsageError with one line that names the installed package, if any."""
    reason, advice = "apex is not installed", ADVICE
    if importlib.util.find_spec("apex") is not None:
        try:
            amp = importlib.import_module("apex.amp")
        except Exception as error:  # the unrelated package imports a web framework, the right one compiled extensions
            reason = _explain(error)
            if _is_too_old(error):
                advice = USE_TORCH
        else:
            if hasattr(amp, "initialize"):
                return amp
            reason = "the installed apex has no amp.initialize"
    raise UsageError(f"--amp apex: {reason}; {advice}")


def _is_too_old(error: Exception) -> bool:
    """Return whether apex imports a part of torch that this torch no longer has, such as torch._six."""
    return isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "torch"


def _explain(error: Exception) -> str:
    """Identify the installed package by its metadata and by the error of its import."""
    try:
        fields = dict(metadata.metadata("apex").items())
    except metadata.PackageNotFoundError:  # imported from a folder
        fields = {}
    name = f"apex {fields['Version']}" if fields.get("Version") else "apex"
    missing = getattr(error, "name", None) or ""
    if "yramid" in fields.get("Summary", "") or missing.startswith("pyramid"):
        return f"the installed {name} is the package index's, a toolkit for web sites"
    if _is_too_old(error):
        return f"the installed {name} is made for an older torch than {torch.__version__} ({first_line(error)})"
    if isinstance(error, ModuleNotFoundError) and missing == "apex.amp":
        origin = "NVIDIA's of after May 2025" if importlib.util.find_spec("apex.normalization") else "one"
        return f"the installed {name} is {origin} without amp"
    return f"apex.amp of the installed {name} cannot be loaded ({first_line(error)})"
