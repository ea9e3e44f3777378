"""Runs of `benchmark` on a stand-in that rejects everything that is not documented."""

import json
import platform
import subprocess

import numpy as np
import pytest
from ascend import assert_embeddings, bare_machine, executable, make_om, names_in, place_benchmark

from model.common.errors import UserError
from model.export.manifest import read_info, write_info
from model.runtime.benchmark_tool import benchmark_command, find_benchmark, run_benchmark, tool_name
from model.runtime.external_tool import Task
from model.runtime.performance_files import read_figures
from model.runtime.result_files import read_results


@pytest.fixture
def here(monkeypatch, tmp_path):
    """A folder that contains the tool, as documented."""
    bare_machine(monkeypatch, tmp_path)
    place_benchmark(tmp_path)
    return tmp_path


def task(deployed, here, model=4, **changes):
    values = {"om": deployed.om(model), "info": deployed.info, "quiet": True}
    return Task(**values | {"result_folder": here / "result" / "dumpOutput_device0"} | changes)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_embeddings_equal_torch_without_results_of_fillers(deployed, here, batch_size):
    """Five sequences in batches of four get three fillers, because the tool rejects incomplete batches."""
    summary = run_benchmark(task(deployed, here, batch_size))
    results = here / "result" / "dumpOutput_device0"
    assert names_in(results) == [f"{i:04d}_1.bin" for i in range(5)]
    embeddings, labels = read_results(results, deployed.manifest, (62, 8))
    assert_embeddings(embeddings, deployed)
    assert labels.subject.tolist() == ["0", "1", "2", "3", "4"]
    assert (summary["sequences"], summary["fillers"], summary["batch_size"]) == (5, -5 % batch_size, batch_size)


def test_figures_of_the_tool(deployed, here):
    summary = run_benchmark(task(deployed, here))
    text = here / "result" / "perf_vision_batchsize_4_device_0.txt"
    figures = read_figures(text)
    assert (summary["e2e_throughput"], summary["device_throughput"]) == (figures.end_to_end, figures.device)
    assert summary["latency_ms"] == {"mean": pytest.approx(4000 / figures.device)}
    assert json.loads(text.with_suffix(".json").read_text()) == summary
    assert names_in(here / "result") == [
        "benchmark_batchsize_4_device_0.log", "dumpOutput_device0", "dumpOutput_device0_record.json",
        "perf_vision_batchsize_4_device_0.json", "perf_vision_batchsize_4_device_0.txt",
    ]  # fmt: skip


def test_command_of_the_documents(here):
    command = benchmark_command(here / "benchmark.x86_64", "gaitset_submit.om", "CASIA-B-bin.info", 16, 0)
    assert " ".join(command[1:]) == (
        "-model_type=vision -device_id=0 -batch_size=16 -om_path=gaitset_submit.om "
        "-input_text_path=CASIA-B-bin.info -input_width=64 -input_height=64 -output_binary=True -useDvpp=False"
    )


@pytest.mark.parametrize("variant", ["inference", "broken", "none"])
def test_results_are_kept_with_an_unreadable_performance_file(deployed, here, monkeypatch, variant):
    monkeypatch.setenv("STANDIN_PERFORMANCE", variant)
    summary = run_benchmark(task(deployed, here))
    assert_embeddings(read_results(here / "result" / "dumpOutput_device0", deployed.manifest, (62, 8))[0], deployed)
    if variant == "inference":
        assert summary["device_throughput"] > 0 and summary["problem"] is None
    else:
        problem = {"broken": "device_0.txt: [e2e] throughputRate is missing", "none": "did not write"}
        assert summary["device_throughput"] is None and problem[variant] in summary["problem"]


def test_other_device(deployed, here):
    results = here / "result" / "dumpOutput_device3"
    assert run_benchmark(task(deployed, here, result_folder=results, device_id=3))["provider"] == "device 3"
    assert len(names_in(results)) == 5
    assert (here / "result" / "perf_vision_batchsize_4_device_3.txt").is_file()


def test_unusual_names_of_files_and_folders(deployed, here):
    """Blanks would split the list of the tool, and dots the names of ais_bench. Results keep the original stems."""
    folder = here / "my bins (1)"
    folder.mkdir()
    for i, entry in enumerate(read_info(deployed.info)):
        (folder / f"walk {i}.v{i}.bin").write_bytes(entry.path.read_bytes())
    write_info(here / "my list.info", [folder / f"walk {i}.v{i}.bin" for i in range(5)])
    om = here / "my model_bs4.om"
    om.write_bytes(deployed.om(4).read_bytes())
    run_benchmark(task(deployed, here, om=om, info=here / "my list.info", result_folder=here / "my result" / "dump"))
    assert names_in(here / "my result" / "dump") == [f"walk {i}.v{i}_1.bin" for i in range(5)]
    first = np.fromfile(here / "my result" / "dump" / "walk 3.v3_1.bin", "<f4").reshape(62, 8)
    np.testing.assert_allclose(first, deployed.embeddings[3], rtol=0, atol=1e-5 * np.abs(first).max())


def refusal(deployed, here, **changes):
    with pytest.raises(UserError) as error:
        run_benchmark(task(deployed, here, **changes))
    assert "\n" not in str(error.value)
    assert not (here / "result" / "dumpOutput_device0").exists()
    assert not [name for name in names_in(here / "result") if not name.endswith(".log")]
    return str(error.value)


def test_wrong_batch_size(deployed, here):
    message = refusal(deployed, here, batch_size=2)
    assert (
        f"{tool_name()} failed with exit status 1: [ERROR] size mismatch: -batch_size=2, but the model's is 4"
        in message
    )
    assert "the assumed batch size of gaitset_submit_bs4.om is 2 (--batch_size)" in message
    assert "the full output is in" in message and "benchmark_batchsize_2_device_0.log" in message


def test_om_for_another_chip_and_missing_device(deployed, here):
    om = make_om(deployed.om(1).with_suffix(".onnx"), here / "other.om", 1, soc_version="Ascend910B1")
    assert "made for Ascend910B1, this is Ascend310" in refusal(deployed, here, om=om)
    assert "device 9 is not there" in refusal(deployed, here, device_id=9)


def test_input_files_of_another_length_than_the_om(deployed, here):
    """The shape of an om file cannot be read, so the tool reports the error."""
    onnx = deployed.om(1).with_suffix(".onnx")
    (here / "0000.bin").write_bytes(bytes(6 * 64 * 44 * 4))
    write_info(here / "six.info", [here / "0000.bin"])
    om = make_om(onnx, here / "m.om", 1)
    assert "size mismatch: bins/0000.bin has 67584 bytes" in refusal(deployed, here, om=om, info=here / "six.info")


def test_missing_result_of_the_tool(deployed, here, monkeypatch):
    monkeypatch.setenv("STANDIN_LOSE", "1")
    message = refusal(deployed, here)
    assert f"{tool_name()} succeeded but wrote no result for 1 of 5 sequences (0000); see " in message


def test_tool_that_crashes_or_cannot_be_executed(deployed, here):
    executable(here / tool_name(), "#!/bin/sh\necho loading\nkill -SEGV $$\n")
    assert f"{tool_name()} was terminated by SIGSEGV: loading" in refusal(deployed, here)
    executable(here / tool_name(), "\x7fELF of another machine")
    assert "cannot be run (Exec format error)" in refusal(deployed, here)


def test_failed_run_keeps_earlier_results(deployed, here):
    results = here / "result" / "dumpOutput_device0"
    results.mkdir(parents=True)
    (results / "0000_1.bin").write_bytes(b"of before")
    with pytest.raises(UserError):
        run_benchmark(task(deployed, here, device_id=9))
    assert (results / "0000_1.bin").read_bytes() == b"of before"
    run_benchmark(task(deployed, here))
    assert len(names_in(results)) == 5


def test_search_path_of_the_tool(deployed, here, monkeypatch):
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    with pytest.raises(
        UserError, match=rf"{tool_name()} not found in the working directory, the folder of .*; set BENCHMARK_TOOL"
    ):
        find_benchmark(deployed.om(1))
    assert find_benchmark(here / "some.om") == here / tool_name()
    monkeypatch.setenv("PATH", f"{here}:/usr/bin")
    assert find_benchmark(deployed.om(1)) == here / tool_name()
    other = place_benchmark(here / "elsewhere")
    assert find_benchmark(deployed.om(1)) == other
    for given in (here, here / tool_name()):
        monkeypatch.setenv("BENCHMARK_TOOL", str(given))
        assert find_benchmark(deployed.om(1)) == here / tool_name()
    monkeypatch.setenv("BENCHMARK_TOOL", str(here / "gone"))
    with pytest.raises(UserError, match=r"benchmark\.\w+ not found in BENCHMARK_TOOL=.*gone"):
        find_benchmark(deployed.om(1))


def test_tool_that_is_not_executable(deployed, here):
    (here / tool_name()).chmod(0o644)
    with pytest.raises(UserError, match=r"not executable; run chmod \+x "):
        find_benchmark(deployed.om(1))


@pytest.mark.parametrize(
    ("machine", "name"),
    [("x86_64", "benchmark.x86_64"), ("AMD64", "benchmark.x86_64"), ("aarch64", "benchmark.aarch64"),
     ("arm64", "benchmark.aarch64")],
)  # fmt: skip
def test_tool_name_by_processor(monkeypatch, machine, name):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert tool_name() == name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"-model_type=vision": "--model_type=vision"}, "argument --model_type=vision is not -key=value"),
        ({"-device_id=0": "-device_id 0"}, "argument -device_id 0 is not -key=value"),
        ({"-output_binary=True": "-output_binary=False"}, "-output_binary=False is unknown, doubled or wrong"),
        ({"-useDvpp=False": "-useDvpp=True"}, "-useDvpp=True is unknown, doubled or wrong"),
        ({"-input_width=64": "-batch_size=4"}, "-batch_size=4 is unknown, doubled or wrong"),
        ({"-input_width=64": "-speed=9"}, "-speed=9 is unknown"),
        ({"-input_width=64": None}, "missing argument -input_width"),
        ({"-batch_size=4": "-batch_size=1"}, "size mismatch: -batch_size=1, but the model's is 4"),
    ],
)
def test_stand_in_rejects(deployed, here, changes, message):
    command = benchmark_command(here / tool_name(), deployed.om(4), deployed.info, 4, 0)
    done = subprocess.run(
        [changed for part in command if (changed := changes.get(part, part))], capture_output=True, text=True
    )
    assert done.returncode == 1 and message in done.stdout


def test_stand_in_rejects_undocumented_lists(deployed, here):
    paths = [entry.path for entry in read_info(deployed.info)]
    for lines, message in [
        ([f"{i} {p} 64 64" for i, p in enumerate(paths)], "5 inputs do not fill batches of 4"),
        ([f"0 {paths[0]} 64"], "line 1"),
        ([f"1 {paths[0]} 64 64"], "line 1"),
        ([f"0 {here}/none.bin 64 64"], "no such file"),
        ([f"{i} {paths[0]} 64 64" for i in range(4)], "two inputs of one name"),
    ]:
        (here / "l.info").write_text("".join(f"{line}\n" for line in lines))
        command = benchmark_command(here / tool_name(), deployed.om(4), here / "l.info", 4, 0)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and message in done.stdout
