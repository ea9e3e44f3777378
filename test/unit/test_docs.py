"""Documentation: all commands run, all links exist, and both languages have the same commands.

All commands parse as they stand, and all options that a page names exist. Python commands also run, in a copy of the
entry scripts whose configuration is tiny and whose data are a few walkers. Shell drivers run with --dry_run, and the
commands that they print parse; their real runs are in test_drivers.py. NOT_RUN gives the reason for each exception.
"""

import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import small_network
import torch
from forking import python_command
from hostile_values import DRIVERS, options_of
from module_table import PAGES as PAGES_WITH_MODULES
from module_table import with_table
from options_page import PAGE as OPTIONS_PAGE
from options_page import PARSERS, parser_of, with_tables
from scripts import ROOT, run_quietly
from torch.distributed.run import get_args_parser as torchrun_parser
from walkers import SEQ_TYPES, write_aligned_tree

from model.common.json_files import write_json
from model.data.raw.tree import scan_tree
from model.network import GaitSet

PAGES = sorted([*ROOT.glob("README*.md"), *(ROOT / "model").glob("README*.md"), *(ROOT / "model/docs").glob("*.md"),
                ROOT / "test/bench/README.md"])  # fmt: skip
FULL = "GaitSet_CASIA-B_73_False_256_0.2_128_full_30-80000-encoder.ptm"
TINY = """conf = {
    'data': {'dataset_path': 'work/CASIA-B-pre', 'pid_num': 3},
    'model': {
        'batch_size': (2, 2), 'frame_num': 2, 'total_iter': 2, 'save_iter': 2, 'hidden_dim': 8, 'channels': (4, 6, 10),
        'num_workers': 0,
    },
}
"""
# In place of matplotlib, which would draw the same charts for a minute. The tests of the report draw them.
DRAWING = """
def _drawn(chart, colours, file_format):
    return b'<svg viewBox="0 0 1 1"></svg>'
"""
SMALLER = {  # replacements for hardware, duration and size in a command
    "--nproc_per_node 8": "--nproc_per_node 2",
    "--device_num 8": "--device_num 2",
    "--device cuda:1": "--device cpu",
    "--subjects 124 --device cuda": "--subjects 1 --frames 2 --takes nm-01",
    "--subjects 50 --frames 60": "--subjects 1 --frames 2 --takes nm-01",
    "--subjects 124 --frames 80": "--subjects 1 --frames 2 --takes nm-01",
    "--subjects 124": "--subjects 1 --frames 2 --takes nm-01",
    "--subjects 4 --takes nm-01,bg-01,cl-01": "--subjects 1 --frames 2 --takes nm-01",
    "--subjects 24 --frames 20": "--subjects 4 --frames 3",
    "--pid_num 12 --device cpu": "--pid_num 2 --device cpu",
    "--batch_size_p 6 --batch_size_m 4 --frame_num 8 --iters 100": "--iters 2",
    "work/checkpoint/GaitSet/GaitSet_Synthetic-v2-encoder.ptm": "some-encoder.ptm",
    "GaitSet_Synthetic_12_False_256_0.2_24_full_8-00100": "GaitSet_Synthetic_2_False_8_0.2_4_full_2-00002",
    "/data/": "data/",
    "CASIA-B_..._30": "CASIA-B_73_False_256_0.2_128_full_30",
    "torchrun": "python -m torch.distributed.run",
    "python test.py --pre_process": "python test.py --pre_process --bin_frames 4",
    "python test.py --post_process": "python test.py --post_process --bin_frames 4",
    "python pth2onnx.py": "python pth2onnx.py --frame_num 4",
    "--frame_num 4 --frame_num 30 50 100 150": "--frame_num 4 5",
    "--frame_num 4 --whole": "--whole",
    "--frame_num 4 --int8": "--int8",
}
NOT_RUN = {
    r"python -m model\.silhouettes .*maskrcnn": "needs downloaded weights: test_mask_rcnn.py runs it with random ones",
    r"python test/bench/": "benchmarks: test_bench.py runs those with a small setting",
    r"python test/unit/support/(module_table|options_page)": "generates tables, which test_docs.py compares",
    r"python -m$": "not a complete command",
    r"python -m model\.export\.atc ": "needs CANN: test_atc_convert.py runs it with a stand-in",
    r"python datasets/|.*opengait/main\.py": "OpenGait's own command, for comparison",
    r"python test\.py --dataset CASIA-A .*--device cpu": "needs the published encoder: test_real_data.py runs it",
    r"\.venv/bin/python -m ruff": "CI runs this before the tests",
    r"python3 -m venv|\.venv/bin/pip install": "installs PyTorch from the network",
    r"\. \.venv/bin/activate": "the tests run in their environment",
    r"torchrun --nnodes|export TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "several machines: test_nodes.py runs this command",
}


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Return the commands of this repository in the code blocks and in the text of a page."""
    found = []
    for block in blocks(page):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            line = re.split(r"\s#\s|^\s*#", line)[0].rstrip()
            found += [part.strip() for part in line.split(" && ") if part.strip()]
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
    return found + [code for code in inline if re.match(r"(python3?|torchrun) \S+|bash test/\S+\.sh", code)]


def examples(driver: Path) -> list[str]:
    """Return the commands in the comment at the top of a shell driver."""
    lines = re.findall(r"^# +(bash test/.*?)(?:   .*)?$", driver.read_text(encoding="utf-8"), re.MULTILINE)
    return [part for line in lines for part in line.split(" && ")]


ALL = sorted({command for page in PAGES for command in commands(page)})
ALL_DRIVERS = sorted(
    {
        *(command for command in ALL if "bash test/" in command),
        *(command for driver in (ROOT / "test").glob("*.sh") for command in examples(driver)),
    }
)


def is_not_run(command: str) -> bool:
    return any(re.match(pattern, command) for pattern in NOT_RUN)


def smaller(command: str) -> str:
    for written, small in SMALLER.items():
        command = command.replace(written, small)
    return command


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """Entry scripts with a tiny configuration, walkers at all paths of the pages, and results."""
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
    write_raw_tree(home / "data/CASIA-B")
    for name in ("CASIA-B-pkl", "PKL"):
        (home / name).symlink_to(tree)
    (home / "RAW").symlink_to(home / "data/CASIA-B")
    write_json(home / "CASIA-B.json", {"TRAIN_SET": ["001", "002", "003"], "TEST_SET": ["004", "006"]})
    write_json(home / "mine.json", {"TRAIN_SET": ["001", "002", "003"], "TEST_SET": ["004", "006"]})
    torch.manual_seed(0)
    network = GaitSet(**small_network.conf["model"])
    for name in ("a-encoder.ptm", "b-encoder.ptm", "some-encoder.ptm", FULL):
        torch.save(network.state_dict(), home / name)
    torch.save({"model": opengait_names(network)}, home / "GaitSet-40000.pt")
    (home / "work/checkpoint/GaitSet").mkdir(parents=True)
    experiment = "GaitSet_CASIA-B_3_False_8_0.2_4_full_2"
    torch.save(network.state_dict(), home / f"work/checkpoint/GaitSet/{experiment}-80000-encoder.ptm")
    return home


def write_raw_tree(root: Path) -> None:
    import cv2

    for view in ("000", "090"):
        folder = root / "001/nm-01" / view
        folder.mkdir(parents=True)
        for number in range(5):
            image = np.zeros((240, 320), np.uint8)
            image[40:200, 140 + number : 180 + number] = 255
            cv2.imwrite(str(folder / f"001-nm-01-{view}-{number:03d}.png"), image)


def opengait_names(network: GaitSet) -> dict:
    """Our weights under the keys of OpenGait, in any order of strips: the test only loads the file."""
    state = {}
    for key, value in network.state_dict().items():
        branch, layer = re.match(r"(set|gl|fc)_(?:layer)?(\d|bin)", key).groups()
        if branch == "fc":
            state["Head.fc_bin"] = value
        else:
            block, place = divmod(int(layer) - 1, 2)
            wrapper = "forward_block." if branch == "set" else ""
            state[f"{branch}_block{block + (1 if branch == 'set' else 2)}.{wrapper}{2 * place}.conv.weight"] = value
    return state


def run(command: str, home: Path) -> subprocess.CompletedProcess:
    if re.search(r"\bbash test/", command):
        command = command.replace(".sh", ".sh --dry_run", 1)
    elif re.fullmatch(r"python (-m )?\S+", command) and not re.search(r"train\.py|pth2onnx", command):
        command += " --help"  # a mere name in a sentence
    words = shlex.split(command)
    environment = {"PYTHON": python_command(), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(python_command()).parent}:/usr/bin:/bin"
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, environment[name] = words.pop(0).partition("=")
    assert words[0] != "bash" or words[2] == "--dry_run", "a driver must not run, this suite among them"
    return run_quietly(words, home, environment)


# Later commands read what earlier ones wrote.
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


cached_parser = cache(parser_of)


def parse(command: str) -> None:
    """Parse the arguments of each of our Python commands in a line. Exits if they are wrong."""
    words = [word for word in shlex.split(command, comments=True) if word != "..."]
    for position, word in enumerate(words):
        if word in PARSERS:
            cached_parser(word).parse_args(words[position + 1 :])


def errors_of(commands: list[str], capsys) -> list[str]:
    """Parse commands. Return those that are wrong with the error."""
    wrong = []
    for command in commands:
        try:
            parse(command)
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


OTHER_OPTIONS = {  # of other programs, which no test can check
    "apex's setup.py": {"--npu_float_status"}, "OpenGait": {"--cfgs", "--phase"},
    "pip": {"--index-url", "--generate-hashes"}, "tensorboard": {"--logdir"}, "aoe": {"--job_type"},
    "atc": {"--precision_mode", "--precision_mode_v2", "--input_shape", "--framework"},
    "ais_bench": {"--divide_input", "--batchsize", "--output-dirname", "--output_dirname", "--loop"},
}  # fmt: skip


def test_every_option_that_a_page_names_exists():
    parsers = [*map(cached_parser, PARSERS), torchrun_parser()]
    known = {name for parser in parsers for action in parser._actions for name in action.option_strings}
    known |= {f"--{name}" for driver in DRIVERS for name in (*options_of(driver), "dry_run")}
    benchmarks = [file.read_text() for file in (ROOT / "test/bench").glob("*.py")]
    known |= {name for text in benchmarks for name in re.findall(r'"(--\w+)"', text)}
    defaults = [call for text in benchmarks for call in re.findall(r"parser_of\(([^)]*)", text)]
    known |= {f"--{name}" for call in defaults for name in re.findall(r"(\w+)=", call)}
    known |= set().union(*OTHER_OPTIONS.values())
    wrong = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        code = " ".join([*re.findall(r"`([^`\n]+)`", text), *blocks(page)])
        named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code))
        unknown = {name for name in named - known if name.replace("-", "_").replace("__", "--", 1) not in known}
        wrong |= {page.name: unknown} if unknown else {}
    assert wrong == {}


def test_what_is_not_run_is_named_and_still_there():
    for pattern in NOT_RUN:
        assert any(re.match(pattern, command) for command in ALL), f"{pattern}: no page has such a command any more"


def test_both_languages_have_the_same_commands():
    for page in PAGES:
        other = page.with_name(page.name.replace(".md", ".zh-CN.md"))
        if ".zh-CN" in page.name or page.parent.name == "bench":
            continue
        ours, theirs = ([re.sub(r"\s+#.*", "", block) for block in blocks(p)] for p in (page, other))
        assert ours == theirs, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_pictures_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), f"{target}: no such heading"


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_pictures_are_small():
    pictures = list((ROOT / "model/docs/pictures").iterdir())
    assert sum(path.stat().st_size for path in pictures) < 1_000_000
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert all(path.name in text for path in pictures)


@pytest.mark.parametrize("page", PAGES_WITH_MODULES, ids=lambda page: page.name)
def test_module_table_is_current(page):
    """Rewrite the tables with `python test/unit/support/module_table.py`."""
    text = page.read_text(encoding="utf-8")
    assert with_table(text) == text
    for module in (ROOT / "model").rglob("*.py"):
        assert module.name in text or module.name == "__init__.py"


def test_options_page_is_current():
    """Rewrite the tables with `python test/unit/support/options_page.py`."""
    text = OPTIONS_PAGE.read_text(encoding="utf-8")
    assert with_tables(text) == text
    assert [row for row in text.splitlines() if re.search(r"\|\s*\|$", row)] == [], "rows without a description"


def test_the_loop_that_adds_the_folder_of_the_view(tmp_path):
    text = (ROOT / "model/docs/casia-b.md").read_text(encoding="utf-8")
    loop = next(code for code in text.split("`") if code.startswith("for s in HID/"))
    for name in ("0001/003", "0001/a b"):
        (tmp_path / "HID" / name).mkdir(parents=True)
        (tmp_path / "HID" / name / "1.png").touch()
    done = subprocess.run(["bash", "-euc", loop], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [s.name for s in scan_tree(tmp_path / "HID") if s.files] == ["0001/003/000", "0001/a b/000"]
