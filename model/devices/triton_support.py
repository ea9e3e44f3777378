"""Check whether Triton kernels work on a device."""

import atexit
import importlib.util
import logging
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch

from model.common.errors import first_line
from model.devices.device import kind_of

log = logging.getLogger(__name__)

MIN_CAPABILITY = (8, 0)  # smallest compute capability for which current Triton versions compile matrix products


@cache
def works(device: torch.device) -> bool:
    """Return whether Triton kernels run on `device`. If Triton supports the device but fails, log a warning."""
    if not kind_of(device).triton or importlib.util.find_spec("triton") is None:
        return False
    if torch.get_device_module(device).get_device_capability(device) < MIN_CAPABILITY:
        return False
    provide_cache_folder()
    try:
        run_trial_kernel(device)
    except Exception as error:  # without a C compiler or with an old driver, Triton raises exceptions of many types
        log.warning("Triton does not work here (%s): torch's own kernels are used instead", first_line(error))
        return False
    return True


def provide_cache_folder() -> None:
    """Let Triton write its compiled kernels to a temporary folder if it cannot write to the home folder.

    A user of a container may have no home folder. Triton would then create a folder named `~` in the current folder.
    """
    if os.environ.get("TRITON_HOME") or os.environ.get("TRITON_CACHE_DIR"):
        return
    home = Path(os.path.expanduser("~"))  # noqa: PTH111, Path.expanduser raises if there is no home folder
    cache_folder = home / ".triton"
    if os.access(cache_folder if cache_folder.exists() else home, os.W_OK):
        return
    os.environ["TRITON_HOME"] = folder = tempfile.mkdtemp(prefix="gaitset-triton-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def run_trial_kernel(device: torch.device) -> None:
    """Compile and run a small kernel. Raises the exception of Triton if this fails."""
    from model.devices.triton_trial import increment  # imports Triton, which may not be installed

    values = torch.zeros(4, device=device)
    increment[(1,)](values, size=4)
