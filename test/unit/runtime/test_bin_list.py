import pytest

from model.common.errors import UserError
from model.export.manifest import write_info
from model.runtime.bin_list import check_bins

FRAME = 64 * 44 * 4


@pytest.fixture
def bins(tmp_path):
    files = [tmp_path / f"{i:04d}.bin" for i in range(5)]
    for i, file in enumerate(files):
        file.write_bytes(bytes([i]) * (3 * FRAME))
    write_info(tmp_path / "bins.info", files)
    return files


def refused(tmp_path, shape=None):
    with pytest.raises(UserError) as error:
        check_bins(tmp_path / "bins.info", shape)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("shape", [None, (3, 64, 44)])
def test_complete_list(bins, tmp_path, shape):
    assert check_bins(tmp_path / "bins.info", shape) == bins


def test_without_a_shape_all_files_must_have_the_size_of_the_first(bins, tmp_path):
    bins[3].write_bytes(bytes(2 * FRAME))
    message = refused(tmp_path)
    assert f"0003.bin: {2 * FRAME} bytes (2 frames), but {bins[0]} has {3 * FRAME} (3 frames); use the same" in message


@pytest.mark.parametrize("size", [0, 1000])
def test_first_file_of_incomplete_frames(bins, tmp_path, size):
    bins[0].write_bytes(bytes(size))
    message = refused(tmp_path)
    assert f"0000.bin: {size} bytes (not a whole number of frames), but a frame has {FRAME} bytes; create" in message


def test_different_number_of_frames_than_the_model(bins, tmp_path):
    message = refused(tmp_path, (100, 64, 44))
    assert f"0000.bin: {3 * FRAME} bytes (3 frames), but the model has {100 * FRAME} (100 frames)" in message


def test_fillers_of_a_filled_list_are_omitted(bins, tmp_path):
    write_info(tmp_path / "bins16.info", [*bins, *(tmp_path / f"filler_{i:04d}.bin" for i in range(11))])
    assert check_bins(tmp_path / "bins16.info", None) == bins
    write_info(tmp_path / "bins.info", [tmp_path / "filler_0000.bin"])
    assert "contains only fillers" in refused(tmp_path)


def test_invalid_file_names_are_one_line(bins, tmp_path):
    for name in ("x" * 3000, "a\0b", "/" * 5000):
        (tmp_path / "bins.info").write_text(f"0 {name}.bin 64 64\n")
        refused_by_reader = pytest.raises(UserError, match=r"bins\.info|missing")
        with refused_by_reader:
            check_bins(tmp_path / "bins.info", None)


def test_files_with_the_same_name(bins, tmp_path):
    write_info(tmp_path / "bins.info", [bins[0], tmp_path / "other" / "0000.bin"])
    assert "would have the same result file" in refused(tmp_path)
