"""Import the extension module that adds a device type to torch, and explain a failed import in one line.

The module needs the vendor's libraries and their environment variables. It is therefore imported only if its device is
requested. By default, torch loads the module automatically, and `import torch` fails without these variables, so
`model.common.command_line` disables the automatic loading. The explanations cover the messages of torch_npu 2.11 to
2.13 and of the system's loader of libraries. Other messages are reported unchanged.
"""

import importlib
import importlib.util
import logging
import os
import re
from functools import cache
from importlib import metadata

import torch

from model.common.errors import first_line

log = logging.getLogger(__name__)

SET_ENV = "source CANN's set_env.sh first (as in `source /usr/local/Ascend/ascend-toolkit/set_env.sh`)"


def is_installed(name: str) -> bool:
    """Return whether a module of this name is installed, even if its import fails."""
    return importlib.util.find_spec(name) is not None


@cache  # a second attempt in the same process would fail for a different reason
def load_extension(name: str) -> str | None:
    """Import the module. Return None, or one line that says why the import failed and what to do."""
    if not is_installed(name):
        return (
            f"{name} is not installed; install the version for torch {_release()}, which starts with the same number, "
            "or torch and this package in versions that model/docs/ascend.md lists"
        )
    # Check the version before the import, because a module for a different version of torch can crash the process.
    mismatch = _version_mismatch(name, 2)
    if mismatch is not None:
        return mismatch
    try:
        importlib.import_module(name)
    except Exception as error:  # when it is imported, the module checks its environment and raises many types
        return _version_mismatch(name, 3) or _explain(name, error)
    mismatch = _version_mismatch(name, 3)
    if mismatch is not None:
        log.warning("%s", mismatch)
    return None


def _release(parts: int = 3) -> str:
    return ".".join(torch.__version__.partition("+")[0].split(".")[:parts])


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # the module is on the path but not installed as a package
        return ""


def _version_mismatch(name: str, parts: int) -> str | None:
    """Return an error message if the first `parts` numbers of the versions of the module and of torch differ."""
    version = _version(name)
    made_for = ".".join(version.split(".")[:3])
    if not version or version.split(".")[:parts] == _release(parts).split("."):
        return None
    return (
        f"{name} {version} is built for torch {made_for}, but torch {torch.__version__} is installed; install matching "
        f"versions (torch 2.x.y, {name} 2.x.y or 2.x.y.postN)"
    )


def _explain(name: str, error: Exception) -> str:
    """Return one line that explains the exception of a failed import."""
    first = first_line(error)
    found = re.search(r"\blib[\w+-]+\.so[.\d]*", first)
    library = found[0].rstrip(".") if found else ""
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith(name):
        return f"{name} needs the module {error.name}, which is not installed; install it with pip"
    if "Two accelerators" in first:
        return (
            f"{name} needs the CPU build of torch, but torch {torch.__version__} is built for another accelerator "
            f"({first}); pip install torch=={_release()} --index-url https://download.pytorch.org/whl/cpu"
        )
    if "undefined symbol" in first or library.startswith(("libtorch", "libc10")):
        return (
            f"{name} {_version(name)} does not match torch {torch.__version__} or CANN ({first}); install matching "
            "versions (see COMPATIBILITY.md of Ascend's pytorch repository)"
        )
    if "static TLS" in first:
        return f"{name} cannot be loaded ({first}); set LD_PRELOAD={first.partition(':')[0]} before the start"
    if library.startswith("libascend_hal"):
        return (
            f"{library} of the NPU driver is not found; install the driver, or in a container mount "
            "/usr/local/Ascend/driver and add its lib64/driver to LD_LIBRARY_PATH"
        )
    home = os.environ.get("ASCEND_HOME_PATH")
    if library and not home:
        return f"{library} of CANN is not found, and ASCEND_HOME_PATH is not set; {SET_ENV}"
    if library:
        return (
            f"{library} of CANN is not found, although ASCEND_HOME_PATH is {home}; source set_env.sh in that folder, "
            f"or install the complete CANN that matches {name} {_version(name)}"
        )
    if "ASCEND_" in first:
        return f"CANN's environment is incomplete ({first}); {SET_ENV}"
    return f"{name} cannot be loaded ({first})"
