"""Run test.py and eval_acc_perf.sh as an Ascend user does, with stand-ins for Ascend's tools."""

import json
from pathlib import Path

import pytest
import torch
from ascend import STANDINS, bare_machine, install_acl, install_ais_bench, make_om, names_in, place_benchmark
from scripts import one_line_error, run_driver, succeed, summary_of
from training_runs import run_test

from model.common.errors import UserError
from model.export.onnx_export import export_onnx
from model.network import GaitSet
from model.runtime.ort_runtime import OrtRuntime

pytestmark = pytest.mark.slow
EVERYBODY = ("--partition", "all")


@pytest.fixture(scope="module")
def user(tmp_path_factory, aligned_tree):
    """A folder with an encoder, oms and ONNX files for two frames and batch sizes 1 and 16, input files, and tools."""
    folder = tmp_path_factory.mktemp("user")
    torch.manual_seed(0)
    network = GaitSet(channels=(8, 16, 32))
    torch.save(network.state_dict(), folder / "e-encoder.ptm")
    for name, batch_size in (("gaitset_submit", 1), ("gaitset_submit_bs16", 16)):
        export_onnx(network, folder / f"{name}.onnx", batch_size, frame_num=2, runtime=OrtRuntime)
        make_om(folder / f"{name}.onnx", folder / f"{name}.om", batch_size, frames=2)
    run_test(
        aligned_tree, folder / "work", *EVERYBODY, "--pre_process", "--bin_path", folder / "bins", "--bin_frames", 2
    )
    (folder / "bin").mkdir()
    place_benchmark(folder / "bin")
    (folder / "bin" / "npu-smi").symlink_to(STANDINS / "npu-smi")
    return folder


def evaluate(folder, runtime, *more, run=succeed, **environment):
    options = ["--dataset=Synthetic", "--bin_path=bins", "--model_path=.", "--result_path=result", "--work_path=work"]
    machine = {"PATH": "/usr/bin:/bin", "PYTHONPATH": "", "HOME": str(folder)} | environment
    return run("eval_acc_perf.sh", *options, f"--runtime={runtime}", *more, cwd=folder, **machine)


@pytest.mark.parametrize(
    ("asked", "taken", "suffix", "devices"),
    [("auto", "benchmark", "_1", "1"), ("ais_bench", "ais_bench", "_0", "1,0"), ("acl", "acl", "_1", "1")],
)
def test_accuracy_and_performance_of_an_om(user, asked, taken, suffix, devices):
    tools = {"PATH": f"{user}/bin:/usr/bin:/bin", "PYTHONPATH": f"{STANDINS}/python"}
    done = evaluate(user, asked, f"--device_id={devices}", **tools, NPU_SMI_CHIPS="310,310,310,310")
    summary = summary_of("eval_acc_perf")
    for batch_size in (1, 16):
        throughput = summary[f"throughput_bs{batch_size}"]
        assert (throughput["runtime"], throughput["batch_size"], throughput["sequences"]) == (taken, batch_size, 80)
    assert summary["accuracy_bs1"]["rank1"] == summary["accuracy_bs16"]["rank1"]
    assert summary["performance"]["accuracy_agrees"] is True and "equal in all 2 files" in done.stdout
    published = {"card": "Ascend 310", "chips": 4, "throughput": {"1": 599.98, "16": 684.812}}
    assert summary["performance"]["published"][0] == published
    rows = summary["performance"]["rows"]
    assert [row["chip"] for row in rows] == ["Ascend310"] * (2 if devices == "1" else 6)
    assert [row["chips"] for row in rows] == ([1, 1] if devices == "1" else [1, 1, 2] * 2), "each chip, then their sum"
    for figure in ("599.98", "684.812", "95.512"):
        assert figure in done.stdout
    assert "310P" not in done.stdout and "T4" not in done.stdout, "only the figures of the chip found are printed"
    assert f"0079{suffix}.bin" in names_in(user / "result" / "dumpOutput_device1")


def test_om_without_a_runtime_falls_back_to_onnx(user):
    done = evaluate(user, "auto", "--batch_sizes=16", "--loop=2")
    rows = summary_of("eval_acc_perf")["performance"]["rows"]
    assert [(row["runtime"], row["batch_size"]) for row in rows] == [("onnxruntime", 16), ("onnxruntime, no data", 16)]
    assert "onnxruntime, no data" in done.stdout and summary_of("eval_acc_perf")["pure_bs16"]["loop"] == 2
    assert "runtime onnxruntime with" in done.stdout and "gaitset_submit_bs16.om is available: " in done.stdout
    assert summary_of("eval_acc_perf")["throughput_bs16"]["runtime"] == "onnxruntime"


def test_all_batch_sizes_are_rows_of_one_table(tmp_path):
    done = evaluate(tmp_path, "acl", "--batch_sizes=1,4,8,16,32,64", "--loop=50", "--device_id=2,0", "--dry_run")
    commands = [line.split() for line in done.stdout.splitlines() if line.startswith("+ python")]
    runs = [command for command in commands if "model.runtime" in command]
    sizes = ["1", "4", "8", "16", "32", "64"]
    assert [run[run.index("--batch_size") + 1] for run in runs if "--info" in run] == sizes
    assert [run[run.index("--batch_size") + 1] for run in runs if "--loop" in run] == sizes
    assert all(run[run.index("--loop") + 1] == "50" for run in runs if "--loop" in run)
    assert all(run[run.index("--device_id") + 1].replace("\\", "") == "2,0" for run in runs)
    tests = [command for command in commands if "--result_path" in command]
    assert {Path(test[test.index("--result_path") + 1]).name for test in tests} == {"dumpOutput_device2"}
    (table,) = [command for command in commands if "model.runtime.performance" in command]
    rows = [Path(word).stem for word in table[4 : table.index("--accuracy")]]
    assert rows == [f"{kind}_bs{size}" for kind in ("throughput", "pure") for size in sizes]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["ais_bench"], 1, "ais_bench not found"),
        (["auto", "--batch_sizes=4"], 1, "gaitset_submit_bs4: no om or ONNX file of this name"),
        (["tensorrt"], 2, "unknown, choose one of auto, benchmark, ais_bench, acl, onnxruntime"),
        (["auto", "--batch_sizes=1;x"], 2, "must be numbers such as 1,16"),
        (["auto", "--batch_sizes=1,4,16,4"], 2, "--batch_sizes=1,4,16,4: 4 is given twice"),
        (["auto", "--loop=0"], 2, "--loop=0: must be a number of batches above 0"),
        (["auto", "--device_id=-1"], 2, "--device_id -1: not a list of device numbers"),
        (["auto", "--bin_path=nowhere"], 1, "nowhere.info: no such file; run test/predeal.sh first"),
    ],
)
def test_errors_of_the_evaluation_are_one_line(tmp_path, options, status, message):
    for name in ("gaitset_submit.om", "gaitset_submit.onnx", "bins.info"):
        (tmp_path / name).touch()
    assert message in one_line_error(evaluate(tmp_path, *options, run=run_driver), status)


def test_table_of_every_om_runtime_equals_torch(aligned_tree, user, tmp_path, monkeypatch, capsys):
    """test.py runs each model directly, without --pre_process and --post_process.

    All sequences have eight frames, so PyTorch and the om use the same frames.
    """
    encoder, om = user / "e-encoder.ptm", tmp_path / "m_bs4.om"
    network = GaitSet(channels=(8, 16, 32))
    network.load_state_dict(torch.load(encoder))
    export_onnx(network, tmp_path / "m.onnx", 4, frame_num=8, runtime=OrtRuntime)
    make_om(tmp_path / "m.onnx", om, 4, frames=8)
    bare_machine(monkeypatch, tmp_path)
    install_ais_bench(monkeypatch)
    install_acl(monkeypatch)
    place_benchmark(tmp_path)
    tables = []
    for runtime, model in (
        ("torch", encoder), ("auto", encoder), ("benchmark", om), ("ais_bench", om), ("acl", om), ("auto", om),
    ):  # fmt: skip
        more = ["--bin_frames", 8, "--json", tmp_path / "table.json", "--runtime", runtime, "--checkpoint", model]
        run_test(aligned_tree, tmp_path / "work", *EVERYBODY, *more)
        table = json.loads((tmp_path / "table.json").read_text())
        assert table.pop("details")["model"] == str(model)
        tables.append(table)
    assert all(table == tables[0] for table in tables)
    assert "runtime acl with" in capsys.readouterr().out.split("runtime ais_bench with")[1]
    assert (tmp_path / "work" / "results" / "m_bs4.html").is_file()
    assert "deployed" not in " ".join(names_in(tmp_path / "work"))


def test_missing_deployed_model_is_reported_before_the_data_are_read(tmp_path):
    with pytest.raises(UserError, match="none: no om or ONNX file of this name"):
        run_test(tmp_path / "no data", tmp_path, *EVERYBODY, "--runtime", "auto", "--checkpoint", "none")
