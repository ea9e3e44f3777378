"""If the disk is full, commands report a one-line error and keep existing files.

Instead of filling a disk, these tests limit the size of files, which the system enforces at every write. The benchmark
`faults.py` fills real disks.
"""

import pytest
import torch
from raw_trees import assert_aligned, contents, make_tree
from small_disk import no_file_larger_than
from small_results import a_result
from tiny_store import TinyStore

from model.checkpoints.checkpoint import CheckpointFiles
from model.commands.summary import main as summarize
from model.common.errors import UserError
from model.data.raw.pretreatment import pretreat
from model.data.store import open_data
from model.export.input_files import FixedLength, write_input_files
from model.export.onnx_export import export_onnx
from model.network import GaitSet
from model.report.tables import write_results
from model.runtime.ort_runtime import OrtRuntime
from model.runtime.result_record import write_record
from model.training.log_book import LogBook


def writer(name, folder, aligned_tree, seed):
    """Return a function that writes into `folder`. Its output depends on the seed, except for the store."""
    torch.manual_seed(seed)
    network, result = GaitSet(4), a_result()
    parts = {"encoder": network.state_dict(), "optimizer": {"state": {}}, "state": {}}
    bins = folder / "b", folder / "b.info", FixedLength(5)
    return {
        "checkpoint": lambda: CheckpointFiles(folder, "x").save(1, parts, {}),
        "store": lambda: open_data(aligned_tree, folder),
        "bins": lambda: write_input_files(TinyStore(), None, *bins, quiet=True),
        "onnx": lambda: export_onnx(network, folder / "m.onnx", 1, 2, runtime=OrtRuntime),
        "record of results": lambda: write_record(folder / "r", {f"{i}": "x" * 32 for i in range(200)}, {}),
        "report": lambda: write_results(result, folder, "r", {"seed": "s" * 3000}),
    }[name]


@pytest.mark.parametrize("name", ["checkpoint", "store", "bins", "onnx", "record of results", "report"])
def test_existing_files_are_kept_and_the_error_is_one_line(aligned_tree, tmp_path, name):
    if name != "store":
        writer(name, tmp_path, aligned_tree, 0)()
    before, write = contents(tmp_path), writer(name, tmp_path, aligned_tree, 1)
    for size in (0, 100, 3000):
        with pytest.raises(UserError, match="cannot be written") as caught, no_file_larger_than(size):
            write()
        assert "\n" not in str(caught.value)
        after = contents(tmp_path)
        assert not [path for path in after if ".part" in path]
        # A report consists of several files, and each file is complete. While input files for a deployed model ("bins")
        # are written, the list of these files is deleted.
        assert after == before or name in ("report", "bins")
    write()
    assert contents(tmp_path)


def test_errors_of_the_netcdf_library_are_one_line(tmp_path):
    """The NetCDF library raises its own error, and may notice a full disk only when it closes the file."""
    pytest.importorskip("netCDF4")
    for size in (9000, 12000, 16000, 20000, 24000):
        folder = tmp_path / str(size)
        try:
            with no_file_larger_than(size):
                write_results(a_result(), folder, "r", {})
        except UserError as error:
            assert "cannot be written" in str(error)
            assert not (folder / "r.nc").exists()
    assert not (tmp_path / "9000" / "r.nc").exists(), "the smallest limit must be too small for the file"


def test_pretreatment_resumes_when_there_is_space_again(tmp_path):
    raw = make_tree(tmp_path / "raw")
    with pytest.raises(UserError, match=r"No space left|too large"), no_file_larger_than(200):
        pretreat(raw, tmp_path / "aligned", 1)
    pretreat(raw, tmp_path / "aligned", 1)
    assert_aligned(raw, tmp_path / "aligned")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_error_of_a_log_is_one_line_also_from_the_thread_of_tensorboard(tmp_path):
    book = LogBook(tmp_path)
    with pytest.raises(UserError, match=r"train\.jsonl: cannot be written"), no_file_larger_than(500):
        for iteration in range(1, 1000):
            book.write(iteration, {"hard_loss_metric": 0.1})
    with pytest.raises(UserError, match=r"train\.jsonl: cannot be written"), no_file_larger_than(0):
        LogBook(tmp_path, 5)


def test_error_of_a_summary_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["summary", str(tmp_path / "s"), "a=1\nb=2", "b=3"])
    with pytest.raises(UserError, match="cannot be written"), no_file_larger_than(3):
        summarize()
    summarize()
    assert (tmp_path / "s.txt").read_text() == "a=1\\nb=2\nb=3\n"
