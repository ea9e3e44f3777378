"""`use_cann` of env.sh finds an installation of CANN and adopts its environment."""

import subprocess
from pathlib import Path

import pytest
from cann_folder import write_cann, write_script
from scripts import ROOT, one_line_error, run_driver

CLEAN = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "ASCEND_OPP_PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "CANN_PATH")
pytestmark = pytest.mark.skipif(Path("/usr/local/Ascend").exists(), reason="there is a CANN on this machine")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs shell lines after `source env.sh`, outside of the repository and without a home."""
    for name in CLEAN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    def run_lines(lines, *arguments):
        script = write_script(tmp_path / "driver.sh", f'source "{ROOT}/test/env.sh"\n{lines}')
        return subprocess.run([script, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    return run_lines


SHOW = 'use_cann "${1:-}"; echo "$ASCEND_HOME_PATH"; command -v atc; echo "$LD_LIBRARY_PATH"; echo "$-"'


def home_of(done):
    assert done.returncode == 0, done.stderr
    home, atc, libraries, flags = done.stdout.splitlines()
    assert atc == f"{home}/bin/atc" and libraries.startswith(f"{home}/lib64:")
    assert "e" in flags and "u" in flags  # the shell options are unchanged
    return home


@pytest.mark.parametrize("given", ["", "latest", "set_env.sh", "..", "../"])
def test_cann_path_accepts_several_forms(run, tmp_path, given):
    """Accept CANN's folder, its `latest`, its set_env.sh or its parent, relative to the working directory."""
    folder = write_cann(tmp_path / "opt" / "ascend-toolkit")
    named = {"..": "opt", "../": "opt/"}.get(given, f"opt/ascend-toolkit/{given}")
    done = run(SHOW, named)
    assert home_of(done) == str(folder / "latest")
    notices = [line for line in done.stderr.splitlines() if line.startswith("==")]
    assert len(notices) == 1 and "CANN: sourcing" in notices[0] and "set_env.sh" in notices[0]


def test_cann_path_accepts_the_layout_without_latest(run, tmp_path):
    folder = write_cann(tmp_path / "cann-8.5.0", "")
    assert home_of(run(SHOW, str(folder))) == str(folder)


@pytest.mark.parametrize("variable", ["ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"])
def test_environment_variables_name_the_installation(run, tmp_path, monkeypatch, variable):
    folder = write_cann(tmp_path / "elsewhere")
    monkeypatch.setenv(variable, str(folder / "latest"))
    assert home_of(run(SHOW)) == str(folder / "latest")


def test_default_folders_are_searched_in_order(run, tmp_path):
    root = tmp_path / "home" / "Ascend"
    for name in ("nnrt", "cann-8.5.0", "cann-8.10.0", "cann", "ascend-toolkit"):
        folder = write_cann(root / name, "")
        assert home_of(run(SHOW)) == str(folder), "each folder takes precedence over the folders before it"
    (root / "ascend-toolkit" / "set_env.sh").unlink()
    (root / "cann" / "set_env.sh").unlink()
    assert home_of(run(SHOW)) == str(root / "cann-8.10.0")


@pytest.mark.parametrize(
    ("line", "installed"),
    [
        ("Toolkit_Install_Path_Param={}", "ascend-toolkit"),
        ("Install_Path={}/", "cann-8.5.0"),
        ("# Install_Path=/nowhere\nNnrt_InstallPath={} \r", "nnrt"),
        ("Toolkit_Install_Path_Param={}/ascend-toolkit/latest", "ascend-toolkit"),
    ],
)
def test_the_record_of_the_installer_names_the_folder(run, tmp_path, line, installed):
    """The folder that the installer recorded comes before the usual folders. Spaces in its path are kept."""
    opt = tmp_path / "my opt"
    folder = write_cann(opt / installed, "latest" if installed == "ascend-toolkit" else "")
    write_cann(tmp_path / "home" / "Ascend" / "ascend-toolkit")
    (tmp_path / "install.info").write_text(f"Version=8.0\n{line.format(opt)}\n")
    home = home_of(run(f'CANN_RECORDS=("{tmp_path}/gone" "{tmp_path}/install.info")\n{SHOW}'))
    assert home == str(folder / "latest" if installed == "ascend-toolkit" else folder)


def test_the_record_in_the_home_folder_is_read(run, tmp_path):
    folder = write_cann(tmp_path / "opt" / "ascend-toolkit")
    record = tmp_path / "home" / "Ascend" / "ascend_cann_install.info"
    record.parent.mkdir(parents=True)
    record.write_text(f"Toolkit_Install_Path_Param={tmp_path}/opt\n")
    assert home_of(run(SHOW)) == str(folder / "latest")
    record.write_text("Toolkit_Install_Path_Param=/nowhere\n")
    done = run("use_cann; echo on")
    assert (done.returncode, done.stdout) == (0, "on\n")
    assert "no set_env.sh in the usual folders; name another folder with --cann_path=DIR" in done.stderr


def test_an_existing_environment_is_kept(run, tmp_path, monkeypatch):
    write_cann(tmp_path / "home" / "Ascend" / "ascend-toolkit")
    monkeypatch.setenv("ASCEND_HOME_PATH", "/opt/cann/latest")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/lib:/opt/cann/latest/lib64")
    done = run('use_cann; echo "$ASCEND_HOME_PATH $LD_LIBRARY_PATH"')
    assert done.stdout == "/opt/cann/latest /usr/lib:/opt/cann/latest/lib64\n"
    assert "CANN: /opt/cann/latest (its environment is already set)" in done.stderr


def test_cann_path_replaces_another_environment(run, tmp_path, monkeypatch):
    one, other = write_cann(tmp_path / "one"), write_cann(tmp_path / "other")
    assert home_of(run(f"use_cann {one}\n{SHOW}", str(other))) == str(other / "latest")
    done = run(f"use_cann {one}; use_cann {one}")
    assert done.stderr.count("sourcing") == 1 and "already set" in done.stderr


@pytest.mark.parametrize("given", ["nowhere", "empty"])
def test_cann_path_without_cann_is_an_error(run, tmp_path, given):
    (tmp_path / "empty").mkdir()
    assert f"--cann_path={tmp_path}/{given}: not a CANN folder" in one_line_error(run(SHOW, given), 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("exit 0", "failed; source it"),
        ("set -e; false; export ASCEND_HOME_PATH=x", "failed; source it"),  # a release of CANN does this
        ("export MINDIE_HOME=x", "does not set ASCEND_HOME_PATH"),
    ],
)
def test_a_failing_set_env_is_reported(run, tmp_path, content, words):
    (tmp_path / "set_env.sh").write_text(f"{content}\n")
    assert words in one_line_error(run(SHOW, str(tmp_path / "set_env.sh")), 1)


def test_values_of_the_environment_are_not_evaluated(run, tmp_path):
    """Values with spaces, quotes and command substitutions are neither split nor executed."""
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
def test_drivers_source_cann_only_if_an_npu_may_be_used(run, tmp_path, monkeypatch, device, machine, sourced):
    folder = write_cann(tmp_path / "cann")
    if machine:
        monkeypatch.setenv("PATH", f"{write_script(tmp_path / 'bin' / machine, '').parent}:/usr/bin:/bin")
    lines = 'option device auto "device"\nparse "$@"\necho "${ASCEND_HOME_PATH:-none}"'
    done = run(lines, f"--device={device}", f"--cann_path={folder}")
    assert done.stdout == f"{folder / 'latest' if sourced else 'none'}\n", done.stderr


def test_torch_extensions_are_not_loaded_by_default(run, monkeypatch):
    assert run('echo "$TORCH_DEVICE_BACKEND_AUTOLOAD"').stdout == "0\n"
    monkeypatch.setenv("TORCH_DEVICE_BACKEND_AUTOLOAD", "1")
    assert run('echo "$TORCH_DEVICE_BACKEND_AUTOLOAD"').stdout == "1\n"


@pytest.mark.slow
def test_drivers_have_the_option_cann_path():
    for driver in ("train_full_1p.sh", "train_eval_8p.sh", "pth2om.sh"):
        assert run_driver(driver, "--help").stdout.count("--cann_path") >= 1
