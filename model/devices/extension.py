"""The module that brings a device to torch where torch itself does not: importing it, or saying what is missing.

It is imported when such a device is wanted and not before: it needs its maker's libraries, and where their
environment is not set it takes `import torch` down with it (see `model.common.command_line`). Its messages are those of
torch_npu 2.11 to 2.13 and of the loader of the system; what none of them explains is passed on as it is.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import re
from functools import cache
from importlib import metadata

import torch

log = logging.getLogger(__name__)

SET_ENV = "source CANN's set_env.sh first (as in `source /usr/local/Ascend/ascend-toolkit/set_env.sh`)"


def is_installed(name: str) -> bool:
    """Whether there is a module of that name; it need not be one that can be imported."""
    return importlib.util.find_spec(name) is not None


@cache  # a second attempt in the same process fails for another reason than the first
def load_extension(name: str) -> str | None:
    """Import the module. Returns None, or in one line what is missing and what to do about it."""
    if not is_installed(name):
        return f"{name} is not installed: install the one for torch {_release()}, whose version begins alike"
    fault = _of_another_torch(name, 2)  # before it is loaded: what was built for another torch can end the process
    if fault is not None:
        return fault
    try:
        importlib.import_module(name)
    except Exception as error:  # it looks its surroundings over while it is imported, and raises all kinds for them
        return _of_another_torch(name, 3) or _explain(name, error)
    fault = _of_another_torch(name, 3)
    if fault is not None:
        log.warning("%s", fault)
    return None


def _release(parts: int = 3) -> str:
    return ".".join(torch.__version__.partition("+")[0].split(".")[:parts])


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # imported from a folder
        return ""


def _of_another_torch(name: str, parts: int) -> str | None:
    """What to say when the first `parts` numbers of its version are not those of torch's."""
    version = _version(name)
    made_for = ".".join(version.split(".")[:3])
    if not version or version.split(".")[:parts] == _release(parts).split("."):
        return None
    return (
        f"{name} {version} is made for torch {made_for}, and this is torch {torch.__version__}: install a pair of one "
        f"version (torch 2.x.y, {name} 2.x.y or 2.x.y.postN)"
    )


def _explain(name: str, error: Exception) -> str:
    """The one line for what the import raised."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    found = re.search(r"\blib[\w+-]+\.so[.\d]*", first)
    library = found[0].rstrip(".") if found else ""
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith(name):
        return f"{name} needs the module {error.name}, which is not installed: pip install it"
    if "Two accelerators" in first:
        return (
            f"{name} needs torch's CPU build, and this torch {torch.__version__} is built for another accelerator "
            f"({first}): pip install torch=={_release()} --index-url https://download.pytorch.org/whl/cpu"
        )
    if "undefined symbol" in first or library.startswith(("libtorch", "libc10")):
        return (
            f"{name} {_version(name)} does not fit this torch {torch.__version__}, or this CANN ({first}): install "
            "versions that go together (COMPATIBILITY.md of Ascend's pytorch repository lists them)"
        )
    if "static TLS" in first:
        return f"{name} cannot be loaded ({first}): export LD_PRELOAD={first.partition(':')[0]} before the start"
    if library.startswith("libascend_hal"):
        return (
            f"the NPU driver's {library} is not found: install the driver; in a container, mount "
            "/usr/local/Ascend/driver and have its lib64/driver in LD_LIBRARY_PATH"
        )
    if library:
        return _without_library(name, library)
    if "ASCEND_" in first:
        return f"CANN's environment is not whole ({first}): {SET_ENV}"
    return f"{name} cannot be loaded ({first})"


def _without_library(name: str, library: str) -> str:
    home = os.environ.get("ASCEND_HOME_PATH")
    if not home:
        return f"CANN's {library} is not found, and ASCEND_HOME_PATH is not set: {SET_ENV}"
    return (
        f"CANN's {library} is not found, though ASCEND_HOME_PATH is {home}: source the set_env.sh there, or install "
        f"all of the CANN that {name} {_version(name)} goes with"
    )
