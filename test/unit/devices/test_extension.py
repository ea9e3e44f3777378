"""The import of torch_npu and the line that explains a failed import. The tests create their own packages."""

import sys

import pytest
import torch
from scripts import load_script, one_line_error, run_quietly, run_script

from model.common.errors import run_command
from model.devices.extension import is_installed, load_extension
from model.devices.opening import resolve_device

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def clear_cache():
    """Clear the cached result of the import before and after each test."""
    load_extension.cache_clear()
    yield
    load_extension.cache_clear()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that writes the same files as pip writes for a package with one module."""

    def install(name: str, version: str, content: str) -> None:
        metadata = tmp_path / f"{name}-{version}.dist-info"
        metadata.mkdir()
        (tmp_path / f"{name}.py").write_text(content)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (metadata / "entry_points.txt").write_text(f"[torch.backends]\n{name} = {name}:_autoload\n")

    monkeypatch.syspath_prepend(tmp_path)
    return install


RELEASE = torch.__version__.partition("+")[0]
FITTING = f"{RELEASE}.post2"
NO_FILE = "cannot open shared object file: No such file or directory"
BROKEN = {  # the exception of the import -> the message of the command
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
    ("version", "raised", "message"),
    [
        *((FITTING, raised, message) for raised, message in BROKEN.items()),
        ("2.1.0.post8", "SystemExit", f"torch_npu 2.1.0.post8 is built for torch 2.1.0, but torch {RELEASE}"),
    ],
)
def test_unusable_torch_npu_is_one_error_line(install, monkeypatch, capsys, version, raised, message):
    install("torch_npu", version, f"raise {raised}")
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: load_script("train").main(["--device", "npu"]))
    sys.modules.pop("torch_npu", None)
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and len(lines) == 1
    assert lines[0].startswith("error: --device npu: ") and lines[0].endswith("or use --device cpu")
    assert message in lines[0]


def test_missing_library_of_an_existing_cann_is_named(install, monkeypatch):
    install("torch_npu", FITTING, "raise ImportError('libge_runner.so: cannot open shared object file')")
    monkeypatch.setenv("ASCEND_HOME_PATH", "/opt/cann")
    assert "libge_runner.so of CANN is not found, although ASCEND_HOME_PATH is /opt/cann" in load_extension("torch_npu")


def test_near_version_that_loads_gives_a_warning(install, caplog):
    near = f"{'.'.join(RELEASE.split('.')[:2])}.99"
    install("torch_npu_of_a_test", near, "")
    assert load_extension("torch_npu_of_a_test") is None
    assert f"torch_npu_of_a_test {near} is built for torch {near}" in caplog.text


def test_auto_warns_why_it_skips_the_npu(install, monkeypatch, caplog):
    install("torch_npu", FITTING, "raise ImportError('libhccl.so: cannot open shared object file')")
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    assert resolve_device().type in ("cpu", "cuda")
    assert "--device auto skips npu: libhccl.so of CANN is not found" in caplog.text


def test_extension_that_breaks_import_torch_does_not_break_the_commands(install, tmp_path, monkeypatch):
    """By default, torch imports installed extensions automatically. Without CANN, even `import torch` then fails."""
    monkeypatch.delenv("TORCH_DEVICE_BACKEND_AUTOLOAD", raising=False)  # the commands set it, also in this process
    install("torch_npu", FITTING, "raise ImportError('libhccl.so: cannot open shared object file')")
    environment = {"PYTHONPATH": str(tmp_path), "ASCEND_HOME_PATH": ""}
    assert run_quietly([sys.executable, "-c", "import torch"], None, environment).returncode == 1
    for device, message in (("npu", "libhccl.so of CANN is not found"), ("tpu", "unknown device")):
        done = run_script("train.py", "--device", device, python=sys.executable, **environment)
        assert message in one_line_error(done, 2)


def test_missing_module_is_reported_with_the_release_to_install():
    assert not is_installed("torch_npu_of_nobody")
    assert load_extension("torch_npu_of_nobody") == (
        f"torch_npu_of_nobody is not installed; install the version for torch {RELEASE}, which starts with the same "
        "number, or torch and this package in versions that model/docs/ascend.md lists"
    )


def test_extension_is_imported_once(install, tmp_path):
    """A second import in the same process would fail for a different reason, so the first result is cached."""
    tried = tmp_path / "tried"
    install("torch_npu_of_two", FITTING, f"open({str(tried)!r}, 'a').write('x'); raise OSError('no chip')")
    assert load_extension("torch_npu_of_two") == load_extension("torch_npu_of_two")
    assert tried.read_text() == "x"


def test_extension_without_a_version_is_loaded(tmp_path, monkeypatch):
    """A source tree on PYTHONPATH has no metadata, so the matching version of torch is unknown."""
    (tmp_path / "torch_npu_of_source.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert is_installed("torch_npu_of_source") and load_extension("torch_npu_of_source") is None
