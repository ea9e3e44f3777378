"""Results of the entry scripts: checkpoints, result tables, started processes, profiles, and logs of the model zoo."""

import json
import re
import shlex
from pathlib import Path

import pytest
import small_network
from scripts import load_script
from training_runs import files_of, log_points, run_test, train
from walkers import write_aligned_tree

from model.runtime.runners import run
from model.runtime.task import Task


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
    """The configuration may describe a training other than the training of these weights."""
    run_test(aligned_tree, tmp_path, "--pid_num", 3, "--checkpoint", encoder, "--json", tmp_path / "r.json")
    assert "recipe" not in json.loads((tmp_path / "r.json").read_text())["details"]


PLACE = "步态 数据 'a' \"b\" $(c) ; %s"


def save_as_in_windows(path, text):
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Glyph")  # the font of the charts has no Chinese characters
def test_torch_bins_and_onnx_runtime_give_one_table(tmp_path, monkeypatch, encoder):
    """Evaluate the same weights with whole sequences in torch, with input files, and with ONNX Runtime directly.

    The names of folders contain blanks, quotes and Chinese characters. The partition and the list have the encoding and
    the line ends of an editor for Windows.
    """
    tree = write_aligned_tree(tmp_path / PLACE / "对 齐", views=("0 90", "18"), subjects=3)
    for old, new in {"001": "张 三", "002": "李四 (2)"}.items():
        (tree / old).rename(tree / new)
    monkeypatch.chdir(tree.parent)
    people = {"TRAIN_SET": [], "TEST_SET": ["张 三", "李四 (2)", "003"]}
    save_as_in_windows(Path("分 区.json"), json.dumps(people, ensure_ascii=False, indent=1))
    export = ["--input_path", str(encoder), "--output_path", "模 型.onnx", "--batch_size", "4", "--frame_num", "8"]
    load_script("pth2onnx").main(export)
    bins = ["--bin_path", "箱 子", "--bin_frames", 8]

    def test(name, *more):
        run_test("对 齐", "工 作", "--partition", "分 区.json", "--json", f"{name}.json", *more)
        return json.loads(Path(f"{name}.json").read_text())

    tables = [
        test("torch", "--checkpoint", encoder, "--batch_size", 7),
        test("direct", "--runtime", "onnxruntime", "--checkpoint", "模 型.onnx"),
    ]
    test("b", "--pre_process", *bins)
    save_as_in_windows(Path("箱 子.info"), Path("箱 子.info").read_text())
    run(Task("onnxruntime", Path("模 型.onnx"), Path("箱 子.info"), Path("结 果"), quiet=True))
    tables.append(test("bins", "--post_process", *bins, "--result_path", "结 果", "--name", "部 署", "--report"))
    page = Path("工 作/results/部 署.html").read_text()
    assert 'class="animation"' in page, "the report shows silhouettes from bins, too"
    assert Path("工 作/results/部 署-figures/roc.png").exists()
    for table in tables:
        del table["details"]
    assert tables[0] == tables[1] == tables[2] and tables[0]["views"] == ["0 90", "18"]


def config_with(folder, text):
    (folder / "c.py").write_text(f"conf = {text}")
    return folder / "c.py"


def test_training_in_several_processes_ends_with_their_status(aligned_tree, tmp_path, monkeypatch):
    """test_launch.py tests all combinations of the configuration, the command line and a launcher."""
    calls = []
    monkeypatch.setattr("model.commands.launch.launch", lambda *launched: calls.append(launched[0]) or 7)
    config = config_with(tmp_path, "{'data': {'device_num': 3}}")
    assert train(aligned_tree, tmp_path, "--config", config) == 7 and calls == [3]


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
    """Read the log like the scripts of the zoo: the last line with each name, and the text after its separator."""
    options = ("--iters", 3, "--log_iter", 2, "--json", tmp_path / "s.json", "--zoo_log", "--zoo_path", tmp_path / "0")
    assert train(aligned_tree, tmp_path, *options) == 0
    *_, block = capsys.readouterr().out.partition("------------------ Final result ------------------\n")
    found = dict(re.fullmatch(r"([\w /]+?) ?[:=] ?(.*)", line).groups() for line in block.splitlines())
    summary = json.loads((tmp_path / "s.json").read_text())
    images = summary["sequences_per_second"] * 2 / 30  # the zoo counts sequences of 30 frames, these have 2 frames
    assert float(found["Final Performance images/sec"]) == float(found["ActualFPS"]) == pytest.approx(images, abs=1e-3)
    assert (found["RankSize"], found["BatchSize"], found["CaseName"]) == ("1", "4", "GaitSet_bs4_1p_acc")
    assert float(found["TrainingTime"]) == pytest.approx(4000 / images, abs=1e-2)
    [point] = log_points(tmp_path)
    assert float(found["ActualLoss"]) == pytest.approx(point["full_loss_metric"], rel=1e-6)
    assert list(found)[-1] == "E2ETrainingTime"
    assert (tmp_path / "0" / "GaitSet_bs4_1p_acc.log").read_text() == "".join(block.splitlines(keepends=True)[1:])

    assert train(aligned_tree, tmp_path, "--restore_iter", -1, *options[:2], "--zoo_log") == 0
    assert "ActualFPS" not in capsys.readouterr().out, "a run without iterations has no speed"

    assert train(aligned_tree, tmp_path / "short", "--iters", 2, "--zoo_log") == 0
    assert f"ActualLoss = {found['ActualLoss']}\n" in capsys.readouterr().out, "the run ended before a log point"


# Options with which the training scripts of the model zoo start train_main.py, and the values that are parsed.
NPU_PORT = {
    "--data_path /data/x --dist_backend='hccl' --world_size=1 --rank=0 --device_num=1 --local_rank=3 --batch_size_p=8 "
    "--batch_size_m=16 --total_iter=100": {"iters": 100, "local_rank": 3, "batch_size_p": 8, "batch_size_m": 16},
    "--rt2 --data_path=/data/x --iters=1000 --profiling=None --start_step=-1 --local_rank 0 --stop_step=-1": {
        "iters": 1000, "rt2": True, "profiling": False,
    },
}  # fmt: skip


def test_command_lines_of_the_npu_port_are_accepted():
    for command, expected in NPU_PORT.items():
        options = vars(load_script("train").options_parser().parse_args(shlex.split(command)))
        assert options | expected == options
