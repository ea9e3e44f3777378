"""A small list with ONNX Runtime compared with PyTorch on each sequence."""

import json

import pytest
from ascend import names_in

from model.common.errors import UserError
from model.export.manifest import read_info, write_info
from model.runtime.info_list import run_info_list
from model.runtime.ort_runtime import OrtRuntime
from model.runtime.performance_files import read_figures
from model.runtime.runners import run_and_record

SIZE = 4 * 64 * 44 * 4  # bytes of an input file of four frames


@pytest.fixture
def run(task):
    """Return a function that runs a list with ONNX Runtime, by default that of the deployed model."""
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
    with pytest.raises(UserError, match=rf"bytes \(6 frames\), but the model has {SIZE} \(4 frames\)"):
        run(info=tmp_path / "bad.info")
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize("gone", [False, True])
def test_input_file_that_changes_during_the_run(tmp_path, task, gone):
    """An error of the reading thread is raised, and no partial results remain."""
    files = [tmp_path / f"{i:04d}.bin" for i in range(6)]
    for file in files:
        file.write_bytes(bytes(SIZE))
    write_info(tmp_path / "shrinks.info", files)
    mine = task("onnxruntime", 1, info=tmp_path / "shrinks.info")
    runtime = OrtRuntime(mine.model)
    run = runtime.run

    def shrinking(image_seq):
        files[5].unlink(missing_ok=True) if gone else files[5].write_bytes(b"short")
        return run(image_seq)

    runtime.run = shrinking
    with pytest.raises(UserError, match=r"0005\.bin: " + ("cannot be read" if gone else "its size changed")):
        run_info_list(runtime, mine)
    assert not mine.result_folder.exists()
