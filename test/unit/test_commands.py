"""Errors of the entry scripts for wrong arguments or data: one line and the correct exit status."""

import json
import re
import shlex
import subprocess
import sys

import cv2
import numpy as np
import pytest
import small_network
import torch
from scripts import ROOT, load_script, one_line_error, run_script
from training_runs import arguments, files_of, train
from walkers import write_aligned_tree

from model.common.errors import UsageError, UserError
from model.network import GaitSet
from model.runtime.runners import run
from model.runtime.task import Task


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("encoder") / "some-encoder.ptm"
    torch.save(GaitSet(channels=(8, 16, 32)).state_dict(), path)
    return path


def options_of_test(tree, work, *more):
    return [
        "--device",
        "cpu",
        "--dataset",
        "Synthetic",
        "--data_path",
        str(tree),
        "--work_path",
        str(work),
        *map(str, more),
    ]


def run_test(tree, work, *more):
    return load_script("test").main(options_of_test(tree, work, *more))


@pytest.mark.slow
@pytest.mark.parametrize("script", ["pretreatment.py", "train.py", "test.py", "pth2onnx.py"])
def test_help_succeeds_and_names_the_command(script):
    done = run_script(script, "--help")
    assert done.returncode == 0
    assert f"python {script}" in done.stdout
    assert "None" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        ("train.py", ["--iterz", 3], "did you mean --iters?"),
        ("train.py", ["--cache", "yes"], "argument --cache: must be True or False, not 'yes'"),
        ("test.py", ["--post_process=1"], "argument --post_process: must be True or False, not '1'"),
        ("train.py", ["--iters", "-3"], "argument --iters/--total_iter: must be a whole number above 0"),
        ("train.py", ["--config", "nowhere.py"], "--config nowhere.py: no such file"),
        ("train.py", ["--device", "tpu"], "--device tpu: unknown device"),
        ("train.py", ["--world_size", 2], "--world_size without --rank"),
        ("train.py", ["--batch_size_p", 1], "P at least 2"),
        ("test.py", ["--pre_process", "--post_process"], "one at a time"),
        ("test.py", ["--dataset", "CASIA-Z"], "CASIA-Z"),
        (
            "test.py",
            ["--runtime", "onnxruntime", "--device", "cpu", "--data_path", "."],
            "give its model with --checkpoint",
        ),
        ("pretreatment.py", ["--input_path", "nowhere", "--output_path", "out"], "nowhere: no such folder"),
        ("pth2onnx.py", ["--batch_size", 0], "argument --batch_size"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(script, options, message, tmp_path):
    assert message in one_line_error(run_script(script, *options, cwd=tmp_path), 2)


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        ("train", ["--loss_scale", 32], "--loss_scale 32 needs --amp torch or apex, but this run uses float32"),
        ("train", ["--amp_dtype", "bf16"], "--amp_dtype bf16 needs --amp torch, but this run uses float32"),
        ("test", ["--amp", "off", "--amp_dtype", "fp16"], "--amp_dtype fp16 needs --amp torch"),
    ],
)
def test_precision_options_without_effect_are_refused(script, options, message):
    with pytest.raises(UsageError, match=message):
        load_script(script).main(list(map(str, options)))


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
    (tmp_path / "001" / "nm-01" / "000").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "001" / "nm-01" / "000" / "1.png"), np.zeros((240, 320), np.uint8))
    line = one_line_error(run_script("train.py", *arguments(tmp_path, tmp_path / "work")), 1)
    assert "240×320" in line and "pretreatment.py" in line


def test_too_few_subjects_for_a_batch(aligned_tree, tmp_path):
    with pytest.raises(UserError, match=r"3 subjects.*P = 9"):
        train(aligned_tree, tmp_path, "--batch_size_p", 9)


def test_no_subject_left_to_test(aligned_tree, tmp_path, encoder):
    with pytest.raises(UserError, match=r"no test sequences.*assigns 0 of 4 subjects"):
        run_test(aligned_tree, tmp_path, "--pid_num", 4, "--checkpoint", encoder)


def test_partition_with_unknown_subjects(aligned_tree, tmp_path, encoder):
    partition = tmp_path / "p.json"
    partition.write_text(json.dumps({"TRAIN_SET": ["001"], "TEST_SET": ["002", "zoe"]}))
    with pytest.raises(UserError, match=r"p\.json.*1 subjects are not in the data \(zoe\)"):
        run_test(aligned_tree, tmp_path, "--partition", partition, "--checkpoint", encoder)


def test_missing_checkpoint_names_the_folder(aligned_tree, tmp_path):
    with pytest.raises(UserError, match=r"00500-encoder.*no such checkpoint"):
        run_test(aligned_tree, tmp_path, "--pid_num", 2, "--iter", 500)
    other = tmp_path / "checkpoint" / "GaitSet" / "of-another-run-encoder.ptm"
    other.parent.mkdir(parents=True)
    other.touch()
    with pytest.raises(UserError, match=r"no checkpoint of GaitSet_Synthetic.*--checkpoint"):
        run_test(aligned_tree, tmp_path, "--pid_num", 2)


def test_foreign_checkpoint_names_keys(aligned_tree, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "foreign.ptm")
    with pytest.raises(UserError, match=r"foreign\.ptm: is the state dict of another network: it contains a;"):
        run_test(aligned_tree, tmp_path, "--pid_num", 2, "--checkpoint", tmp_path / "foreign.ptm")


def test_post_process_without_results(aligned_tree, tmp_path, encoder):
    bins = ["--bin_path", tmp_path / "b", "--bin_frames", 8, "--partition", "all"]
    run_test(aligned_tree, tmp_path, "--pre_process", *bins)
    with pytest.raises(UserError, match="no result folder"):
        run_test(aligned_tree, tmp_path, "--post_process", *bins, "--result_path", tmp_path / "r")
    with pytest.raises(UsageError, match="bins of Synthetic"):
        load_script("test").main(["--post_process", "--dataset", "CASIA-A", "--bin_path", str(tmp_path / "b")])


def test_train_then_test_finds_the_checkpoint_and_writes_every_form(aligned_tree, tmp_path, capsys):
    assert train(aligned_tree, tmp_path, "--iters", 2) == 0
    recipe = tmp_path / "recipe.py"
    model = {**small_network.conf["model"], "batch_size": (2, 2), "frame_num": 2}
    recipe.write_text(f"conf = {{'data': {{'pid_num': 3}}, 'model': {model}}}")
    run_test(aligned_tree, tmp_path, "--config", recipe, "--json", tmp_path / "r.json")
    printed = capsys.readouterr().out
    assert "===Rank-1 (Include identical-view cases)===" in printed
    assert "published" not in printed  # the published figures are for CASIA-B
    stem = files_of(tmp_path).part(2, "encoder").name.removesuffix("-encoder.ptm")
    assert {p.name for p in (tmp_path / "results").iterdir()} == {
        f"{stem}{s}" for s in (".json", ".csv", ".nc", ".html")
    }
    figures = json.loads((tmp_path / "r.json").read_text())
    assert set(figures["rank1"]) == {"NM", "BG", "CL"}
    assert figures["details"]["model"].endswith("-00002-encoder.ptm")
    assert figures["details"]["recipe"]["total_iter"] == 2 and figures["details"]["recipe"]["lr"] == 1e-4


def test_result_has_no_recipe_if_the_training_is_unknown(aligned_tree, tmp_path, encoder):
    """The configuration describes the next training, not the training of these weights."""
    run_test(aligned_tree, tmp_path, "--pid_num", 3, "--checkpoint", encoder, "--json", tmp_path / "r.json")
    assert "recipe" not in json.loads((tmp_path / "r.json").read_text())["details"]


def test_published_figures_are_printed_next_to_ours_for_casia_b(aligned_tree, tmp_path, encoder, capsys):
    load_script("test").main(
        [
            *options_of_test(aligned_tree, tmp_path, "--partition", "all", "--checkpoint", encoder),
            "--dataset",
            "CASIA-B",
        ]
    )
    printed = capsys.readouterr().out
    for figure in ("95.405", "88.284", "72.041", "94.964", "87.239", "70.355", "95.512", "93.744"):
        assert figure in printed


@pytest.mark.slow
def test_torch_bins_and_onnx_runtime_give_one_table(aligned_tree, tmp_path, encoder):
    """Evaluate the same weights with whole sequences in torch, with bins, and with ONNX Runtime directly."""
    model, bins = tmp_path / "m.onnx", ["--bin_path", tmp_path / "bins", "--bin_frames", 8]
    load_script("pth2onnx").main(
        ["--input_path", str(encoder), "--output_path", str(model), "--batch_size", "4", "--frame_num", "8"]
    )
    common = ["--partition", "all", "--json"]
    run_test(aligned_tree, tmp_path, *common, tmp_path / "torch.json", "--checkpoint", encoder, "--batch_size", 7)
    run_test(
        aligned_tree, tmp_path, *common, tmp_path / "direct.json", "--runtime", "onnxruntime", "--checkpoint", model
    )
    run_test(aligned_tree, tmp_path, *common, tmp_path / "b.json", "--pre_process", *bins)
    run(Task("onnxruntime", model, tmp_path / "bins.info", tmp_path / "result", quiet=True))
    run_test(
        aligned_tree,
        tmp_path,
        *common,
        tmp_path / "bins.json",
        "--post_process",
        *bins,
        "--result_path",
        tmp_path / "result",
        "--report",
    )
    page = (tmp_path / "results" / "Synthetic-deployed.html").read_text()
    assert 'class="animation"' in page, "the report shows silhouettes from bins, too"
    assert (tmp_path / "results" / "Synthetic-deployed-figures" / "roc.png").exists()
    tables = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("torch", "direct", "bins")]
    for table in tables:
        del table["details"]
    assert tables[0] == tables[1] == tables[2]


@pytest.mark.slow
def test_invalid_environment_is_one_line(tmp_path):
    assert "WORLD_SIZE='x' is not a number" in one_line_error(
        run_script("train.py", WORLD_SIZE="x", RANK="0", LOCAL_RANK="0"), 1
    )


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
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.fixture(scope="module")
def own_takes(tmp_path_factory):
    """Return the options for a tree whose takes belong to no known protocol."""
    tree = write_aligned_tree(tmp_path_factory.mktemp("own") / "tree", 5, ("walk1", "walk2", "walk3"), frames=3)
    return ["--dataset", "mygait", "--data_path", str(tree), "--pid_num", "3", "--device", "cpu"]


RECIPE = ["--batch_size_p", "2", "--batch_size_m", "2", "--frame_num", "2", "--iters", "1"]


@pytest.mark.slow
def test_own_takes_are_evaluated_by_training_test_and_the_deployed_model(own_takes, tmp_path, capsys):
    script, named = load_script("test"), ["--gallery", "walk1", "--probe", "walk2", "ALL=walk[3-9]"]
    work, bins = ["--work_path", str(tmp_path)], ["--bin_path", str(tmp_path / "bins"), "--bin_frames", "4"]
    load_script("train").main([*own_takes, *named, *work, *RECIPE, "--eval_iter", "1"])
    printed = capsys.readouterr().out
    assert "next: python test.py --checkpoint" in printed
    checkpoint = next((tmp_path / "checkpoint/GaitSet").glob("*-00001-encoder.ptm"))

    encoder = ["--checkpoint", str(checkpoint)]
    script.main([*own_takes, *named, *work, *encoder, "--json", str(tmp_path / "torch.json")])
    config = tmp_path / "config.py"
    config.write_text("conf = {'data': {'gallery': ['walk1'], 'probe': ['walk2', 'ALL=walk3']}}")
    script.main([*own_takes, *work, *encoder, "--config", str(config), "--json", str(tmp_path / "config.json")])
    model = tmp_path / "m.onnx"
    load_script("pth2onnx").main(["--input_path", str(checkpoint), "--output_path", str(model), "--frame_num", "4"])
    script.main([*own_takes, *named, *work, *bins, "--pre_process"])
    run(Task("onnxruntime", model, tmp_path / "bins.info", tmp_path / "result", quiet=True))
    result = ["--result_path", str(tmp_path / "result"), "--json", str(tmp_path / "bins.json")]
    script.main([*own_takes, *named, *work, *bins, *result, "--post_process"])

    tables = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("torch", "config", "bins")]
    assert tables[0]["rank1"] == tables[1]["rank1"] == tables[2]["rank1"]
    assert tables[0]["rank1"].keys() == {"WALK2", "ALL"}
    assert tables[0]["probes"] == {"WALK2": {"000": 2, "090": 2}, "ALL": {"000": 2, "090": 2}}
    assert tables[1]["protocol"] == {
        "name": "mygait", "gallery": ["walk1"], "probes": {"WALK2": ["walk2"], "ALL": ["walk3"]},
    }  # fmt: skip


def test_data_without_a_protocol_are_referred_to_model_embed(own_takes, tmp_path, capsys):
    missing = "no evaluation protocol for dataset 'mygait'.*--gallery .*python -m model.embed"
    for options in (["--pre_process"], ["--post_process"], []):
        with pytest.raises(UsageError, match=missing):
            load_script("test").main([*own_takes, *options])
    training = [*own_takes, "--work_path", str(tmp_path), *RECIPE]
    with pytest.raises(UsageError, match=missing):
        load_script("train").main([*training, "--eval_iter", "1"])
    with pytest.raises(UserError, match="no probe sequence for protocol mygait: it needs seq_type walk9"):
        load_script("train").main([*training, "--gallery", "walk1", "--probe", "walk9"])
    assert not list((tmp_path / "checkpoint").rglob("*.ptm"))
    for dataset in ("mygait", "CASIA-B"):  # CASIA-B has a protocol, but of other takes
        capsys.readouterr()
        assert load_script("train").main([*training, "--dataset", dataset]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith("warning: test.py will not be able") or dataset == "CASIA-B"
        assert printed.count("will not be able to evaluate this training") == 1
        assert "name the takes" in printed and "next: python -m model.embed --checkpoint" in printed


def test_missing_takes_are_reported_before_the_embedding(own_takes, tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(GaitSet, "forward", lambda *_: pytest.fail("embedded first"))
    options = [*own_takes, "--work_path", str(tmp_path), "--checkpoint", str(encoder)]
    with pytest.raises(UserError, match="no gallery sequence for protocol mygait: it needs seq_type walk7"):
        load_script("test").main([*options, "--gallery", "walk7", "--probe", "walk2"])


def test_check_reads_the_partition_and_does_nothing_else(own_takes, tmp_path):
    named = ["--gallery", "walk1", "--probe", "walk2", "--work_path", str(tmp_path / "work")]
    load_script("test").main([*own_takes, *named, "--check"])
    with pytest.raises(UserError, match=r"p\.json"):
        load_script("test").main([*own_takes, *named, "--check", "--partition", str(tmp_path / "p.json")])
    assert not list(tmp_path.iterdir())


def test_missing_and_damaged_files_are_reported_before_the_store_is_built(own_takes, tmp_path, encoder):
    (tmp_path / "p.json").write_text("{}")
    options = [*own_takes, "--work_path", str(tmp_path / "work"), "--partition", str(tmp_path / "p.json")]
    for script, more in (("test", ["--checkpoint", str(encoder)]), ("train", RECIPE)):
        with pytest.raises(UserError, match=r"p\.json: not a partition"):
            load_script(script).main([*options, "--gallery", "walk1", "--probe", "walk2", *more])
    options = [*own_takes, "--work_path", str(tmp_path / "work"), "--checkpoint", str(tmp_path / "gone.ptm")]
    with pytest.raises(UserError, match=r"gone\.ptm: no such checkpoint"):
        load_script("test").main([*options, "--gallery", "walk1", "--probe", "walk2"])
    assert not (tmp_path / "work" / "store").exists()


def config_with(folder, text):
    (folder / "c.py").write_text(f"conf = {text}")
    return folder / "c.py"


@pytest.mark.parametrize(
    ("options", "started", "expected"),
    [
        ((), {}, 3),
        (("--device_num", 2), {}, 2),
        (("--device_num", 1), {}, None),
        ((), {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, None),
    ],
    ids=["config", "option", "one", "launched"],
)
def test_device_num_of_the_config_starts_processes(aligned_tree, tmp_path, monkeypatch, options, started, expected):
    """The command line and a launcher have priority over the configuration."""
    calls = []
    monkeypatch.setattr("model.commands.launch.launch", lambda *launched: calls.append(launched[0]) or 7)
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    config = config_with(tmp_path, "{'data': {'device_num': 3}}")
    status = train(aligned_tree, tmp_path, "--config", config, "--iters", 1, "--performance", *options)
    assert (calls, status) == (([expected], 7) if expected else ([], 0))


@pytest.mark.slow
def test_command_line_has_priority_over_the_profiling_of_the_config(aligned_tree, tmp_path, capsys):
    config = config_with(tmp_path, "{'profiling': 'CANN', 'start_step': 2, 'stop_step': 2}")
    options = ("--config", config, "--iters", 3, "--performance")
    assert train(aligned_tree, tmp_path, *options) == 0
    assert "profiled iterations 2 to 2 of this run" in capsys.readouterr().out
    assert train(aligned_tree, tmp_path, *options, "--stop_step", 3) == 0
    assert "profiled iterations 2 to 3 of this run" in capsys.readouterr().out
    assert train(aligned_tree, tmp_path, *options, "--profiling=None") == 0
    assert "profiled" not in capsys.readouterr().out


def test_zoo_log_ends_with_the_lines_of_the_model_zoo(aligned_tree, tmp_path, capsys):
    """Read the log like the collectors of the zoo: the last line of each name, and the text after its separator."""
    options = ("--iters", 3, "--log_iter", 2, "--json", tmp_path / "s.json", "--zoo_log", "--zoo_path", tmp_path / "0")
    assert train(aligned_tree, tmp_path, *options) == 0
    *_, block = capsys.readouterr().out.partition("------------------ Final result ------------------\n")
    found = dict(re.fullmatch(r"([\w /]+?) ?[:=] ?(.*)", line).groups() for line in block.splitlines())
    summary = json.loads((tmp_path / "s.json").read_text())
    images = summary["sequences_per_second"] * 2 / 30  # of 2 frames instead of 30
    assert float(found["Final Performance images/sec"]) == float(found["ActualFPS"]) == pytest.approx(images, abs=1e-3)
    assert (found["RankSize"], found["BatchSize"], found["CaseName"]) == ("1", "4", "GaitSet_bs4_1p_acc")
    assert float(found["TrainingTime"]) == pytest.approx(4000 / images, abs=1e-2)
    [point] = [json.loads(line) for line in next(tmp_path.glob("log/*/train.jsonl")).open()]
    assert float(found["ActualLoss"]) == pytest.approx(point["full_loss_metric"], rel=1e-6)
    assert list(found)[-1] == "E2ETrainingTime"
    assert (tmp_path / "0" / "GaitSet_bs4_1p_acc.log").read_text() == "".join(block.splitlines(keepends=True)[1:])

    assert train(aligned_tree, tmp_path, "--restore_iter", -1, *options[:2], "--zoo_log") == 0
    assert "ActualFPS" not in capsys.readouterr().out, "a run without iterations has no speed"

    assert train(aligned_tree, tmp_path / "short", "--iters", 2, "--zoo_log") == 0
    assert f"ActualLoss = {found['ActualLoss']}\n" in capsys.readouterr().out, "the run ended before a log point"


def test_command_lines_of_the_npu_port_are_accepted(tmp_path):
    """The training scripts of the model zoo start its train_main.py with these options."""
    parse = load_script("train").options_parser().parse_args
    one = parse(
        shlex.split(
            "--data_path /data/x --dist_backend='hccl' --world_size=1 --rank=0 --device_num=1 --local_rank=3 "
            "--batch_size_p=8 --batch_size_m=16 --total_iter=100"
        )
    )
    assert (one.iters, one.local_rank, one.batch_size_p, one.batch_size_m) == (100, 3, 8, 16)
    two = parse(
        shlex.split(
            "--rt2 --data_path=/data/x --iters=1000 --profiling=None --start_step=-1 --local_rank 0 --stop_step=-1"
        )
    )
    assert (two.iters, two.rt2, two.profiling) == (1000, True, False)
