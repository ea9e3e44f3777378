"""Lists of input files: checks before a run, and runs with ONNX Runtime."""

import json

import pytest
from ascend import names_in

from model.common.errors import UserError
from model.export.manifest import read_info, write_info
from model.runtime.bin_list import check_bins
from model.runtime.info_list import run_info_list
from model.runtime.ort_runtime import OrtRuntime
from model.runtime.performance_files import read_figures
from model.runtime.runners import run_and_record

SIZE = 4 * 64 * 44 * 4  # bytes of an input file of four frames


@pytest.fixture
def run(task):
    """Return a function that runs a list with ONNX Runtime. By default, this is the list of the deployed model."""
    return lambda batch_size=1, **changes: run_and_record(task("onnxruntime", batch_size, threads=1, **changes))


def test_performance_files_agree_with_the_summary(run, tmp_path):
    summary = run(4)
    text = tmp_path / "result" / "perf_vision_batchsize_4_device_0.txt"
    stages = [line.partition("]")[0] for line in text.read_text().splitlines()]
    assert stages == ["[e2e", "[data read", "[infer", "[post"]
    figures = read_figures(text)
    assert figures.end_to_end == pytest.approx(5 / summary["seconds"], rel=1e-4)
    # Two batches of four sequences contain five sequences and three fillers.
    assert figures.device == pytest.approx(summary["inference_throughput"] * 8 / 5, rel=1e-4)
    assert summary["inference_throughput"] == pytest.approx(5000 / (2 * summary["latency_ms"]["mean"]))
    assert summary["device_throughput"] == pytest.approx(summary["inference_throughput"] * 8 / 5)
    assert sorted(summary["latency_ms"]) == ["mean", "p50", "p90", "p99"]
    assert json.loads(text.with_suffix(".json").read_text()) == summary


def test_older_results_are_removed(run, tmp_path):
    result = tmp_path / "dump"
    result.mkdir()
    (result / "0099_1.bin").write_bytes(b"of another run")
    run(result_folder=result)
    assert names_in(result) == [f"{i:04d}_1.bin" for i in range(5)]


def test_folder_with_other_files_is_not_replaced(run, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt"):
        run(result_folder=tmp_path)


def test_paths_relative_to_the_working_directory_or_the_list(deployed, run, tmp_path, monkeypatch):
    folder = deployed.folder
    write_info(folder / "relative.info", [file.relative_to(folder) for file in read_info(deployed.info)])
    for here in (folder, tmp_path):
        monkeypatch.chdir(here)
        assert run(info=folder / "relative.info")["sequences"] == 5


def test_a_refused_list_writes_no_results(run, tmp_path):
    (tmp_path / "0000.bin").write_bytes(bytes(6 * SIZE // 4))
    write_info(tmp_path / "bad.info", [tmp_path / "0000.bin"])
    with pytest.raises(UserError, match=rf"bytes \(6 frames\), but the model has {SIZE} bytes \(4 frames\)"):
        run(info=tmp_path / "bad.info")
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize("gone", [False, True])
def test_input_file_that_changes_during_the_run(tmp_path, task, gone):
    """The error of the reading thread is raised. No partial results remain, and the earlier results are kept."""
    files = [tmp_path / f"{i:04d}.bin" for i in range(6)]
    for file in files:
        file.write_bytes(bytes(SIZE))
    write_info(tmp_path / "shrinks.info", files)
    mine = task("onnxruntime", 1, info=tmp_path / "shrinks.info")
    mine.result_folder.mkdir(parents=True)
    (mine.result_folder / "0000_1.bin").write_bytes(b"of before")
    runtime = OrtRuntime(mine.model)
    run = runtime.run

    def shrinking(image_seq):
        files[5].unlink(missing_ok=True) if gone else files[5].write_bytes(b"short")
        return run(image_seq)

    runtime.run = shrinking
    with pytest.raises(UserError, match=r"0005\.bin: " + ("cannot be read" if gone else "its size changed")):
        run_info_list(runtime, mine)
    assert [path.read_bytes() for path in mine.result_folder.iterdir()] == [b"of before"]


# Checks of a list


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
        (3, 2 * FRAME, None, f"{2 * FRAME} bytes (2 frames), but {{first}} has {3 * FRAME} bytes (3 frames); use"),
        (0, 0, None, f"0 bytes ({NOT_WHOLE}), but a frame has {FRAME} bytes; create"),
        (0, 1000, None, f"1000 bytes ({NOT_WHOLE}), but a frame has {FRAME} bytes; create"),
        (1, 0, MODEL, f"0 bytes ({NOT_WHOLE}), but the model has {3 * FRAME} bytes (3 frames)"),
        (1, 1000, MODEL, f"1000 bytes ({NOT_WHOLE}), but the model has {3 * FRAME} bytes (3 frames)"),
        (0, 3 * FRAME, (100, 64, 44), f"{3 * FRAME} bytes (3 frames), but the model has {100 * FRAME} bytes (100 fra"),
        (2, None, MODEL, "listed in {info} but missing (No such file or directory); create"),
    ],
)
def test_file_of_another_size(bins, tmp_path, number, size, shape, message):
    """Without the shape of a model, all files must have the size of the first file."""
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
