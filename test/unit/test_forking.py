"""The fork server of the tests: a job sees only the environment of its own command."""

import subprocess

import pytest
from forking import python_command


@pytest.mark.slow
def test_jobs_do_not_inherit_the_python_path_of_the_test_that_starts_the_server(tmp_path, monkeypatch):
    (tmp_path / "leaked.py").touch()
    (tmp_path / "job.py").write_text("import importlib.util\nprint(importlib.util.find_spec('leaked') is not None)\n")
    (tmp_path / "elsewhere").mkdir()
    job = (tmp_path / "job.py").rename(tmp_path / "elsewhere" / "job.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    client = python_command.__wrapped__()  # a server of this test
    found = [
        subprocess.run([client, job], env={"PATH": "/usr/bin:/bin", "PYTHONPATH": path}, capture_output=True, text=True)
        for path in ("", str(tmp_path))
    ]
    assert [done.stdout.strip() for done in found] == ["False", "True"], found
