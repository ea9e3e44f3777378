"""Precisions by name, for older and newer versions of atc, and tuning with aoe before the conversion."""

import re
from pathlib import Path

import pytest
from ascend import run_command_line
from cann_folder import write_script

from model.common.errors import UsageError
from model.export.atc import __main__ as command
from model.export.atc.arguments import PRECISIONS
from model.export.atc.tuning import figures_of_report

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cann")]


def convert(model, monkeypatch, *arguments):
    """Run the command and return the facts that it writes."""
    monkeypatch.chdir(model.parent)
    return run_command_line(monkeypatch, command, model, "--soc_version=Ascend310P3", *arguments)


@pytest.mark.parametrize(
    ("precision", "new", "old"),
    [
        ("fp16", "--precision_mode_v2=fp16", "--precision_mode=force_fp16"),
        ("fp32", "--precision_mode_v2=cube_fp16in_fp32out", "--precision_mode=force_fp32"),
        ("mixed", "--precision_mode_v2=mixed_float16", "--precision_mode=allow_mix_precision"),
    ],
)
def test_precision_has_the_name_that_this_atc_knows(model, monkeypatch, precision, new, old):
    assert convert(model, monkeypatch, f"--precision={precision}")["options"] == [new]
    monkeypatch.setenv("ATC_STANDIN_OLD", "1")  # an older atc, which rejects the new option
    assert convert(model, monkeypatch, f"--precision={precision}")["options"] == [old]


def test_default_precision_adds_no_option(model, monkeypatch):
    assert convert(model, monkeypatch)["options"] == []
    assert not {"must_keep_origin_dtype", "origin"} & {name for names in PRECISIONS.values() for name in names.values()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision=float32"], "--precision=float32: unknown; choose one of fp16, fp32, mixed"),
        (["--precision=fp32", "--atc_options=--precision_mode_v2=origin"], "already contains --precision_mode_v2"),
        (["--precision=fp16", "--atc_options=--precision_mode=force_fp32"], "already contains --precision_mode=force"),
    ],
)  # fmt: skip
def test_invalid_precisions(model, monkeypatch, arguments, message):
    with pytest.raises(UsageError, match=message):
        convert(model, monkeypatch, *arguments)
    assert not model.with_suffix(".om").exists()


def test_aoe_tunes_before_atc_and_its_report_is_kept(cann, model, monkeypatch, capsys, tmp_path):
    """The atc of this test fails if aoe has not written its tuning results before."""
    atc = cann / "bin" / "atc"
    original = atc.read_text().partition("\n")[2]
    bank = "$HOME/Ascend/latest/data/aoe/custom/op/Ascend310P3/conv2d.json"
    write_script(atc, f'[[ "$1" == --help || -f "{bank}" ]] || exit 3\n{original}')
    monkeypatch.setenv("ASCEND_WORK_PATH", str(tmp_path))
    facts = convert(model, monkeypatch, "--aoe", "--precision=mixed")
    [tuned] = facts["aoe"]
    assert (tuned["milliseconds_before"], tuned["milliseconds_after"]) == (1.65, 1.175)
    assert tuned["report"] == str(model.with_suffix(".aoe.json"))
    log = Path(tuned["log"]).read_text()
    command_line = log.splitlines()[0]
    assert "/aoe --framework=5 --model=" in command_line and " --job_type=2 --log=error " in command_line
    assert "--input_shape=image_seq:2,4,8,6" in command_line
    assert command_line.endswith("--precision_mode=allow_mix_precision"), "aoe does not know the new option"
    assert facts["options"] == ["--precision_mode_v2=mixed_float16"] and "Aoe process finished" in log
    assert "aoe, operators: from 1.650 to 1.175 ms per batch" in capsys.readouterr().out
    assert sorted(path.name for path in model.parent.iterdir()) == [
        "facts.json", "gaitset_submit.aoe.json", "gaitset_submit.aoe.log", "gaitset_submit.atc.log",
        "gaitset_submit.om", "gaitset_submit.onnx",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (None, "aoe is not on the PATH: gaitset_submit.onnx is converted without tuning"),
        ("echo '[Aoe]Aoe process failed.'; exit 1",
         "aoe failed with status 1: gaitset_submit.onnx is converted without tuned operators"),
        ("exit 0",
         "aoe did not print `Aoe process finished`: gaitset_submit.onnx is converted without tuned operators"),
        ("kill -9 $$", "aoe failed with status -9"),
    ],
)  # fmt: skip
def test_without_a_working_aoe_the_model_is_converted_untuned(cann, model, monkeypatch, capsys, script, message):
    aoe = cann / "bin" / "aoe"
    aoe.unlink()
    if script:
        write_script(aoe, script)
    model.with_suffix(".aoe.json").write_text("of an earlier run")
    assert convert(model, monkeypatch, "--aoe")["aoe"] == []
    assert message in capsys.readouterr().out
    assert model.with_suffix(".om").is_file() and not model.with_suffix(".aoe.json").exists()


@pytest.mark.parametrize(
    ("job", "fails", "tuned"),
    [("1", "", ["subgraphs"]), ("2", "", ["operators"]), ("both", "", ["subgraphs", "operators"]),
     ("both", "1", ["operators"]), ("both", "2", ["subgraphs"])],
)  # fmt: skip
def test_job_types_of_aoe(model, monkeypatch, capsys, tmp_path, job, fails, tuned):
    """Subgraphs are tuned before operators, as CANN's guide recommends. If one job fails, the other job still runs."""
    monkeypatch.setenv("AOE_STANDIN_FAIL", fails)
    done = convert(model, monkeypatch, f"--aoe={job}")["aoe"]
    types = re.findall(r"--job_type=(\d)", model.with_suffix(".aoe.log").read_text())
    assert types == (["1", "2"] if job == "both" else [job])
    assert [facts["tuned"] for facts in done] == tuned
    suffixes = {"subgraphs": ".aoe_subgraphs.json", "operators": ".aoe.json"}
    assert [Path(facts["report"]) for facts in done] == [model.with_suffix(suffixes[name]) for name in tuned]
    assert len(list(model.parent.glob("*.aoe*.json"))) == len(tuned)
    bank = tmp_path / "home/Ascend/latest/data/aoe/custom"
    assert [(bank / kind).is_dir() for kind in ("graph", "op")] == [name in tuned for name in suffixes]
    printed = capsys.readouterr().out
    assert all(f"aoe, {name}: from 1.650" in printed for name in tuned)
    assert ("converted without tuned" in printed) == bool(fails)


def test_aoe_that_tunes_nothing(model, monkeypatch, capsys):
    monkeypatch.setenv("AOE_STANDIN_NO_REPORT", "1")
    assert convert(model, monkeypatch, "--aoe")["aoe"][0]["report"] is None
    assert "report: none, because nothing was improved" in capsys.readouterr().out


FIGURES = [f'{{"model_baseline_performance(ms)": {value}}}' for value in ('"1"', "NaN", 10**400)]


@pytest.mark.parametrize("text", ["", "[", "{}", "[1, null]", *FIGURES])
def test_reports_without_figures(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    assert figures_of_report(tmp_path / "r.json") == (None, None)
