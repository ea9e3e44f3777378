"""Atomic writing of files and folders, JSON files, and the removal of temporary files."""

import json
import os
from functools import partial

import pytest

from model.commands.summary import collect, flat
from model.common import files
from model.common.errors import UserError
from model.common.files import atomic_file, atomic_folder, remove_leftovers
from model.common.json_files import json_text, read_json, write_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("atomic", [atomic_file, partial(atomic_file, durable=True), atomic_folder])
def test_output_is_replaced_when_it_is_complete_and_kept_after_a_failure(tmp_path, atomic):
    path = tmp_path / "new" / "a"

    def content(place):
        return place / "x" if place.is_dir() else place

    for text in ("old", "new"):
        with atomic(path) as part:
            content(part).write_text("half")
            assert not path.exists() or content(path).read_text() == "old"
            content(part).write_text(text)
        assert content(path).read_text() == text
    with pytest.raises(RuntimeError), atomic(path) as part:
        content(part).write_text("half")
        raise RuntimeError
    assert content(path).read_text() == "new" and names(path.parent) == ["a"]


def test_only_temporary_files_of_dead_processes_are_removed(tmp_path):
    alive = f".alive.{os.getppid()}.part"
    (tmp_path / ".a.txt.99999999.part").touch()
    (tmp_path / ".f.99999999.part").mkdir()
    for name in (alive, ".hidden", "a.part"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, keep_running=True)
    assert names(tmp_path) == [alive, ".hidden", "a.part"]
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".hidden", "a.part"]


def test_summary_holds_each_file_under_its_name(tmp_path):
    write_json(tmp_path / "training.json", {"speed": {"it/s": 3}})
    content = collect([str(tmp_path / "training.json"), "processes=2"])
    assert content == {"training": {"speed": {"it/s": 3}}, "processes": "2"}
    assert flat(content) == [("training.speed.it/s", 3), ("processes", "2")]
    assert json.dumps(content)
    with pytest.raises(UserError, match="expected KEY=VALUE"):
        collect(["what"])
    with pytest.raises(UserError, match="given twice"):  # the second value would replace the first value
        collect([str(tmp_path / "training.json"), "training=2"])


def test_temporary_folder_of_a_dead_process_with_the_same_id_is_replaced(tmp_path):
    (tmp_path / f".f.{os.getpid()}.part" / "old").mkdir(parents=True)
    with atomic_folder(tmp_path / "f") as part:
        (part / "new").touch()
    assert names(tmp_path / "f") == ["new"]


@pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])
def test_unwritable_path_and_path_without_a_file_name_are_user_errors(tmp_path, atomic):
    (tmp_path / "file").touch()
    for path, message in (
        (tmp_path / "file" / "x", "cannot be written"),
        *((path, "ends without a name") for path in ("", ".", "/", "a/..")),
    ):
        with pytest.raises(UserError, match=message), atomic(path):
            pass


@pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])
def test_error_names_the_file_that_caused_it(tmp_path, atomic):
    """An error names the output only if it has the path of the output, or if only a write can cause it."""
    path, other, folder = tmp_path / "a" / "out", tmp_path / "out.txt", tmp_path / "a" / ".other.12.part"

    def line(error):
        with pytest.raises(UserError) as failed, atomic(path) as part:
            raise error(part) if callable(error) else error
        assert not list(path.parent.iterdir())
        return str(failed.value)

    for read in (other, os.fsencode(other), folder):
        assert line(PermissionError(13, "Permission denied", read)) == f"{os.fsdecode(read)}: Permission denied"
    denied = f"{path}: cannot be written (Permission denied)"
    for written in (lambda part: part, lambda part: part / "x", lambda part: path / "x", lambda part: tmp_path):
        assert line(lambda part, name=written: PermissionError(13, "Permission denied", str(name(part)))) == denied
    assert line(OSError(28, "No space left on device")) == f"{path}: cannot be written (No space left on device)"
    # These errors can come from reading a disk, or from starting a process.
    for unnamed in ("Input/output error", "Resource temporarily unavailable"):
        assert line(OSError(5, unnamed)) == f"{path}: failed while it was written ({unnamed})"
    with pytest.raises(BrokenPipeError), atomic(path):
        raise BrokenPipeError(32, "Broken pipe")


def test_json_text_keeps_values_and_writes_rows_of_numbers_in_one_line():
    value = {"rows": [[1, -2.5e-7, None], [3, 4, 5]], "text": "[\n 1,\n 2\n]", "names": ["a"], "none": [], "one": [7]}
    text = json_text(value)
    assert json.loads(text) == value
    assert "[1, -2.5e-07, null]" in text and "[7]" in text and '"names": [\n' in text


def leave(path):
    """Create a folder as a killed process would leave it. Its only file contains the name of the folder."""
    path.mkdir(parents=True)
    (path / "content").write_text(path.name)
    return path


@pytest.mark.parametrize("can_exchange", [True, False])
def test_folder_exists_at_every_moment_of_its_replacement(tmp_path, monkeypatch, can_exchange):
    """The folder always exists on systems that can exchange two folders. The next test covers other systems."""
    leave(tmp_path / "f")
    if not can_exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    moments = []
    replace = type(tmp_path).replace

    def watched(self, target):
        replace(self, target)
        moments.append((tmp_path / "f").exists())

    monkeypatch.setattr(type(tmp_path), "replace", watched)
    with atomic_folder(tmp_path / "f") as part:
        (part / "new").touch()
    assert all(moments) is can_exchange
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == ["f", "f/new"]


def test_folder_is_restored_after_its_replacement_was_killed(tmp_path):
    for _ in range(2):  # the second time, the folder exists
        leave(tmp_path / ".f.99999999.old")
        remove_leftovers(tmp_path)
        assert (tmp_path / "f" / "content").read_text() == ".f.99999999.old"
        assert names(tmp_path) == ["f"]


def test_writing_removes_temporary_files_of_dead_writers_of_the_same_path(tmp_path):
    alive = f".f.{os.getppid()}.part"
    leave(tmp_path / ".f.99999999.part")
    leave(tmp_path / ".f.99999998.old")
    for name in (alive, ".g.99999999.part", ".f.g.99999999.part"):
        (tmp_path / name).touch()
    with atomic_folder(tmp_path / "f"):
        pass
    assert names(tmp_path) == sorted(["f", alive, ".g.99999999.part", ".f.g.99999999.part"])
    with atomic_file(tmp_path / "g"):
        pass
    assert not (tmp_path / ".g.99999999.part").exists()


def test_writing_does_not_follow_a_planted_symlink(tmp_path):
    """In a shared folder, other users can guess the name of the temporary file."""
    (tmp_path / "theirs").write_text("kept")
    (tmp_path / f".a.{os.getpid()}.part").symlink_to(tmp_path / "theirs")
    with atomic_file(tmp_path / "a") as part:
        part.write_text("ours")
    assert (tmp_path / "theirs").read_text() == "kept" and not (tmp_path / "a").is_symlink()
    (tmp_path / f".a.{os.getpid()}.part").symlink_to(tmp_path)
    with atomic_folder(tmp_path / "a") as part:
        pass
    assert (tmp_path / "theirs").read_text() == "kept" and (tmp_path / "a").is_dir()


def test_checksum_of_a_sealed_file_detects_every_change(tmp_path):
    path, value = tmp_path / "a.json", {"subject": "003", "名": [1.5, None]}
    write_json(path, value, sealed=True)
    assert read_json(path, sealed=True) == value and read_json(path)["subject"] == "003"
    whole = path.read_bytes()
    for place in range(len(whole)):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
            path.write_bytes(damaged)
            with pytest.raises(UserError, match=r"a\.json"):
                read_json(path, sealed=True)
    write_json(path, value)
    with pytest.raises(UserError, match="modified or damaged"):
        read_json(path, sealed=True)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe", b"1" * 5000, b"{'a': 1}", b"{", b""], ids=repr)
def test_invalid_json_is_a_user_error(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json: cannot be read as JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path)


def test_json_with_byte_order_mark_and_crlf_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a":\r\n 1}\r\n')
    assert read_json(tmp_path / "a.json") == {"a": 1}
