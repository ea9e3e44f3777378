"""The commit in the provenance of a result."""

import os
import re
import shutil
import subprocess

import pytest

from model.common.provenance import _commit


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_marks_modified_files_and_leaves_the_index_unchanged(tmp_path):
    assert _commit(tmp_path) is None
    file, index = tmp_path / "a", tmp_path / ".git/index"
    file.write_text("a")
    person = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "a"], [*person, "commit", "-q", "-m", "a"]):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True)
    os.utime(file, (1, 1))  # after this change, some git commands would rewrite the index
    before = index.read_bytes(), index.stat().st_ino
    clean = _commit(tmp_path)
    file.write_text("b")
    assert re.fullmatch("[0-9a-f]{12}", clean) and _commit(tmp_path) == f"{clean}+"
    assert (index.read_bytes(), index.stat().st_ino) == before
