"""Write a folder like an installed CANN: with set_env.sh, and with the stand-ins for atc and aoe as its tools."""

import platform
import shlex
import sys
from pathlib import Path

STANDINS = Path(__file__).resolve().parent / "standins"
ARCH = f"{platform.machine()}-linux"

# Lines of the real set_env.sh. Like the real script, they read variables that may be unset.
SET_ENV = """\
if [ -n "$ZSH_VERSION" ]; then here=$(cd "$(dirname "${(%%):-%%x}")" && pwd); else
  here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
fi
export ASCEND_TOOLKIT_HOME=$here%(latest)s
export LD_LIBRARY_PATH=${ASCEND_TOOLKIT_HOME}/lib64:${ASCEND_TOOLKIT_HOME}/lib64/plugin/opskernel:$LD_LIBRARY_PATH
export PYTHONPATH=${ASCEND_TOOLKIT_HOME}/python/site-packages:$PYTHONPATH
export PATH=${ASCEND_TOOLKIT_HOME}/bin:$PATH
export ASCEND_OPP_PATH=${ASCEND_TOOLKIT_HOME}/opp
export ASCEND_HOME_PATH=${ASCEND_TOOLKIT_HOME}
echo "the environment is set"
[ -d /nowhere ] && export TOOLCHAIN_HOME=/nowhere
"""


def write_script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


def write_command(folder: Path, name: str) -> Path:
    """Write a command that runs the stand-in of this name with the interpreter of the tests."""
    return write_script(folder / name, f'exec {shlex.quote(sys.executable)} {shlex.quote(str(STANDINS / name))} "$@"')


def write_cann(folder: Path, latest: str = "latest", version: str = "8.0.0") -> Path:
    """Write a CANN to `folder`, and return `folder`.

    Args:
        latest: name of the subfolder that contains the files, as in CANN up to 8.3. If it is empty, `folder` itself
            contains the files, as in CANN from 8.5.
    """
    home = folder / latest
    write_command(home / "bin", "atc")
    write_command(home / "bin", "aoe")
    (home / ARCH).mkdir()
    (home / ARCH / "ascend_toolkit_install.info").write_text(f"package_name=Ascend-cann-toolkit\nversion={version}\n")
    (folder / "set_env.sh").write_text(SET_ENV % {"latest": f"/{latest}" if latest else ""})
    return folder
