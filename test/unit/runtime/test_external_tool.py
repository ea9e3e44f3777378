import os
from pathlib import Path

import pytest
from ascend import STANDINS, bare_machine, executable, names_in

from model.common.errors import UserError
from model.runtime.external_tool import chip_name, reason_of
from model.runtime.staging import _link_or_copy, staged
from model.runtime.task import Task

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "batch_size"),
    [("gaitset_submit.om", 1), ("gaitset_submit_bs16.om", 16), ("gaitset_submit_bs16_linux_aarch64.om", 16),
     ("gaitset_submit_linux_x86_64.om", 1), ("model_bs4_old.om", 1), ("run_bs2/gaitset_submit.om", 1)],
)  # fmt: skip
def test_batch_size_of_a_name(name, batch_size):
    om = Path("somewhere_bs8") / name
    assert Task("benchmark", om, Path("i"), Path("r")).batch() == batch_size
    assert Task("benchmark", om, Path("i"), Path("r"), batch_size=5).batch() == 5


def test_failed_run_leaves_no_files(tmp_path, task):
    with pytest.raises(UserError, match="on purpose"), staged(task("benchmark")) as stage:
        assert stage.folder.stat().st_mode & 0o777 == 0o700, "the tools reject folders that others can read"
        raise UserError("on purpose")
    assert names_in(tmp_path / "result") == []


def test_full_disk_is_one_line(task):
    with pytest.raises(UserError, match=r"result: running the list failed \(.*No space left"):  # noqa: SIM117
        with staged(task("benchmark")):
            raise OSError(28, "No space left on device")


def test_missing_om_and_folder_with_other_files(deployed, tmp_path):
    (tmp_path / "notes.txt").touch()
    for om, message in ((tmp_path / "none.om", r"none\.om: no such om"), (deployed.om(1), r"also holds notes\.txt")):
        with pytest.raises(UserError, match=message), staged(Task("benchmark", om, deployed.info, tmp_path)):
            pass


def test_files_are_linked_if_possible(tmp_path):
    (tmp_path / "fine").write_bytes(b"1")
    (tmp_path / "open").write_bytes(b"2")
    (tmp_path / "open").chmod(0o664)
    (tmp_path / "link").symlink_to("fine")
    for name, links in [("fine", 2), ("open", 1), ("link", 3)]:
        _link_or_copy(tmp_path / name, tmp_path / f"placed {name}")
        facts = (tmp_path / f"placed {name}").lstat()
        assert facts.st_nlink == links and not facts.st_mode & 0o022
    assert (tmp_path / "placed open").read_bytes() == b"2"


def test_copy_on_another_file_system(tmp_path, monkeypatch):
    def no_link(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    (tmp_path / "a").write_bytes(b"1")
    _link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"1" and (tmp_path / "b").stat().st_nlink == 1


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "no output"),
        ("starting\n\nSegmentation fault\n", "Segmentation fault"),
        ("[INFO] a\n[ERROR] first\n[ERROR] second\nTraceback\nRuntimeError\n", "[ERROR] first"),
        ("usage: x\nx: error: argument --model: no\n", "x: error: argument --model: no"),
        ("a\nEZ9999: Inner Error!\n", "EZ9999: Inner Error!"),
        ("a\nEZ9999: Inner Error!\nEZ9999  the k-axis differs[FUNC:Infer][FILE:a.cc][LINE:1]\nb\n",
         "EZ9999: the k-axis differs"),
        ("[ERROR] load failed\nEZ9999: Inner Error!\n        no memory[FUNC:x]\n",
         "[ERROR] load failed (EZ9999: no memory)"),
        ("[INFO] acl init success\n[INFO] error: 0\n[ERROR] bad\n", "[ERROR] bad"),
        ("bad model\n[INFO] end to finalize acl\n", "bad model"),
        ("[INFO] only this\n", "[INFO] only this"),
        ("bad file\rInference array Processing:  50%|███  | 1/2\rInference array Processing: 100%|██████| 2/2\n────\n",
         "bad file"),
        ("Usage: x\nTry 'x --help' for help.\n╭─ Error ────╮\n│ No such │\n│ option  │\n╰────────────╯\n",
         "No such option"),
        ("\x1b[31m[ERROR] bad\x1b[0m file\n[\x1b[1;32mSOLUTION\x1b[0m] visit\n", "[ERROR] bad file"),
        ("Usage: x\n+- Error ----+\n| No option  |\n+------------+\n", "No option"),
        ("Traceback\nModuleNotFoundError: No module named 'x'\n", "ModuleNotFoundError: No module named 'x'"),
        (f"[ERROR] {'x' * 999}", f"[ERROR] {'x' * 189}..."),
        ("[ERROR] load model failed",
         "[ERROR] load model failed (was it converted for this chip (--soc_version), and not with a newer CANN "
         "version?)"),
    ],
)  # fmt: skip
def test_reason_of_a_failure(output, reason):
    assert reason_of(output) == reason


def test_chip_name_of_npu_smi(monkeypatch, tmp_path):
    bare_machine(monkeypatch, tmp_path)
    assert chip_name() is None
    (tmp_path / "npu-smi").symlink_to(STANDINS / "npu-smi")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for chips, name in [("310,310,310,310", "Ascend310"), ("310P3", "Ascend310P3"), ("310,310P3", None), ("", None)]:
        monkeypatch.setenv("NPU_SMI_CHIPS", chips)
        assert chip_name() == name
    executable(tmp_path / "npu-smi.broken", "#!/bin/sh\nexit 1\n").replace(tmp_path / "npu-smi")
    assert chip_name() is None
