"""Test that all commands of the documentation run.

All commands are parsed as they are written. Python commands are also run, in a copy of the entry scripts with a tiny
configuration and with a few walkers as data. Shell drivers are run with --dry_run, and the commands that they print are
parsed. test_driver_runs.py runs the drivers. NOT_RUN gives the reason for each command that is not run.
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import small_network
import torch
from forking import python_command
from opengait_network import TheirGaitSet
from options_page import PARSERS, parse_command
from pages import PAGES, commands
from raw_trees import make_tree
from scripts import ROOT, run_quietly
from walkers import SEQ_TYPES, write_aligned_tree

from model.common.json_files import write_json
from model.network import GaitSet

FULL = "GaitSet_CASIA-B_73_False_256_0.2_128_full_30-80000-encoder.ptm"
MODEL = {**small_network.conf["model"], "batch_size": (2, 2), "frame_num": 2, "total_iter": 2, "save_iter": 2}
MODEL["num_workers"] = 0
TINY = f"conf = {{'data': {{'dataset_path': 'work/CASIA-B-pre', 'pid_num': 3}}, 'model': {MODEL}}}"
# Replaces the function that draws charts with matplotlib, because drawing the same charts would take a minute. The
# tests of the report draw charts.
DRAWING = """
def _drawn(chart, colours, file_format):
    return b'<svg viewBox="0 0 1 1"></svg>'
"""
SMALLER = {  # replacements for hardware, duration and size in a command
    "--(nproc_per_node|device_num) 8": r"--\1 2",
    "--device cuda:1": "--device cpu",
    r"--subjects (124|50|4)\b( --frames \d+| --device cuda| --takes \S+)?": "--subjects 1 --frames 2 --takes nm-01",
    "--subjects 40 --frames 20": "--subjects 4 --frames 3",
    "--pid_num 20 --device cpu": "--pid_num 2 --device cpu",
    "--batch_size_p 6 --batch_size_m 4 --frame_num 8 --iters 100": "--iters 2",
    "work/checkpoint/GaitSet/GaitSet_Synthetic-v3-encoder.ptm": "unit-encoder.ptm",
    "GaitSet_Synthetic_20_False_256_0.2_24_full_8-00100": "GaitSet_Synthetic_2_False_8_0.2_4_full_2-00002",
    "/data/": "data/",
    r"CASIA-B_\.\.\._30": "CASIA-B_73_False_256_0.2_128_full_30",
    "torchrun": "python -m torch.distributed.run",
    "python test.py --(pre|post)_process": r"\g<0> --bin_frames 4",
    "python pth2onnx.py(?!.*--(frame_num|whole|int8))": r"\g<0> --frame_num 4",
    "--frame_num 30 50 100 150": "--frame_num 4 5",
}
NOT_RUN = {
    r"python -m model\.silhouettes .*maskrcnn": "needs downloaded weights: test_mask_rcnn.py runs it with random ones",
    r"python test/bench/": "benchmarks: test_bench.py runs those that have a small setting",
    r"python test/unit/support/(module_table|options_page)": "writes tables, which test_pages.py compares",
    r"python -m$": "not a complete command",
    r"python -m model\.export\.atc ": "needs CANN: test_atc_convert.py runs it with a stand-in",
    r"python datasets/|.*opengait/main\.py": "OpenGait's own command, for comparison",
    r"python test\.py --dataset CASIA-A .*--device cpu": "needs the published encoder: test_real_data.py runs it",
    r"\.venv/bin/python -m ruff": "CI runs this before the tests",
    r"python3 -m venv|\.venv/bin/pip install": "installs PyTorch from the network",
    r"\. \.venv/bin/activate": "the tests run in their environment",
    r"torchrun --nnodes|export TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "several machines: test_nodes.py runs this command",
}


def examples(driver: Path) -> list[str]:
    """Return the commands in the comment at the top of a shell driver."""
    lines = re.findall(r"^# +(bash test/.*?)(?:   .*)?$", driver.read_text(encoding="utf-8"), re.MULTILINE)
    return [part for line in lines for part in line.split(" && ")]


ALL = sorted({command for page in PAGES for command in commands(page)})
EXAMPLES = [command for driver in (ROOT / "test").glob("*.sh") for command in examples(driver)]
ALL_DRIVERS = sorted({*EXAMPLES, *(command for command in ALL if "bash test/" in command)})


def is_not_run(command: str) -> bool:
    return any(re.match(pattern, command) for pattern in NOT_RUN)


def smaller(command: str) -> str:
    for written, small in SMALLER.items():
        command = re.sub(written, small, command)
    return command


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """Return a folder with entry scripts, a tiny configuration, walkers at all paths of the pages, and checkpoints."""
    home = tmp_path_factory.mktemp("docs")
    for name in ("pretreatment.py", "train.py", "test.py", "pth2onnx.py"):
        shutil.copy(ROOT / name, home)
    for name in ("model", "test"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__", "output", "unit"))
    for name in ("config_1p.py", "config_8p.py", "config.py"):
        (home / name).write_text(TINY)
    with (home / "model/report/charts.py").open("a") as charts:
        charts.write(DRAWING)
    tree = write_aligned_tree(home / "work/CASIA-B-pre", subjects=6, seq_types=SEQ_TYPES[::2], frames=2)
    write_aligned_tree(home / "work/CASIA-A-pre", subjects=2, seq_types=SEQ_TYPES[:4], views=("000", "045"), frames=2)
    for name in ("gallery-pre", "probe-pre"):
        write_aligned_tree(home / "work" / name, seq_types=SEQ_TYPES[:2], frames=2)
    write_aligned_tree(home / "work/mygait-pre", subjects=6, seq_types=("walk1", "walk2"), frames=2)
    make_tree(home / "data/CASIA-B", sequences=2, frames=5)
    for name in ("CASIA-B-pkl", "PKL"):
        (home / name).symlink_to(tree)
    (home / "RAW").symlink_to(home / "data/CASIA-B")
    for name in ("CASIA-B.json", "mine.json"):
        write_json(home / name, {"TRAIN_SET": ["001", "002", "003"], "TEST_SET": ["004", "006"]})
    torch.manual_seed(0)
    network = GaitSet(**small_network.conf["model"])
    (home / "work/checkpoint/GaitSet").mkdir(parents=True)
    trained = "work/checkpoint/GaitSet/GaitSet_CASIA-B_3_False_8_0.2_4_full_2-80000-encoder.ptm"
    for name in ("a-encoder.ptm", "b-encoder.ptm", "some-encoder.ptm", FULL, trained):
        torch.save(network.state_dict(), home / name)
    unit = GaitSet(**small_network.conf["model"], unit_strips=True)
    torch.save(unit.state_dict(), home / "unit-encoder.ptm")
    torch.save({"model": TheirGaitSet(8, (4, 6, 10)).state_dict()}, home / "GaitSet-40000.pt")
    return home


def run(command: str, home: Path) -> subprocess.CompletedProcess:
    if re.search(r"\bbash test/", command):
        command = command.replace(".sh", ".sh --dry_run", 1)
    elif re.fullmatch(r"python (-m )?\S+", command) and not re.search(r"train\.py|pth2onnx", command):
        command += " --help"  # the page only names the command in a sentence
    words = shlex.split(command)
    environment = {"PYTHON": python_command(), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(python_command()).parent}:/usr/bin:/bin"
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, environment[name] = words.pop(0).partition("=")
    assert words[0] != "bash" or words[2] == "--dry_run", "a driver would run, and run_tests.sh would start this test"
    return run_quietly(words, home, environment)


# Commands are run in this order, because later commands read the files of earlier commands.
ORDER = (
    "model.synthetic --video", "model.silhouettes",
    "--store work/own", "pretreatment.py", "train.py", "pth2onnx.py", "--pre_process", "model.runtime --",
    "--post_process", "--json", "--compare",
)  # fmt: skip


@pytest.mark.slow
def test_every_command_of_the_pages_runs(sandbox):
    to_run = [smaller(c) for c in ALL if not is_not_run(c)]
    to_run.sort(key=lambda c: next((i for i, part in enumerate(ORDER) if part in c), len(ORDER)))
    failed = []
    for command in dict.fromkeys(to_run):
        done = run(command, sandbox)
        if done.returncode:
            failed.append(f"{command}\n    {done.stderr.strip()[-400:]}")
    assert not failed, "\n".join(failed)
    assert len(to_run) > 30


def errors_of(commands: list[str], capsys) -> list[str]:
    """Parse commands. Return each wrong command with its error."""
    wrong = []
    for command in commands:
        try:
            parse_command([word for word in shlex.split(command, comments=True) if word != "..."])
        except SystemExit:
            wrong.append(f"{command}\n    {capsys.readouterr().err}")
    return wrong


def test_every_python_command_of_the_pages_parses_as_it_stands(capsys):
    ours = [command for command in ALL if any(word in PARSERS for word in command.split())]
    # A name in a sentence, such as `python -m model.embed`, lacks the required options.
    ours = [command for command in ours if not re.fullmatch(r"python (-m )?\S+", command)]
    assert len(ours) > 40
    assert errors_of(ours, capsys) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", ALL_DRIVERS)
def test_every_driver_command_of_the_pages_starts_commands_that_parse(command, capsys):
    done = run(command, ROOT)
    assert done.returncode == 0, done.stderr
    printed = [line.removeprefix("+ ") for line in done.stdout.splitlines() if line.startswith("+ python ")]
    assert errors_of(printed, capsys) == []


def test_every_exception_is_still_on_a_page():
    for pattern in NOT_RUN:
        assert any(re.match(pattern, command) for command in ALL), f"{pattern}: no page has such a command any more"
