"""Test the documentation: links, pictures, options, current tables, and equal commands in both languages."""

import re
from pathlib import Path

import pytest
from hostile_values import DRIVERS, options_of
from module_table import PAGES as PAGES_WITH_MODULES
from module_table import with_table
from options_page import PAGE as OPTIONS_PAGE
from options_page import PARSERS, parser_of, with_tables
from pages import PAGES, blocks
from scripts import ROOT, run_quietly
from torch.distributed.run import get_args_parser as torchrun_parser

from model.data.raw.tree import scan_tree

OTHER_OPTIONS = {  # options of other programs, whose existence no test can check
    "apex's setup.py": {"--npu_float_status"}, "OpenGait": {"--cfgs", "--phase"},
    "pip": {"--index-url", "--generate-hashes"}, "tensorboard": {"--logdir"}, "aoe": {"--job_type"},
    "atc": {"--precision_mode", "--precision_mode_v2", "--input_shape", "--framework"},
    "ais_bench": {"--divide_input", "--batchsize", "--output-dirname", "--output_dirname", "--loop"},
}  # fmt: skip


def test_every_option_that_a_page_names_exists():
    parsers = [*map(parser_of, PARSERS), torchrun_parser()]
    known = {name for parser in parsers for action in parser._actions for name in action.option_strings}
    known |= {f"--{name}" for driver in DRIVERS for name in (*options_of(driver), "dry_run")}
    benchmarks = "".join(file.read_text() for file in (ROOT / "test/bench").glob("*.py"))
    known |= set(re.findall(r'"(--\w+)"', benchmarks))
    for call in re.findall(r"parser_of\(([^)]*)", benchmarks):
        known |= {f"--{name}" for name in re.findall(r"(\w+)=", call)}
    known |= set().union(*OTHER_OPTIONS.values())
    wrong = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        code = " ".join([*re.findall(r"`([^`\n]+)`", text), *blocks(page)])
        named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code))
        unknown = {name for name in named - known if name.replace("-", "_").replace("__", "--", 1) not in known}
        wrong |= {page.name: unknown} if unknown else {}
    assert wrong == {}


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
    """Return the anchors that GitHub derives from the headings of a page."""
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


def test_the_chinese_page_names_every_option_variable_and_key():
    english, chinese = (
        page.read_text(encoding="utf-8") for page in (OPTIONS_PAGE, OPTIONS_PAGE.with_suffix(".zh-CN.md"))
    )
    for pattern in (r"^\| `(--\w+)", r"`--\w+ (--\w+)", r"^\| `(\w+)` = ", r"^\| `([A-Z_0-9]+)`"):
        named = set(re.findall(pattern, english, re.MULTILINE))
        assert named and {name for name in named if not re.search(rf"`{name}\b", chinese)} == set()


def test_the_loop_that_adds_the_folder_of_the_view(tmp_path):
    text = (ROOT / "model/docs/casia-b.md").read_text(encoding="utf-8")
    loop = next(code for code in text.split("`") if code.startswith("for s in HID/"))
    for name in ("0001/003", "0001/a b"):
        (tmp_path / "HID" / name).mkdir(parents=True)
        (tmp_path / "HID" / name / "1.png").touch()
    done = run_quietly(["bash", "-euc", loop], tmp_path, {})
    assert done.returncode == 0, done.stderr
    assert [s.name for s in scan_tree(tmp_path / "HID") if s.files] == ["0001/003/000", "0001/a b/000"]
