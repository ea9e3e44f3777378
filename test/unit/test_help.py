"""Help as a manual page: every option is explained, every example can be run as it stands, near names are suggested."""

from __future__ import annotations

import importlib
import re
import shlex

import pytest
from scripts import ROOT, load_script, one_line_error, run_driver, run_module, run_script

PARSERS = {
    "pretreatment.py": "parser", "train.py": "options_parser", "test.py": "options_parser",
    "pth2onnx.py": "options_parser", "model.commands.embed": "options_parser", "model.runtime": "_parser",
    "model.runtime.performance": "_parser", "model.export.atc": "_parser",
    "model.synthetic": "build_parser",
}  # fmt: skip


PATHS = ("--input_path", "a", "--output_path", "b")


def parser_of(command: str):
    if command.endswith(".py"):
        return getattr(load_script(command.removesuffix(".py")), PARSERS[command])()
    main = "__main__" if (ROOT / command.replace(".", "/")).is_dir() else ""
    module = importlib.import_module(f"{command}.{main}".rstrip("."))
    return getattr(module, PARSERS[command])()


def examples(text: str) -> list[list[str]]:
    """Commands among the lines of a help text: what follows two blanks or more explains them."""
    text = re.sub(r"\\\n\s*", "", text)
    found = []
    for line in text.splitlines():
        line = line.strip()
        if re.match(r"(python|torchrun) ", line):
            found.append(shlex.split(re.split(r"\s{2,}", line)[0], comments=True))
    return found


def arguments_of(example: list[str], command: str) -> list[str] | None:
    """What the example gives to `command`; None where it is another's."""
    name = command if command.endswith(".py") else f"-m {command.replace('.commands.', '.')}"
    words = " ".join(example)
    if f" {name} " not in f"{words} ":
        return None
    return example[example.index(name.split()[-1]) + 1 :]


@pytest.mark.parametrize("command", PARSERS)
def test_every_option_is_explained_and_every_example_parses(command):
    parser = parser_of(command)
    for action in parser._actions:
        assert action.help, f"{command} {action.option_strings} has no help"
    assert "exit status: 0 done, 1" in parser.format_help()
    own = [a for a in map(lambda e: arguments_of(e, command), examples(parser.format_help())) if a is not None]
    assert len(own) >= 2, "a manual page has examples"
    for arguments in own:
        parser.parse_args([a.replace("...", "x") for a in arguments])


@pytest.mark.parametrize(
    ("run", "wrong", "near"),
    [
        (lambda *a: run_script("test.py", *a), "--raport", "--report"),
        (lambda *a: run_script("pretreatment.py", *PATHS, *a), "--worker_nums", "--worker_num"),
        (lambda *a: run_module("model.embed", "--output", "e.nc", *a), "--chekpoint", "--checkpoint"),
        (lambda *a: run_driver("quickstart.sh", *a), "--subject=3", "--subjects"),
        (lambda *a: run_driver("pth2om.sh", *a), "--soc-versoin=x", "--soc_version"),
    ],
)  # fmt: skip
def test_near_names_are_suggested(run, wrong, near):
    assert f"did you mean {near}?" in one_line_error(run(wrong), 2)
