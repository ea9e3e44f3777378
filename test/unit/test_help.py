"""Help texts describe every option, their examples parse, and the error for a misspelled option suggests a name."""

import argparse
import re
import shlex
import sys

import pytest
from options_page import PARSERS, parse_command, parser_of
from scripts import ROOT, one_line_error, run_driver, run_module, run_quietly, run_script

from model import __version__

PATHS = ("--input_path", "a", "--output_path", "b")


def examples(text: str) -> list[list[str]]:
    """Return the commands in indented lines of a help text, without the comments after two or more spaces."""
    text = re.sub(r"\\\n\s*", "", text)
    commands = [line.strip() for line in text.splitlines() if re.match(r"\s+(python|torchrun) ", line)]
    return [shlex.split(re.split(r"\s{2,}", c)[0].replace("...", "x"), comments=True) for c in commands]


@pytest.mark.parametrize("command", PARSERS)
def test_every_option_has_help_and_every_example_parses(command):
    parser = parser_of(command)
    for action in parser._actions:
        assert action.help, f"{command} {action.option_strings} has no help"
    text = parser.format_help()
    assert "exit status: 0 done, 1" in text and "None" not in text
    own = [name for example in examples(text) for name in parse_command(example)]
    assert own.count(command) >= 2, "a manual page has examples"


@pytest.mark.slow
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
def test_misspelled_options_get_a_suggestion(run, wrong, near):
    assert f"did you mean {near}?" in one_line_error(run(wrong), 2)


@pytest.mark.parametrize("command", PARSERS)
def test_every_switch_takes_true_and_false_in_any_case(command):
    parser = parser_of(command)
    required = {action.dest: "x" for action in parser._actions if action.required}
    for action in parser._actions:
        action.required = False
    for action in [action for action in parser._actions if action.metavar == "True|False"]:
        for name in action.option_strings:
            for text, value in {
                name: True, f"{name}=True": True, f"{name}=TRUE": True, f"{name} true": True,
                f"{name}=False": False, f"{name} FALSE": False, f"{name} {name}=false": False,
            }.items():  # fmt: skip
                options = parser.parse_args(text.split(), argparse.Namespace(**required))
                assert getattr(options, action.dest) is value, text
        assert not getattr(parser.parse_args([], argparse.Namespace(**required)), action.dest)


@pytest.mark.parametrize("command", PARSERS)
def test_version_agrees_with_the_changelog(command, capsys):
    with pytest.raises(SystemExit) as ended:
        parser_of(command).parse_args(["--version"])
    version = capsys.readouterr().out.strip().removeprefix("GaitSet ")
    assert ended.value.code == 0 and version == __version__
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    numbers = tuple(map(int, version.split(".")[:3]))
    assert version == released[0] or (".dev" in version and numbers > tuple(map(int, released[0].split("."))))


@pytest.mark.slow
@pytest.mark.parametrize("command", PARSERS)
def test_a_missing_package_is_one_line_with_the_installation(command):
    """Python with -S finds no installed packages."""
    name = [command] if command.endswith(".py") else ["-m", command]
    arguments = PATHS if command == "pretreatment.py" else ()
    done = run_quietly([sys.executable, "-S", *name, *arguments], ROOT, {})
    assert re.search(r"has no package \w+; install .*--setup_only.*activate", one_line_error(done, 1))
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted({*PARSERS} - {"model.synthetic"}))
def test_help_answers_without_large_packages(command):
    name = [command] if command.endswith(".py") else ["-m", command]
    done = run_quietly([sys.executable, "-X", "importtime", *name, "--help"], ROOT, {})
    imported = set(re.findall(r"\| +(\w+)$", done.stderr, re.MULTILINE))
    assert done.returncode == 0 and "argparse" in imported
    assert not imported & {"matplotlib", "onnx", "onnxruntime", "torch", "xarray"}
