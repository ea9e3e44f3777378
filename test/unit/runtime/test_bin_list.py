import pytest

from model.common.errors import UserError
from model.export.manifest import write_info
from model.runtime.bin_list import check_bins

FRAME = 64 * 44 * 4
NOT_WHOLE = "not a whole number of frames"
MODEL = (3, 64, 44)


@pytest.fixture
def bins(tmp_path):
    """Five input files of three frames, and their list."""
    files = [tmp_path / f"{i:04d}.bin" for i in range(5)]
    for i, file in enumerate(files):
        file.write_bytes(bytes([i]) * (3 * FRAME))
    write_info(tmp_path / "bins.info", files)
    return files


@pytest.mark.parametrize("shape", [None, MODEL])
def test_complete_list(bins, tmp_path, shape):
    assert check_bins(tmp_path / "bins.info", shape) == bins


def test_fillers_of_a_filled_list_are_omitted(bins, tmp_path):
    write_info(tmp_path / "bins16.info", [*bins, *(tmp_path / f"filler_{i:04d}.bin" for i in range(11))])
    assert check_bins(tmp_path / "bins16.info", None) == bins


@pytest.mark.parametrize(
    ("number", "size", "shape", "message"),
    [
        (3, 2 * FRAME, None, f"{2 * FRAME} bytes (2 frames), but {{first}} has {3 * FRAME} (3 frames); use the same"),
        (0, 0, None, f"0 bytes ({NOT_WHOLE}), but a frame has {FRAME} bytes; create"),
        (0, 1000, None, f"1000 bytes ({NOT_WHOLE}), but a frame has {FRAME} bytes; create"),
        (1, 0, MODEL, f"0 bytes ({NOT_WHOLE}), but the model has {3 * FRAME} (3 frames)"),
        (1, 1000, MODEL, f"1000 bytes ({NOT_WHOLE}), but the model has {3 * FRAME} (3 frames)"),
        (0, 3 * FRAME, (100, 64, 44), f"{3 * FRAME} bytes (3 frames), but the model has {100 * FRAME} (100 frames)"),
        (2, None, MODEL, "listed in {info} but missing (No such file or directory); create"),
    ],
)
def test_file_of_another_size(bins, tmp_path, number, size, shape, message):
    """Without a shape, all files must have the size of the first one."""
    bins[number].unlink() if size is None else bins[number].write_bytes(bytes(size))
    with pytest.raises(UserError) as error:
        check_bins(tmp_path / "bins.info", shape)
    expected = f"{bins[number]}: {message.format(first=bins[0], info=tmp_path / 'bins.info')}"
    assert str(error.value).startswith(expected) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["filler_0000.bin"], "contains only fillers"),
        (["0000.bin", "other/0000.bin"], "would have the same result file"),
        (["/elsewhere/0000.bin"], "is outside the folder of the list"),
        (["a/../../elsewhere/0000.bin"], "is outside the folder of the list"),
        (["x" * 3000], r"bins\.info|missing"),
        (["a\0b"], r"bins\.info|missing"),
        (["/" * 5000], r"bins\.info|missing"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_refused_names(bins, tmp_path, monkeypatch, names, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bins.info").write_text("".join(f"{i} {name} 64 64\n" for i, name in enumerate(names)))
    with pytest.raises(UserError, match=message) as error:
        check_bins(tmp_path / "bins.info", None)
    assert "\n" not in str(error.value)
