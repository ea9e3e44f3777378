"""What the drivers do to find and take over CANN's environment: `use_cann` of env.sh, in scripts of its own."""

import subprocess
from pathlib import Path

import pytest
from cann_folder import write_cann, write_script
from scripts import ROOT, one_line_error, run_driver

CLEAN = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "ASCEND_OPP_PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "CANN_PATH")
pytestmark = pytest.mark.skipif(Path("/usr/local/Ascend").exists(), reason="there is a CANN on this machine")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs lines after `source env.sh`, from another folder, with a home of its own."""
    for name in CLEAN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    def run_lines(lines, *arguments):
        script = write_script(tmp_path / "driver.sh", f'source "{ROOT}/test/env.sh"\n{lines}')
        return subprocess.run([script, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    return run_lines


SHOW = 'use_cann "${1:-}"; echo "$ASCEND_HOME_PATH"; command -v atc; echo "$LD_LIBRARY_PATH"; echo "$-"'


def places(done):
    assert done.returncode == 0, done.stderr
    home, atc, libraries, flags = done.stdout.splitlines()
    assert atc == f"{home}/bin/atc" and libraries.startswith(f"{home}/lib64:")
    assert "e" in flags and "u" in flags  # as strict as before
    return home


@pytest.mark.parametrize("given", ["", "latest", "set_env.sh", "..", "../"])
def test_the_folder_that_the_user_names(run, tmp_path, given):
    """CANN's own folder, its `latest`, its set_env.sh, or the one around it; relative to where the user is."""
    folder = write_cann(tmp_path / "opt" / "ascend-toolkit")
    named = {"..": "opt", "../": "opt/"}.get(given, f"opt/ascend-toolkit/{given}")
    done = run(SHOW, named)
    assert places(done) == str(folder / "latest")
    told = [line for line in done.stderr.splitlines() if line.startswith("==")]
    assert len(told) == 1 and "CANN: sourcing" in told[0] and "set_env.sh" in told[0]


def test_the_newest_layout_has_no_latest(run, tmp_path):
    folder = write_cann(tmp_path / "cann-8.5.0", "")
    assert places(run(SHOW, str(folder))) == str(folder)


@pytest.mark.parametrize("variable", ["ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"])
def test_the_place_that_the_environment_names(run, tmp_path, monkeypatch, variable):
    folder = write_cann(tmp_path / "elsewhere")
    monkeypatch.setenv(variable, str(folder / "latest"))
    assert places(run(SHOW)) == str(folder / "latest")


def test_the_usual_places_in_their_order(run, tmp_path):
    root = tmp_path / "home" / "Ascend"
    for name in ("nnrt", "cann-8.5.0", "cann-8.10.0", "cann", "ascend-toolkit"):
        folder = write_cann(root / name, "")
        if name != "cann-8.5.0":  # older than those that follow it here
            assert places(run(SHOW)) == str(folder)
    (root / "ascend-toolkit" / "set_env.sh").unlink()
    (root / "cann" / "set_env.sh").unlink()
    assert places(run(SHOW)) == str(root / "cann-8.10.0")


def test_an_environment_that_is_set_stays(run, tmp_path, monkeypatch):
    write_cann(tmp_path / "home" / "Ascend" / "ascend-toolkit")
    monkeypatch.setenv("ASCEND_HOME_PATH", "/opt/cann/latest")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/lib:/opt/cann/latest/lib64")
    done = run('use_cann; echo "$ASCEND_HOME_PATH $LD_LIBRARY_PATH"')
    assert done.stdout == "/opt/cann/latest /usr/lib:/opt/cann/latest/lib64\n"
    assert "CANN: /opt/cann/latest, its environment is set already" in done.stderr


def test_a_named_folder_wins_unless_it_is_the_one_that_is_set(run, tmp_path, monkeypatch):
    one, other = write_cann(tmp_path / "one"), write_cann(tmp_path / "other")
    assert places(run(f"use_cann {one}\n{SHOW}", str(other))) == str(other / "latest")
    done = run(f"use_cann {one}; use_cann {one}")
    assert done.stderr.count("sourcing") == 1 and "set already" in done.stderr


def test_nowhere_is_no_error_yet(run):
    done = run("use_cann; echo on")
    assert (done.returncode, done.stdout) == (0, "on\n")
    assert "no set_env.sh in the usual places; --cann_path=DIR" in done.stderr


@pytest.mark.parametrize("given", ["nowhere", "empty"])
def test_a_named_folder_without_cann_is_an_error(run, tmp_path, given):
    (tmp_path / "empty").mkdir()
    assert f"--cann_path={tmp_path}/{given}: no CANN" in one_line_error(run(SHOW, given), 2)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("exit 0", "ended early"),
        ("set -e; false; export ASCEND_HOME_PATH=x", "ended early"),  # what one release does on some machines
        ("export MINDIE_HOME=x", "sets no ASCEND_HOME_PATH"),
    ],
)
def test_a_script_that_does_not_do_is_told(run, tmp_path, content, told):
    (tmp_path / "set_env.sh").write_text(f"{content}\n")
    assert told in one_line_error(run(SHOW, str(tmp_path / "set_env.sh")), 1)


def test_values_are_taken_as_they_are(run, tmp_path):
    """No word of them is run or split, whatever they hold."""
    value = "a b\n$(touch x) `touch x`\n'\""
    (tmp_path / "value").write_text(value)
    (tmp_path / "set_env.sh").write_text(
        f'export ASCEND_HOME_PATH="$(cat {tmp_path}/value)"; export -f take 2> /dev/null; export UID_OF_MINE=1; cd /\n'
    )
    done = run(f'use_cann "$1"; printf %s "$ASCEND_HOME_PATH"; [[ "$PWD" == {ROOT} ]]', str(tmp_path / "set_env.sh"))
    assert (done.returncode, done.stdout) == (0, value), done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("device", "machine", "sourced"),
    [("npu", "", True), ("npu:3", "", True), ("auto", "npu-smi", True), ("auto", "", False), ("cpu", "npu-smi", False)],
)
def test_drivers_take_it_where_an_npu_may_be_used(run, tmp_path, monkeypatch, device, machine, sourced):
    folder = write_cann(tmp_path / "cann")
    if machine:
        monkeypatch.setenv("PATH", f"{write_script(tmp_path / 'bin' / machine, '').parent}:/usr/bin:/bin")
    lines = 'option device auto "device"\nparse "$@"\necho "${ASCEND_HOME_PATH:-none}"'
    done = run(lines, f"--device={device}", f"--cann_path={folder}")
    assert done.stdout == f"{folder / 'latest' if sourced else 'none'}\n", done.stderr


def test_torch_extensions_are_not_loaded_unasked(run, monkeypatch):
    assert run('echo "$TORCH_DEVICE_BACKEND_AUTOLOAD"').stdout == "0\n"
    monkeypatch.setenv("TORCH_DEVICE_BACKEND_AUTOLOAD", "1")
    assert run('echo "$TORCH_DEVICE_BACKEND_AUTOLOAD"').stdout == "1\n"


def test_the_training_drivers_have_the_option():
    for driver in ("train_full_1p.sh", "train_eval_8p.sh", "pth2om.sh"):
        assert run_driver(driver, "--help").stdout.count("--cann_path") >= 1
