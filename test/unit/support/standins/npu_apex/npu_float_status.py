"""Stand-in for the compiled part of Ascend's apex that reads the overflow flag of the device.

If the environment variable NPUSIM_APEX_WITHOUT_FLOAT_STATUS is set, the import fails, as in an apex that was built
without --npu_float_status.
"""

import os

import torch_npu

if os.environ.get("NPUSIM_APEX_WITHOUT_FLOAT_STATUS"):
    raise ModuleNotFoundError("No module named 'npu_float_status'", name="npu_float_status")


def _has_flag() -> bool:
    return not torch_npu.npu.utils.is_support_inf_nan()


def RunClearFloatStatusOp() -> None:  # noqa: N802, the name in apex
    if _has_flag():
        torch_npu.npu.utils.clear_npu_overflow_flag()


def RunGetFloatStatusOp() -> bool:  # noqa: N802
    return _has_flag() and torch_npu.npu.utils.get_npu_overflow_flag()
