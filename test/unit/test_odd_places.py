"""Names that could break the page of a report, and commands in a read-only folder under a user ID without a name."""

import shutil
import subprocess
import sys

import pytest
import torch
from raw_trees import silhouette, write
from scripts import BARE, ROOT, run_quietly
from small_results import a_result

from model.network import GaitSet
from model.report.tables import write_results


def test_names_from_the_data_are_text_on_the_page_and_not_part_of_it(tmp_path):
    result = a_result()
    hostile = '<script>alert("x")</script>'
    object.__setattr__(result, "views", (hostile,))
    object.__setattr__(result, "notes", (hostile, "'\"><img src=x onerror=y>"))
    page = write_results(result, tmp_path, "r", {"command": hostile, hostile: [hostile]})["html"].read_text()
    assert "<script" not in page and "<img" not in page and page.count("&lt;script&gt;") >= 4


UNKNOWN_USER = ("unshare", "--user", "--map-user=54321")


@pytest.fixture
def as_unknown_user(tmp_path):
    """Return a function that runs a script in a read-only folder, without HOME, under a user ID without a name."""
    if shutil.which("unshare") is None or subprocess.run([*UNKNOWN_USER, "true"], check=False).returncode:
        pytest.skip("user namespaces are not permitted here")
    folder = tmp_path / "read_only"
    folder.mkdir(mode=0o555)
    environment = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(script, *arguments):
        command = [*UNKNOWN_USER, sys.executable, ROOT / script, *map(str, arguments)]
        done = run_quietly(command, folder, environment, BARE)
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
