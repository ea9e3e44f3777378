"""The conversion rejects invalid options, paths and command lines before a model is exported."""

import re
from pathlib import Path

import pytest
from cann_folder import write_cann
from scripts import ROOT, one_line_error, run_module

from model.common.errors import UsageError
from model.export.atc.arguments import check_options, check_path

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("precision_mode=force_fp32", "does not have the form --name=value"),
        ("--precision_mode force_fp32", "does not have the form"),
        ("--precision_mode=", "does not have the form"),
        ("--log='debug", "No closing quotation"),
        ("--soc_version=Ascend310", "--soc_version is set from"),
        ("--output=x", "--output is set from"),
        ("--auto_tune_mode=RL,GA", "aoe tunes"),
        ("--insert_op_conf=a.cfg", "change the om's input from float32"),
        ("--output_type=FP16", "change the om's output from float32"),
        ("--external_weight=1", "outside the om"),
        ("--log=info --log=debug", "--log occurs twice"),
        ("--precision_mode=force_fp32 --precision_mode_v2=origin", "exclude each other"),
    ],
)
def test_check_options_rejects(text, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        check_options(text)


@pytest.mark.parametrize("file", ["model/docs/ascend.md", "model/docs/ascend.zh-CN.md"])
def test_recommended_precision_modes_keep_float32_on_the_ai_core(file):
    """must_keep_origin_dtype moves operators to the AI CPU, or makes atc fail."""
    text = (ROOT / file).read_text(encoding="utf-8")
    recommended = re.findall(r"--precision_mode(?:_v2)?=(\w+)", text)
    assert recommended and set(recommended) <= {"force_fp32", "cube_fp16in_fp32out", "allow_fp32_to_fp16"}


@pytest.mark.parametrize("name", ["a b", "a;b", "a$(id)", "a'b", "größe", "a+b", "步，态"])
def test_check_path_rejects_characters_that_atc_does_not_accept(tmp_path, name):
    with pytest.raises(UsageError, match="use another folder"):
        check_path(tmp_path / name / "m.onnx")


def test_check_path_follows_links(tmp_path):
    (tmp_path / "a b").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a b")
    with pytest.raises(UsageError, match=r"a b/m\.onnx"):
        check_path(tmp_path / "link" / "m.onnx")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["m.ptm"], 2, "ends in .onnx"),
        (["--json=x.json"], 2, "for a single model"),
        (["--sock_version=Ascend310"], 2, "did you mean --soc_version?"),
        (["--soc_version=Ascend310"], 1, "nowhere.onnx: no such ONNX file"),
        (["--input_shape=image_seq:-1,4,8,6"], 2, "--input_shape=image_seq:-1,4,8,6: expected the name of"),
        (["--input_shape=0"], 2, "--input_shape=0: expected"),
    ],
)
def test_usage_errors_are_one_line(tmp_path, monkeypatch, arguments, status, words):
    monkeypatch.setenv("PATH", f"{write_cann(tmp_path / 'Ascend')}/latest/bin:/usr/bin:/bin")
    more = [tmp_path / "two.onnx"] if "--json=x.json" in arguments else []
    done = run_module("model.export.atc", *arguments, tmp_path / "nowhere.onnx", *more)
    assert words in one_line_error(done, status)
    assert not Path("x").exists()
