"""Read the `.info` list and the manifest of input files, intact and damaged."""

import pytest
from tiny_store import TinyStore

from model.common.errors import UserError
from model.common.json_files import read_json, write_json
from model.export.input_files import FixedLength, write_input_files
from model.export.manifest import read_info, read_manifest


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 a.bin 64 64\n1 b.bin 64\n", "line 2: expected"),
        ("0 a.bin 64 64\n\nx b.bin 64 64\n", "line 3: expected"),
        ("0 a.bin 64 64\n0 b.bin 64 64\n", "line 2: index 0 occurs twice"),
        ("0\n", "line 1: expected"),
        ("\n", "empty"),
        ("\xff", r"cannot be read \(it is not UTF-8 text\); write"),
        (None, r"bad\.info: the list of input files cannot be read \(No such file or directory\); write"),
    ],
)
def test_read_info_rejects_a_damaged_list(tmp_path, text, words):
    if text is not None:
        (tmp_path / "bad.info").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=words):
        read_info(tmp_path / "bad.info")


def test_read_info_sorts_by_index_and_accepts_crlf(tmp_path):
    (tmp_path / "list.info").write_bytes(b"10 k.bin 64 64\r\n2 c.bin 64 64\r\n")
    assert [file.name for file in read_info(tmp_path / "list.info")] == ["c.bin", "k.bin"]


def _set(position, **changes):
    """Return a function that changes one entry of a manifest, or its settings if `position` is None."""

    def damage(content):
        (content["entries"][position] if position is not None else content).update(changes)

    return damage


DAMAGES = {
    "missing entry": lambda content: content["entries"].pop(1),
    "reversed entries": lambda content: content["entries"].reverse(),
    "entries as a dict": _set(None, entries={"0": 1}),
    "no entries": _set(None, entries=[], count=0),
    "entry as a number": lambda content: content["entries"].__setitem__(0, 5),
    "entry without subject": lambda content: content["entries"][2].pop("subject"),
    "file named twice": _set(1, file="0000.bin"),
    "file in a subfolder": _set(1, file="more/0000.bin"),
    "file in the parent folder": _set(1, file="../0001.bin"),
    "absolute file": _set(1, file="/0001.bin"),
    "wrong suffix": _set(1, file="0001.txt"),
    "file null": _set(1, file=None),
    "subject as a number": _set(1, subject=1),
    "empty view": _set(1, view=""),
    "view with a line break": _set(1, view="0\n90"),
    "subject with a trailing NUL": _set(1, subject="075\0"),  # numpy would read it as 075
    "zero frames": _set(1, frames=0),
    "fractional frames": _set(1, frames=1.5),
    "more frames than int32": _set(1, frames=2**70),
    "index true instead of 1": _set(1, index=True),
    "unknown format": _set(None, format="x"),
    "older format": _set(None, format="gaitset-bins-1"),
    "shape as a number": _set(None, shape=5),
    "shape with a zero": _set(None, shape=[0, 64, 44]),
    "wrong count": _set(None, count=6),
    "dataset null": _set(None, dataset=None),
    "padding missing": lambda content: content.pop("padding"),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A manifest that no test changes."""
    folder = tmp_path_factory.mktemp("written") / "CASIA-B-bin"
    return write_input_files(TinyStore(), None, folder, f"{folder}.info", FixedLength(5), quiet=True).path


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_read_manifest_rejects_a_damaged_manifest(written, tmp_path, damage):
    content = read_json(written, sealed=True)
    damage(content)
    write_json(tmp_path / "bad.json", content, sealed=True)
    with pytest.raises(UserError, match=r"bad\.json"):
        read_manifest(tmp_path / "bad.json")
