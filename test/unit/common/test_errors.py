"""Commands end with one line and a status after errors of the user or the system, and with a traceback after bugs."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import BARE, ROOT, run_quietly

from model.common.errors import one_line

START = """
import sys, time, threading
from model.common.errors import UsageError, UserError, run_command
def work():
    {}
run_command(work)
"""


OUT_OF_MEMORY = "out of memory; use a smaller batch or fewer processes, or close other programs"


def end_of(work: str, **environment: str) -> tuple[int, str]:
    """Run `work` as a command. Return its exit status and stderr."""
    done = run_quietly([sys.executable, "-c", START.format(work)], ROOT, environment, BARE)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("work", "status", "message"),
    [
        ("raise UserError('a: wrong')", 1, "error: a: wrong\n"),
        ("raise UsageError('--a: wrong')", 2, "error: --a: wrong\n"),
        ("open('/nowhere/a')", 1, "error: /nowhere/a: No such file or directory\n"),
        ("open('/dev/full', 'w').write('x' * 100_000)", 1, "error: No space left on device\n"),
        ("raise OSError('no words')", 1, "error: no words\n"),
        ("bytearray(1 << 62)", 1, f"error: {OUT_OF_MEMORY}\n"),
        ("raise KeyboardInterrupt", 130, "interrupted\n"),
        ("raise UserError('a\\n\\x1b[2Jb\\udcffé')", 1, "error: a\\n\\x1b[2Jb\\udcffé\n"),
        ("print('步态 \\udcff')", 0, ""),
        ("return 7", 7, ""),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else value,
)
def test_errors_of_the_user_or_the_system_are_one_line(work, status, message):
    assert end_of(work, PYTHONIOENCODING="utf-8") == (status, message)


def test_characters_that_the_terminal_lacks_are_escaped():
    assert end_of("print('步态')", PYTHONIOENCODING="ascii") == (0, "")
    assert end_of("raise UserError('步态')", PYTHONIOENCODING="ascii") == (1, "error: \\u6b65\\u6001\n")


def run_on_a_full_disk(work):
    """Run `work` with stdout on a full disk. Return its exit status and the lines of stderr."""
    imports = "import logging; from model.common.messages import set_up_logging\n"
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", imports + START.format(work)]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert "Traceback" not in done.stderr and "Logging error" not in done.stderr
    return done.returncode, done.stderr.splitlines()


def test_stdout_on_a_full_disk_is_one_line():
    status, lines = run_on_a_full_disk("print('x')")
    assert status in (1, 120) and lines[0] == "error: No space left on device"


def test_job_without_writable_log_continues_and_warns_once():
    work = "set_up_logging(False); [logging.warning('x' * 100_000) for _ in range(9)]"
    warning = "warning: log lines cannot be written ([Errno 28] No space left on device); continuing without them"
    assert run_on_a_full_disk(work) == (0, [warning])


def test_bugs_keep_their_traceback():
    status, stderr = end_of("1 / 0")
    assert status == 1 and "Traceback" in stderr and "ZeroDivisionError" in stderr


def test_a_missing_module_of_python_keeps_its_traceback():
    """It cannot be installed as a package. Python was compiled without it, or its installation is damaged."""
    missing = "import model.common.command_line; sys.modules['_ctypes'] = None; import {}"
    status, stderr = end_of(missing.format("_ctypes"))
    assert status == 1 and "Traceback" in stderr and "has no package" not in stderr
    assert "has no package nopackage; install" in end_of(missing.format("nopackage"))[1]


def test_threads_print_bugs_but_no_os_errors():
    """TensorBoard raises the error of its writer thread again at the next write."""
    thread = "t = threading.Thread(target=lambda: {}); t.start(); t.join()"
    assert end_of(thread.format("open('/nowhere/a')")) == (0, "")
    assert "ZeroDivisionError" in end_of(thread.format("1 / 0"))[1]


@pytest.mark.parametrize("processes", [None, "", "1", "2"])
def test_sigterm_runs_the_cleanup_of_a_single_process(tmp_path, processes):
    """One of several processes can wait in a library that does not return to Python, so SIGTERM ends it at once."""
    work = f"""
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        open({str(tmp_path / "cleaned_up")!r}, "w")
"""
    environment = BARE | ({} if processes is None else {"WORLD_SIZE": processes})
    process = subprocess.Popen(
        [sys.executable, "-c", START.format(work)], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    _, stderr = process.communicate(timeout=60)
    several = processes == "2"
    assert (process.returncode, stderr) == ((-signal.SIGTERM, "") if several else (143, "terminated\n"))
    assert (tmp_path / "cleaned_up").exists() is not several


def test_command_restarted_after_a_user_error_exits_silently(tmp_path):
    given_up = {"GAITSET_GIVE_UP": str(tmp_path / "status")}
    assert end_of("raise UsageError('once')", **given_up) == (2, "error: once\n")
    assert end_of("raise UsageError('once')", **given_up) == (2, "")


def test_one_line_keeps_printable_characters_of_all_languages():
    for text in ("步态　数据", "é ñ ½", "a b", "🚶", "\u200b"):
        assert one_line(text) == text
    assert one_line("a\r\nb\tc\x00\x85\u2029\ud800") == "a\\r\\nb\\tc\\x00\\x85\\u2029\\ud800"
