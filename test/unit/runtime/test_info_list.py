"""A small list with ONNX Runtime compared with PyTorch on each sequence."""

import json

import pytest
from ascend import assert_results, names_in, run_command_line

from model.common.errors import UserError
from model.export.manifest import read_info, write_info
from model.runtime import __main__ as command
from model.runtime.info_list import run_info_list
from model.runtime.ort_runtime import OrtRuntime
from model.runtime.performance_files import read_figures
from model.runtime.runners import run_and_record

SIZE = 4 * 64 * 44 * 4  # bytes of an input file of four frames


@pytest.fixture
def run(task):
    """Return a function that runs a list with ONNX Runtime, by default that of the deployed model."""
    return lambda batch_size=1, **changes: run_and_record(task("onnxruntime", batch_size, threads=1, **changes))


@pytest.fixture
def refused(run, tmp_path):
    """Return a function that requires an error for a list of some files, and no results."""

    def refused_list(error, *files):
        write_info(tmp_path / "bad.info", files)
        with pytest.raises(UserError, match=error):
            run(info=tmp_path / "bad.info")
        assert not (tmp_path / "result" / "dumpOutput_device0").exists()

    return refused_list


@pytest.mark.parametrize("batch_size", [1, 4])
def test_list_equals_torch(deployed, run, tmp_path, batch_size):
    """Five sequences in batches of four: the last batch has three fillers, which leave no result."""
    summary = run(batch_size, device_id=2)
    result = tmp_path / "result" / "dumpOutput_device0"
    assert names_in(result) == [f"{i:04d}_1.bin" for i in range(5)]
    assert_results(result, deployed)
    assert (summary["sequences"], summary["batches"]) == (5, 5 if batch_size == 1 else 2)


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
    write_info(folder / "relative.info", [entry.path.relative_to(folder) for entry in read_info(deployed.info)])
    for here in (folder, tmp_path):
        monkeypatch.chdir(here)
        assert run(info=folder / "relative.info")["sequences"] == 5


def test_missing_bin(refused, tmp_path):
    refused(r"0007\.bin: listed in .*bad\.info but missing", tmp_path / "0007.bin")


@pytest.mark.parametrize(("size", "frames"), [(6 * SIZE // 4, "6 frames"), (1000, "not a whole number of frames")])
def test_input_file_of_another_size(refused, tmp_path, size, frames):
    (tmp_path / "0000.bin").write_bytes(bytes(size))
    message = rf"0000\.bin: {size} bytes \({frames}\), but the model has {SIZE} \(4 frames\)"
    refused(message, tmp_path / "0000.bin")


def test_input_files_with_the_same_name(refused, tmp_path):
    files = [tmp_path / "0000.bin", tmp_path / "more" / "0000.bin"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(SIZE))
    refused("have the same result file", *files)


def test_list_with_files_outside_its_folder(deployed, refused, tmp_path):
    refused("is outside the folder of the list", deployed.folder / "bins" / "0000.bin")
    climbing = tmp_path / "a" / ".." / ".." / deployed.folder.name / "bins" / "0000.bin"
    refused("is outside the folder of the list", climbing)


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


def test_command(deployed, tmp_path, monkeypatch, capsys):
    arguments = ["--model", deployed.om(4).with_suffix(".onnx"), "--info", deployed.info, "--device_id", "1"]
    monkeypatch.chdir(tmp_path)
    summary = run_command_line(monkeypatch, command, *arguments, "--quiet", "--threads", "1")
    assert len(list((tmp_path / "result" / "dumpOutput_device1").iterdir())) == 5
    assert f"{summary['e2e_throughput']:.2f} sequences/s end to end" in capsys.readouterr().out
    assert (tmp_path / "result" / "perf_vision_batchsize_4_device_1.txt").is_file()
