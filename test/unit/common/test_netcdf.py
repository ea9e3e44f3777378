"""Writing NetCDF files on file systems without locks, and the reasons of failures in the messages."""

import shutil
import sys

import pytest
from scripts import BARE, ROOT, run_quietly
from small_disk import no_file_larger_than

from model.common.netcdf import netcdf_errors

pytestmark = pytest.mark.slow

# Write a file of test.py and a file of model.embed, and print the errors. In this program, flock fails with ENOLCK.
PROGRAM = """
import sys
sys.path[:0] = ["test/unit/support"]
import numpy as np
from pathlib import Path
from small_results import a_result
from model.common.errors import UserError
from model.data.index import SequenceIndex
from model.embeddings.files import write_embeddings
from model.report.tables import write_results

folder = Path(sys.argv[1])
index = SequenceIndex.from_lengths(["001"], ["nm-01"], ["000"], [3])
batches = [(np.arange(1), np.ones((1, 62, 4), np.float32))]
jobs = (
    lambda: write_results(a_result(), folder, "r", {}),
    lambda: write_embeddings(folder / "e.nc", index, batches, {}, 4),
)
for job in jobs:
    try:
        job()
    except UserError as error:
        print(error)
"""


def without_locks(folder, **environment) -> str:
    """Run PROGRAM with a flock that always fails, and return its output."""
    pytest.importorskip("netCDF4")
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace = ["strace", "-f", "-qq", "-e", "trace=flock", "-e", "inject=flock:error=ENOLCK", "-o", folder / "calls"]
    command = [*trace, sys.executable, "-c", PROGRAM, folder]
    done = run_quietly(command, ROOT, {"HOME": str(folder), "OMP_NUM_THREADS": "1", **environment}, BARE)
    if "ptrace" in done.stderr:
        pytest.skip(f"strace is not permitted here: {done.stderr}")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_files_are_written_on_a_file_system_without_locks(tmp_path):
    xarray = pytest.importorskip("xarray")
    assert without_locks(tmp_path) == ""
    with xarray.open_dataset(tmp_path / "e.nc") as file:
        assert file.embeddings.values.tolist() == [[[1] * 4] * 62]
    with xarray.open_dataset(tmp_path / "r.nc") as file:
        assert "accuracy" in file


def test_missing_locks_are_reported_if_the_user_enables_locks(tmp_path):
    reason = "cannot be written (No locks available; set HDF5_USE_FILE_LOCKING=FALSE)"
    expected = "".join(f"{tmp_path / name}: {reason}\n" for name in ("r.nc", "e.nc"))
    assert without_locks(tmp_path, HDF5_USE_FILE_LOCKING="TRUE") == expected
    assert not list(tmp_path.glob("*.nc")) and not list(tmp_path.glob(".*"))


def test_the_reason_of_the_system_is_reported_for_a_full_disk(tmp_path):
    """The test limits the size of files instead of filling a disk."""
    netcdf4 = pytest.importorskip("netCDF4")
    path = tmp_path / "a.nc"
    path.touch()
    with no_file_larger_than(100), pytest.raises(OSError, match=r"^File too large$"), netcdf_errors(path):
        netcdf4.Dataset(path, "w").close()


def test_error_of_hdf5_is_reported_if_the_system_gives_no_reason(tmp_path):
    path = tmp_path / "a.nc"
    path.touch()
    with pytest.raises(OSError, match=r"^HDF5 gives no reason: NetCDF: HDF error$"), netcdf_errors(path):
        raise RuntimeError("NetCDF: HDF error")
