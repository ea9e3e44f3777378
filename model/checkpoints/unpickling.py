"""Unpickle tensors and plain values, also from torch_npu, and explain in one line why other content is refused."""

import re
import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from model.devices.device import DEVICE_KINDS

_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;]*m")
_REFUSED_GLOBAL = re.compile(r"GLOBAL (\S+) (?:was not an allowed global|whose module \S+ is blocked)")


class ForbiddenGlobalError(ValueError):
    """A pickle refers to a function or class that is not on the list of allowed ones."""


def unpickle(path: Path) -> Any:
    """Unpickle a file that `torch.save` wrote, in the zip format or in the format before torch 1.6, on the CPU.

    Raises:
        ForbiddenGlobalError: if the file needs a forbidden function or class. The message is its name.
        Exception: exceptions of many types, if the file is damaged.
    """
    with warnings.catch_warnings(), torch.serialization.safe_globals(_ALLOWED_GLOBALS):
        warnings.simplefilter("ignore")  # torch warns about certain pickles, and then refuses them with an error
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            # The message of torch starts with advice for programmers in colours. The reason is at the end.
            text = _TERMINAL_CODE.sub("", str(error))
            refused = _REFUSED_GLOBAL.search(text)
            if refused:
                raise ForbiddenGlobalError(refused[1]) from error
            raise ValueError(text.partition("WeightsUnpickler error:")[2].strip() or text) from error


def _rebuild_tensor(
    storage: Any, offset: int, size: tuple, stride: tuple, requires_grad: bool, hooks: Any, layout: Any = None
) -> Tensor:
    """Rebuild on the CPU a tensor that torch_npu has saved.

    The arguments are those of torch_npu 1.8 to 2.x (`torch_npu/utils/storage.py`). The saved storage has torch's own
    memory layout. `layout` is the layout on the device (a number, or True in torch_npu 1.8), and is not needed here.

    Raises:
        ValueError: if the tensor is larger than its storage. torch would silently enlarge the storage.
    """
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if min(offset, *size, *stride, 0) < 0 or (0 not in size and last >= storage._size()):
        raise ValueError(f"a tensor of shape {tuple(size)} at {offset} exceeds its storage of {storage._size()} values")
    return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)


_ALLOWED_GLOBALS = [
    (function, name)
    for kind in DEVICE_KINDS.values()
    # Newer versions of torch_npu pickle a memory layout as a member of an enumeration. Here it is loaded as an int.
    for function, name in ((_rebuild_tensor, kind.tensor_function), (int, kind.layout_class))
    if name is not None
]
