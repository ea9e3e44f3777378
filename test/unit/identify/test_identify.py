"""Test `python -m model.identify`: every action of the command, its page and its errors."""

import json
import os
import re

import pytest
import torch
from scripts import one_line_error, run_driver
from walkers import write_aligned_tree

from model.common.errors import UsageError, UserError
from model.identify import __main__ as command
from model.network import GaitSet


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A folder with a small encoder, and options for a gallery and a probe tree of the same six people."""
    folder = tmp_path_factory.mktemp("identify")
    torch.manual_seed(3)
    for name in ("e.ptm", "other.ptm"):
        torch.save(GaitSet(hidden_dim=8, channels=(4, 6, 10)).state_dict(), folder / name)
    write_aligned_tree(folder / "gallery", 6, ("nm-01", "nm-02", "nm-03"))
    write_aligned_tree(folder / "probe", 6, ("nm-01",), ("000",), frames=9)
    options = ["--device", "cpu", "--work_path", str(folder / "work"), "--quiet"]
    return folder, [*options, "--checkpoint", str(folder / "e.ptm"), "--gallery", str(folder / "people.parquet")]


def enrolled(trees, *more: str) -> None:
    folder, options = trees
    (folder / "people.parquet").unlink(missing_ok=True)
    command.main(["enroll", *options, "--data_path", str(folder / "gallery"), *more])


def test_people_are_named_and_the_page_shows_them(trees, tmp_path, capsys):
    folder, options = trees
    enrolled(trees)
    page, result = tmp_path / "who.html", tmp_path / "who.json"
    wanted = ["who", *options, "--data_path", str(folder / "probe"), "--far", "0.1", "--best", "1"]
    command.main([*wanted, "--report", str(page), "--json", str(result)])
    printed, content = capsys.readouterr().out, json.loads(result.read_text())
    assert "enrolled 36 sequences of 6 people" in printed
    assert len(content["sequences"]) == 6 and all(len(s["nearest"]) == 5 for s in content["sequences"])
    right = 0
    for sequence in content["sequences"]:
        best = sequence["nearest"][0]
        right += sequence["sequence"].split("/")[0] == best["person"]
        assert sequence["known"] == (best["distance"] < content["threshold"])
        assert f"{sequence['sequence']} ({sequence['frames']} frames): " in printed
        distances = [match["distance"] for match in sequence["nearest"]]
        assert distances == sorted(distances) and 0 <= best["probability"] <= 1
    assert right >= 5
    html = page.read_text()
    assert "<script" not in html and "http" not in html.replace("http://www.w3.org", "")
    assert html.count('class="mistake"') == 6 and html.count("data:image/png;base64") == 18 and "<svg" in html
    assert html.count("<th>same person</th>") == 6 and "mean distance" in html and "for the same person" in html


def test_one_sequence_per_person_gives_names_without_probabilities(trees, tmp_path, capsys):
    folder, options = trees
    options = [*options[:-1], str(tmp_path / "people.parquet"), "--data_path", str(folder / "probe")]
    command.main(["enroll", *options])
    page = tmp_path / "who.html"
    command.main(["who", *options, "--report", str(page)])
    printed, html = capsys.readouterr().out, page.read_text()
    assert "warning: the threshold is an estimate from the distances between 6 people" in printed
    assert "warning: no probabilities: the gallery gives 0 distances" in printed and "same person" not in printed
    assert printed.count(" frames): ") == 6 and " frames): 00" in printed and "not decided" not in printed
    assert "<th>same person</th>" not in html and "for the same person" not in html and "for different people" in html


def test_names_of_tracks_select_who_is_enrolled(trees, tmp_path, capsys):
    table = tmp_path / "tracks.csv"
    table.write_text("track,name\n001,anna\n003,ben\n004,anna\n005,\n", encoding="utf-8-sig")
    enrolled(trees, "--names", str(table))
    command.main(["list", *trees[1]])
    printed = capsys.readouterr().out
    assert "anna: 12 sequences, views 000, 090" in printed and "ben: 6 sequences" in printed
    assert "18 sequences of 2 people" in printed and "005" not in printed
    for name in ("anna", "ben"):
        command.main(["remove", name, *trees[1]])
    command.main(["list", *trees[1]])
    assert "0 sequences of 0 people" in capsys.readouterr().out
    with pytest.raises(UserError, match="nobody is enrolled"):
        command.main(["verify", "anna", "ben", *trees[1]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("track,name\n009,anna\n", "line 2: the tree has no track '009', only 001, 002"),
        ("track,name\n001,anna\n001,ben\n", "line 3: track 001 has two names, anna and ben"),
        ("id,person\n001,anna\n", "the first line is id,person; write the columns track,name there"),
        ("track,name\n001,\n", "no names; write one line per track"),
    ],
)
def test_wrong_tables_of_names_are_errors(trees, tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        enrolled(trees, "--names", str(tmp_path / "t.csv"))


def test_verify_compares_tracks_and_people(trees, tmp_path, capsys):
    folder, options = trees
    enrolled(trees)
    command.main(["remove", "006", *options])
    result, probe, found = tmp_path / "v.json", ["--data_path", str(folder / "probe")], {}
    for pair in (("001", "001"), ("001/nm-01", "005"), ("002", "006"), ("006", "006")):
        command.main(["verify", *pair, *options, *probe, "--far", "0.05", "--json", str(result)])
        found[pair] = json.loads(result.read_text())
    assert found["001", "001"]["same"] and found["001", "001"]["distance"] > 0
    assert not found["001/nm-01", "005"]["same"] and not found["002", "006"]["same"]
    assert found["006", "006"]["distance"] < 0.1  # both names are the track, because the person was removed
    assert "001 and 001: the same person (distance" in capsys.readouterr().out
    command.main(["--json", str(result), "verify", "--quiet", "001", *options, "005", *probe])  # in any order
    assert json.loads(result.read_text())["names"] == ["001", "005"]
    with pytest.raises(UsageError, match=r"zoe is neither a person .* nor a track"):
        command.main(["verify", "zoe", "001", *options])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "001"], "verify: expected 2 names, got 1"),
        (["remove"], "remove: expected 1 name, got 0"),
        (["who"], "give an aligned tree with --data_path"),
        (["list", "--report", "x.html"], "--report has no effect with list"),
        (["who", "--names", "t.csv", "--data_path", "x"], "--names has no effect with who"),
    ],
)
def test_wrong_arguments_are_rejected(trees, arguments, message):
    with pytest.raises(UsageError, match=message):
        command.main([*arguments, *trees[1]])


def test_another_encoder_is_rejected(trees):
    folder, options = trees
    enrolled(trees)
    other = ["--checkpoint", str(folder / "other.ptm"), "--data_path", str(folder / "probe")]
    for action in ("who", "enroll"):
        with pytest.raises(UserError, match=r"enrolled with encoder e\.ptm .* uses other\.ptm"):
            command.main([action, *options, *other])


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs bash")
def test_driver_chains_video_and_names():
    videos = ("--gallery_video=/v/a.mp4", "--probe_video=/v/b c.mp4")
    done = run_driver("identify.sh", *videos, "--work_path=/w", "--dry_run")
    commands = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("+ python")]
    assert [" ".join(c[1:4]) if c[1] == "-m" else c[1] for c in commands] == [
        "-m model.silhouettes --video", "pretreatment.py", "-m model.silhouettes --video", "pretreatment.py",
        "-m model.identify enroll", "-m model.identify who",
    ]  # fmt: skip
    assert "--data_path /w/gallery-a-pre" in done.stdout and "/w/probe-b\\ c-pre" in done.stdout
    without = run_driver("identify.sh", "--dry_run", "--work_path=/w").stdout
    assert "--video /w/walkers-1.mp4" in without and "--data_path /w/probe-walkers-2-pre" in without


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs bash")
@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (["--gallery_video=v.mp4", "--probe_video=w.mp4"], "--probe_video .*w.mp4"),
        (["--gallery_video=v.mp4", "--names=n.csv"], "--names .*n.csv"),
        (["--gallery_video=v.mp4", "--checkpoint=e.ptm"], "--checkpoint .*e.ptm"),
        (["--probe_video=v.mp4"], "--gallery .*people.parquet"),
    ],
)
def test_driver_reports_missing_files_before_any_work(tmp_path, given, missing):
    (tmp_path / "v.mp4").touch()
    done = run_driver("identify.sh", *given, f"--work_path={tmp_path / 'work'}", cwd=tmp_path)
    assert re.search(f"{missing}: no such file", one_line_error(done, 2))
    assert "+ python" not in done.stderr and not (tmp_path / "work").exists()
