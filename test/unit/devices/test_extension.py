"""Bringing torch_npu to torch, or one line that says what is missing, with packages made on the spot."""

import os
import sys
from pathlib import Path

import pytest
import torch
from scripts import ROOT, load_script, one_line_error, run_quietly, run_script

from model.common.errors import run_command
from model.devices.extension import is_installed, load_extension


@pytest.fixture(autouse=True)
def tried_anew():
    """The result of the first import is cached, because a second import in the same process fails differently."""
    load_extension.cache_clear()
    yield
    load_extension.cache_clear()


def install(folder: Path, name: str, version: str, content: str, more: str = "") -> None:
    """Files that pip installs for a package with one module."""
    (folder / f"{name}.py").write_text(content)
    facts = folder / f"{name}-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}")
    (facts / "entry_points.txt").write_text(f"[torch.backends]\n{name} = {name}:_autoload\n")


RELEASE = torch.__version__.partition("+")[0]
FITTING = f"{RELEASE}.post2"
NO_FILE = "cannot open shared object file: No such file or directory"
BROKEN = {  # error of the import -> message
    f"ImportError('libhccl.so: {NO_FILE}. Please check\\n[ERROR] ERR00001')":
        "libhccl.so of CANN is not found, and ASCEND_HOME_PATH is not set; source CANN's set_env.sh first",
    f"OSError('libascendcl.so: {NO_FILE}')":
        "libascendcl.so of CANN is not found, and ASCEND_HOME_PATH is not set",
    f"ImportError('libascend_hal.so: {NO_FILE}')":
        "libascend_hal.so of the NPU driver is not found; install the driver",
    "Exception('ASCEND_OPP_PATH environment variable is not set. Please check')":
        "CANN's environment is incomplete (ASCEND_OPP_PATH environment variable is not set.",
    "ModuleNotFoundError(name='decorator')":
        "torch_npu needs the module decorator, which is not installed; install it with pip",
    "RuntimeError('Two accelerators cannot be used at the same time in PyTorch: npu and cuda.')":
        f"torch_npu needs the CPU build of torch, but torch {torch.__version__} is built for another accelerator",
    "ImportError('torch_npu/lib/libtorch_npu.so: undefined symbol: _ZN5torch10ValueErrorC1E')":
        f"torch_npu {FITTING} does not match torch {torch.__version__} or CANN (torch_npu/lib/libtorch_npu.so",
    "ImportError('/usr/lib/libgomp.so.1: cannot allocate memory in static TLS block')":
        "static TLS block); set LD_PRELOAD=/usr/lib/libgomp.so.1 before",
    "AttributeError('no get_npu_backend')":
        "torch_npu cannot be loaded (no get_npu_backend)",
}  # fmt: skip


@pytest.mark.parametrize(
    ("version", "raised", "told"),
    [
        *((FITTING, raised, told) for raised, told in BROKEN.items()),
        ("2.1.0.post8", "SystemExit", f"torch_npu 2.1.0.post8 is built for torch 2.1.0, but torch {RELEASE}"),
    ],
)
def test_refusals_where_torch_npu_is_not_sound(tmp_path, monkeypatch, capsys, version, raised, told):
    install(tmp_path, "torch_npu", version, f"raise {raised}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: load_script("train").main(["--device", "npu"]))
    sys.modules.pop("torch_npu", None)
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and len(lines) == 1
    assert (
        lines[0].startswith("error: --device npu: ") and told in lines[0] and lines[0].endswith("or use --device cpu")
    )


def test_cann_that_is_there_but_lacks_a_library_is_named(tmp_path, monkeypatch):
    install(tmp_path, "torch_npu", FITTING, "raise ImportError('libge_runner.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ASCEND_HOME_PATH", "/opt/cann")
    assert "libge_runner.so of CANN is not found, although ASCEND_HOME_PATH is /opt/cann" in load_extension("torch_npu")


def test_a_near_version_that_loads_is_only_warned_of(tmp_path, monkeypatch, caplog):
    near = f"{'.'.join(RELEASE.split('.')[:2])}.99"
    install(tmp_path, "torch_npu_of_a_test", near, "")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_extension("torch_npu_of_a_test") is None
    assert f"torch_npu_of_a_test {near} is built for torch {near}" in caplog.text


def test_auto_says_why_it_leaves_out_an_npu(tmp_path):
    install(tmp_path, "torch_npu", FITTING, "raise ImportError('libhccl.so: cannot open shared object file')")
    code = (
        "import logging; from model.devices.device import resolve_device; "
        "logging.basicConfig(); print(resolve_device())"
    )
    environment = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    done = run_quietly([sys.executable, "-c", code], None, environment)
    assert done.stdout in ("cpu\n", "cuda:0\n")
    assert "--device auto skips npu: libhccl.so of CANN is not found" in done.stderr


def test_an_extension_that_breaks_torch_itself_does_not_break_the_commands(tmp_path, monkeypatch):
    """torch loads installed extensions with itself: without CANN not even `import torch` works, on any device."""
    monkeypatch.delenv("TORCH_DEVICE_BACKEND_AUTOLOAD", raising=False)  # commands set it, and this process is one
    install(tmp_path, "torch_npu", FITTING, "raise ImportError('libhccl.so: cannot open shared object file')")
    environment = {"PYTHONPATH": str(tmp_path), "ASCEND_HOME_PATH": ""}
    assert run_quietly([sys.executable, "-c", "import torch"], None, environment).returncode == 1
    told = one_line_error(run_script("train.py", "--device", "npu", **environment), 2)
    assert "libhccl.so of CANN is not found" in told
    told = one_line_error(run_script("train.py", "--device", "tpu", **environment), 2)
    assert "unknown device" in told


def test_a_module_that_is_not_there_is_told_with_the_release_to_install():
    assert not is_installed("torch_npu_of_nobody")
    told = load_extension("torch_npu_of_nobody")
    assert (
        told == f"torch_npu_of_nobody is not installed; install the version for torch {RELEASE}, which starts with "
        "the same number"
    )


def test_an_attempt_is_made_once(tmp_path, monkeypatch):
    """The second import in a process would find what is left of the first."""
    tried = tmp_path / "tried"
    install(tmp_path, "torch_npu_of_two", FITTING, f"open({str(tried)!r}, 'a').write('x'); raise OSError('no chip')")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_extension("torch_npu_of_two") == load_extension("torch_npu_of_two")
    assert tried.read_text() == "x"


def test_a_folder_without_a_version_is_taken_as_it_is(tmp_path, monkeypatch):
    """As a source tree on PYTHONPATH: nothing says which torch it was made for."""
    (tmp_path / "torch_npu_of_source.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert is_installed("torch_npu_of_source") and load_extension("torch_npu_of_source") is None
