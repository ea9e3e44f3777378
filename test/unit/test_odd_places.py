"""The whole chain in folders with blanks, quotes and Chinese characters, with lists that a Windows editor has saved."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from raw_trees import silhouette, write
from scripts import ROOT, load_script

from model.network import GaitSet
from model.report.tables import write_results
from model.runtime.runners import run
from model.runtime.task import Task

PLACE = "步态 数据 'a' \"b\" $(c) ; %s"


@pytest.mark.slow
def test_the_whole_chain_works_in_a_place_of_any_name(tmp_path, monkeypatch):
    place = tmp_path / PLACE
    for subject in ("张 三", "李四 (2)"):
        for take in ("nm-01", "nm-05"):
            for frame in range(5):
                write(place / "raw" / subject / take / "0 90" / f"帧 {frame}.png", silhouette(frame + len(subject)))
    monkeypatch.chdir(place)
    options = ["--input_path=raw", "--output_path=对 齐", "--worker_num=1", "--quiet"]
    monkeypatch.setattr("sys.argv", ["pretreatment.py", *options])
    assert load_script("pretreatment").main() == 0
    partition = json.dumps({"TRAIN_SET": [], "TEST_SET": ["张 三", "李四 (2)"]}, ensure_ascii=False, indent=1)
    Path("分 区.json").write_bytes(b"\xef\xbb\xbf" + partition.replace("\n", "\r\n").encode())
    torch.save(GaitSet(256).state_dict(), "编 码-encoder.ptm")
    export = ["--input_path", "编 码-encoder.ptm", "--output_path", "模 型.onnx", "--frame_num", "5"]
    load_script("pth2onnx").main(export)
    common = ["--device", "cpu", "--dataset", "Synthetic", "--data_path", "对 齐", "--partition", "分 区.json"]
    common += ["--work_path", "工 作", "--bin_path", "箱 子", "--bin_frames", "5", "--quiet"]
    load_script("test").main([*common, "--pre_process"])
    lines = Path("箱 子.info").read_text().splitlines()
    Path("箱 子.info").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    run(Task("onnxruntime", Path("模 型.onnx"), Path("箱 子.info"), Path("结 果"), quiet=True))
    results = ["--result_path", "结 果", "--name", "部 署"]
    load_script("test").main([*common, "--post_process", *results, "--json", "a.json"])
    load_script("test").main([*common, "--checkpoint", "编 码-encoder.ptm", "--json", "b.json"])
    deployed, direct = (json.loads(Path(name).read_text()) for name in ("a.json", "b.json"))
    assert deployed["rank1"] == direct["rank1"] and direct["views"] == ["0 90"]
    assert {path.suffix for path in Path("工 作/results").glob("部 署.*")} >= {".json", ".csv", ".html"}


def test_names_from_the_data_are_text_on_the_page_and_not_part_of_it(tmp_path):
    from small_results import a_result

    result = a_result()
    hostile = '<script>alert("x")</script>'
    object.__setattr__(result, "views", (hostile,))
    object.__setattr__(result, "notes", (hostile, "'\"><img src=x onerror=y>"))
    page = write_results(result, tmp_path, "r", {"command": hostile, hostile: [hostile]})["html"].read_text()
    assert "<script" not in page and "<img" not in page and page.count("&lt;script&gt;") >= 4


UNKNOWN_USER = ("unshare", "--user", "--map-user=54321")


@pytest.fixture
def as_unknown_user(tmp_path):
    """Return a function that runs a script in a read-only folder, without HOME, as a user without a name."""
    if shutil.which("unshare") is None or subprocess.run([*UNKNOWN_USER, "true"], check=False).returncode:
        pytest.skip("user namespaces are not permitted here")
    folder = tmp_path / "read_only"
    folder.mkdir(mode=0o555)
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(script, *arguments):
        command = [*UNKNOWN_USER, sys.executable, ROOT / script, *map(str, arguments)]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert list(folder.iterdir()) == []
        return done.stdout

    return run


@pytest.mark.slow
def test_commands_run_in_a_read_only_folder_without_a_home(as_unknown_user, tmp_path):
    for subject, seq_type in ((a, b) for a in ("001", "002") for b in ("nm-01", "nm-05")):
        for frame in range(6):
            write(tmp_path / "raw" / subject / seq_type / "090" / f"{frame}.png", silhouette(frame + int(subject)))
    raw, aligned = tmp_path / "raw", tmp_path / "aligned"
    out = as_unknown_user("pretreatment.py", "--input_path", raw, "--output_path", aligned, "--log", "True")
    assert f"the log is {aligned}/pretreatment.log" in out
    assert "--FINISH--" in (aligned / "pretreatment.log").read_text()
    torch.save(GaitSet(256).state_dict(), tmp_path / "e-encoder.ptm")
    options = ["--device", "cpu", "--dataset", "Synthetic", "--data_path", aligned, "--work_path", tmp_path / "work"]
    out = as_unknown_user(
        "test.py", *options, "--partition", "all", "--checkpoint", tmp_path / "e-encoder.ptm", "--report"
    )
    assert "report: " in out and "fontManager" not in out and "Matplotlib" not in out
