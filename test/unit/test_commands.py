"""Errors of the entry scripts for wrong arguments or data: one line and the correct exit status."""

import json
import sys

import numpy as np
import pytest
import torch
from raw_trees import write
from scripts import ROOT, load_script, one_line_error, run_quietly, run_script
from training_runs import arguments, run_test, train
from walkers import write_aligned_tree

from model.common.errors import UsageError, UserError
from model.network import GaitSet
from model.runtime.runners import run
from model.runtime.task import Task


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train.py --cache yes", "argument --cache: must be True or False, not 'yes'"),
        ("test.py --post_process=1", "argument --post_process: must be True or False, not '1'"),
        ("train.py --iters -3", "command line: --iters must be from 1 to 1,099,511,627,776, not -3"),
        ("train.py --config nowhere.py", "--config nowhere.py: no such file"),
        ("train.py --device tpu", "--device tpu: unknown device"),
        ("train.py --world_size 2", "--world_size without --rank"),
        ("train.py --batch_size_p 1", "P at least 2"),
        ("test.py --pre_process --post_process", "one at a time"),
        ("test.py --dataset CASIA-Z", "CASIA-Z"),
        ("test.py --runtime onnxruntime --device cpu --data_path .", "give its model with --checkpoint"),
        ("pretreatment.py --input_path nowhere --output_path out", "nowhere: no such folder"),
        ("pth2onnx.py --batch_size 0", "argument --batch_size"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(command, message, tmp_path):
    assert message in one_line_error(run_script(*command.split(), cwd=tmp_path), 2)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "cuda"], "finds no cuda device on this machine"),
        (["--device", "npu"], "torch_npu"),
        (["--device", "cpu", "--amp", "apex"], "--amp apex: apex is not installed"),
    ],
)
def test_missing_devices_and_packages_are_one_line(aligned_tree, tmp_path, options, message):
    done = run_script("train.py", *arguments(aligned_tree, tmp_path), *options)
    assert message in one_line_error(done, 2)


@pytest.mark.slow
def test_failed_job_ends_with_status_1(tmp_path):
    write(tmp_path / "001" / "nm-01" / "000" / "1.png", np.zeros((240, 320), np.uint8))
    line = one_line_error(run_script("train.py", *arguments(tmp_path, tmp_path / "work")), 1)
    assert "240×320" in line and "pretreatment.py" in line


@pytest.mark.slow
def test_invalid_environment_is_one_line():
    done = run_script("train.py", WORLD_SIZE="x", RANK="0", LOCAL_RANK="0")
    assert "WORLD_SIZE='x' is not a number" in one_line_error(done, 1)


@pytest.mark.slow
def test_unwritable_work_path_is_one_line(aligned_tree, tmp_path):
    (tmp_path / "file").touch()
    done = run_script("train.py", *arguments(aligned_tree, tmp_path / "file"))
    assert "cannot be written" in one_line_error(done, 1)


def test_closed_pipe_causes_no_traceback():
    code = (
        "from model.common.errors import run_command\n"
        "run_command(lambda: [print('x' * 999) for _ in range(9999)] and None)"
    )
    command = f'"{sys.executable}" -c "{code}" | head -n 1; exit "${{PIPESTATUS[0]}}"'
    done = run_quietly(["bash", "-c", command], ROOT, {})
    assert (done.returncode, done.stderr) == (141, "")


@pytest.fixture
def files(tmp_path, encoder):
    """The paths of an encoder and of invalid files, by name."""
    paths = {name: tmp_path / name for name in ("zoe.json", "empty.json", "gone.json", "foreign.ptm", "gone.ptm")}
    paths["zoe.json"].write_text(json.dumps({"TRAIN_SET": ["001"], "TEST_SET": ["002", "zoe"]}))
    paths["empty.json"].write_text("{}")
    torch.save({"a": torch.zeros(1)}, paths["foreign.ptm"])
    other = tmp_path / "work" / "checkpoint" / "GaitSet" / "of-another-run-encoder.ptm"
    other.parent.mkdir(parents=True)
    other.touch()
    return paths | {"encoder.ptm": encoder}


def words_of(options: str, files: dict) -> list:
    return [files.get(word, word) for word in options.split()]


@pytest.mark.parametrize(
    ("script", "options", "status", "message"),
    [
        ("train", "--loss_scale 32", 2, "--loss_scale 32 needs --amp torch or apex, but this run uses float32"),
        ("train", "--amp_dtype bf16", 2, "--amp_dtype bf16 needs --amp torch, but this run uses float32"),
        ("test", "--amp off --amp_dtype fp16", 2, "--amp_dtype fp16 needs --amp torch"),
        ("train", "--batch_size_p 9", 1, r"3 subjects.*P = 9"),
        (
            "test",
            "--pid_num 4 --checkpoint encoder.ptm",
            1,
            r"no test sequences.*assigns 0 of 4 subjects to test; choose another .*--pid_num",
        ),
        ("test", "--partition zoe.json --checkpoint encoder.ptm", 1, r"zoe\.json.*1 subject not in .* \(zoe\)"),
        ("test", "--pid_num 2 --iter 500", 1, r"00500-encoder.*no such checkpoint"),
        ("test", "--pid_num 2", 1, r"no checkpoint of GaitSet_Synthetic.*--checkpoint"),
        (
            "test",
            "--pid_num 2 --checkpoint foreign.ptm",
            1,
            r"foreign\.ptm: .* dict of another network: it contains a;",
        ),
    ],
)
def test_wrong_options_and_data_are_named(aligned_tree, tmp_path, files, script, options, status, message):
    with pytest.raises(UserError, match=message) as caught:
        (train if script == "train" else run_test)(aligned_tree, tmp_path / "work", *words_of(options, files))
    assert caught.value.exit_status == status


def test_post_process_rejects_missing_results_and_a_wrong_dataset(aligned_tree, tmp_path):
    bins = ["--bin_path", tmp_path / "b", "--bin_frames", 8, "--partition", "all"]
    run_test(aligned_tree, tmp_path, "--pre_process", *bins)
    with pytest.raises(UserError, match="no result folder"):
        run_test(aligned_tree, tmp_path, "--post_process", *bins, "--result_path", tmp_path / "r")
    with pytest.raises(UsageError, match="the input files are of Synthetic"):
        load_script("test").main(["--post_process", "--dataset", "CASIA-A", "--bin_path", str(tmp_path / "b")])


@pytest.fixture(scope="module")
def own_takes(tmp_path_factory):
    """Return a function that runs a script on a tree whose takes belong to no known protocol."""
    tree = write_aligned_tree(tmp_path_factory.mktemp("own") / "tree", 5, ("walk1", "walk2", "walk3"), frames=3)
    data = ["--dataset", "mygait", "--data_path", tree, "--pid_num", 3, "--device", "cpu"]
    recipe = ["--batch_size_p", 2, "--batch_size_m", 2, "--frame_num", 2, "--iters", 1]

    def run(script, work, *options):
        words = [*data, "--work_path", work, *(recipe if script == "train" else ()), *options]
        return load_script(script).main(list(map(str, words)))

    return run


NO_PROTOCOL = "no evaluation protocol for dataset 'mygait'.*--gallery .*python -m model.embed"
TAKES = "--gallery walk1 --probe walk2"


@pytest.mark.parametrize(
    ("script", "options", "reads_data", "message"),
    [
        ("test", "--pre_process", False, NO_PROTOCOL),
        ("test", "--post_process", False, NO_PROTOCOL),
        ("test", "", False, NO_PROTOCOL),
        ("train", "--eval_iter 1", False, NO_PROTOCOL),
        ("train", "--gallery walk1 --probe walk9", True, "no probe sequence for protocol mygait: .* seq_type walk9"),
        ("test", "--gallery walk7 --probe walk2 --checkpoint encoder.ptm", True, "no gallery sequence .* walk7"),
        ("test", f"{TAKES} --checkpoint encoder.ptm --partition empty.json", False, r"empty\.json: not a partition"),
        ("train", f"{TAKES} --partition empty.json", False, r"empty\.json: not a partition"),
        ("test", f"{TAKES} --checkpoint gone.ptm", False, r"gone\.ptm: no such checkpoint"),
        ("test", f"{TAKES} --check --partition gone.json", False, r"gone\.json"),
    ],
)
def test_errors_with_own_takes_are_reported_as_early_as_possible(
    own_takes, tmp_path, files, monkeypatch, script, options, reads_data, message
):
    monkeypatch.setattr(GaitSet, "forward", lambda *_: pytest.fail("computed first"))
    with pytest.raises(UserError, match=message) as caught:
        own_takes(script, tmp_path / "work", *words_of(options, files))
    assert isinstance(caught.value, UsageError) == (message == NO_PROTOCOL)
    assert (tmp_path / "work" / "store").exists() == reads_data
    assert len(list(tmp_path.glob("work/checkpoint/**/*.ptm"))) == 1, "no checkpoint was written"


@pytest.mark.parametrize("dataset", ["mygait", "CASIA-B"])  # CASIA-B has a protocol, but with other takes
def test_training_warns_if_test_py_cannot_evaluate_it(own_takes, tmp_path, capsys, dataset):
    work = tmp_path / "100 %s"
    assert own_takes("train", work, "--dataset", dataset) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("warning: test.py will not be able") or dataset == "CASIA-B"
    assert printed.count("will not be able to evaluate this training") == 1
    assert "name the takes" in printed and f"next: python -m model.embed --checkpoint '{work}/checkpoint/" in printed


@pytest.mark.slow
def test_own_takes_are_evaluated_by_training_test_and_the_deployed_model(own_takes, tmp_path, capsys):
    named, bins = ["--gallery", "walk1", "--probe", "walk2", "ALL=walk[3-9]"], ["--bin_path", tmp_path / "bins"]
    bins += ["--bin_frames", 4]
    own_takes("train", tmp_path, *named, "--eval_iter", 1)
    assert "next: python test.py --checkpoint" in capsys.readouterr().out
    [checkpoint] = tmp_path.glob("checkpoint/GaitSet/*-00001-encoder.ptm")
    own_takes("test", tmp_path, *named, "--checkpoint", checkpoint, "--json", tmp_path / "torch.json")
    config = tmp_path / "config.py"
    config.write_text("conf = {'data': {'gallery': ['walk1'], 'probe': ['walk2', 'ALL=walk3']}}")
    more = ["--config", config, "--json", tmp_path / "config.json"]
    own_takes("test", tmp_path, "--checkpoint", checkpoint, *more)
    model = tmp_path / "m.onnx"
    load_script("pth2onnx").main(["--input_path", str(checkpoint), "--output_path", str(model), "--frame_num", "4"])
    own_takes("test", tmp_path, *named, *bins, "--pre_process")
    run(Task("onnxruntime", model, tmp_path / "bins.info", tmp_path / "result", quiet=True))
    result = ["--result_path", tmp_path / "result", "--json", tmp_path / "bins.json"]
    own_takes("test", tmp_path, *named, *bins, *result, "--post_process")

    tables = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("torch", "config", "bins")]
    assert tables[0]["rank1"] == tables[1]["rank1"] == tables[2]["rank1"]
    assert tables[0]["rank1"].keys() == {"WALK2", "ALL"}
    assert tables[0]["probes"] == {"WALK2": {"000": 2, "090": 2}, "ALL": {"000": 2, "090": 2}}
    probes = {"WALK2": ["walk2"], "ALL": ["walk3"]}
    assert tables[1]["protocol"] == {"name": "mygait", "gallery": ["walk1"], "probes": probes}


def test_check_writes_nothing(own_takes, tmp_path):
    own_takes("test", tmp_path / "work", *TAKES.split(), "--check")
    assert not list(tmp_path.iterdir())
