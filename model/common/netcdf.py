"""Import netCDF4 without file locks, and find the reasons of failures that the HDF5 library does not report."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

_LOCKING = "HDF5_USE_FILE_LOCKING"
_PROBE = 1 << 20  # bytes of a test write; HDF5 writes metadata and chunks of about this size


def import_netcdf4() -> ModuleType:
    """Return the module `netCDF4`. Raises ImportError if it is not installed.

    The variable disables HDF5's file locks, which some network file systems do not support. HDF5 reads the variable
    when it is loaded. Locks are unnecessary here, because only temporary files that no other process opens are written.
    """
    os.environ.setdefault(_LOCKING, "FALSE")
    import netCDF4

    return netCDF4


@contextmanager
def netcdf_errors(path: Path) -> Iterator[None]:
    """Convert errors of the HDF5 library while it writes `path` to an OSError with the reason of the system.

    HDF5 itself reports a missing lock or a full disk as "Permission denied" or as an error without a reason.
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        reason = _system_reason(path)
        raise OSError(reason or f"HDF5 gives no reason: {error}") from error


def _system_reason(path: Path) -> str | None:
    """Repeat the operations of HDF5 on an existing file (write, flush, lock), and return their error.

    Return None if all operations work.
    """
    try:
        with path.open("ab", buffering=0) as file:
            file.write(bytes(_PROBE))
            os.fsync(file.fileno())
            if fcntl is not None and os.environ.get(_LOCKING, "").upper() not in ("FALSE", "0"):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # HDF5 itself still holds the lock
        return None
    except OSError as error:
        locks = f"; set {_LOCKING}=FALSE" if error.filename is None and "lock" in (error.strerror or "").lower() else ""
        return f"{error.strerror or error}{locks}"
    return None
