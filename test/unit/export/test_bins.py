import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_store import FRAMES, TinyStore

from model.common.errors import UserError
from model.common.files import read_json, write_json
from model.common.lock import locked
from model.data.index import SequenceIndex
from model.export.bins import check_replaceable, fixed_length, write_bins
from model.export.manifest import fill_last_batch, manifest_path, read_info, read_manifest


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(store=None, positions=None, folder="CASIA-B-bin", **keywords):
    return write_bins(
        store or TinyStore(),
        positions,
        folder,
        f"{folder}.info",
        **{"frame_num": 5, "quiet": True, **keywords},
    )


def numbered(frames):
    """Frame i is full of i + 1."""
    return np.broadcast_to(np.arange(1, frames + 1, dtype=np.uint8)[:, None, None], (frames, 2, 2))


@pytest.mark.parametrize(
    ("frames", "frame_num", "padding", "truncate", "expected"),
    [
        (3, 7, "repeat", "first", [1, 2, 3, 1, 2, 3, 1]),
        (3, 5, "zero", "first", [0, 0, 1, 2, 3]),
        (1, 3, "repeat", "even", [1, 1, 1]),
        (4, 4, "zero", "even", [1, 2, 3, 4]),
        (9, 4, "zero", "first", [1, 2, 3, 4]),
        (9, 3, "repeat", "even", [2, 5, 8]),
        (5, 4, "repeat", "even", [1, 2, 4, 5]),
        (8, 4, "repeat", "even", [2, 4, 6, 8]),
    ],
)
def test_fixed_length(frames, frame_num, padding, truncate, expected):
    fixed = fixed_length(numbered(frames), frame_num, padding, truncate)
    assert fixed.dtype == np.uint8
    assert fixed.shape == (frame_num, 2, 2)
    assert fixed[:, 0, 0].tolist() == expected
    assert (fixed == fixed[:, :1, :1]).all()


@pytest.mark.parametrize("frames", [100, 101, 150, 199, 200, 255])
def test_even_takes_no_frame_twice(frames):
    taken = fixed_length(numbered(frames), 100, truncate="even")[:, 0, 0].astype(int)
    gaps = np.diff(taken)
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


def test_fixed_length_refuses():
    with pytest.raises(ValueError, match="without a frame"):
        fixed_length(np.zeros((0, 64, 44), np.uint8), 5)
    with pytest.raises(ValueError, match="mirror"):
        fixed_length(numbered(2), 5, padding="mirror")
    with pytest.raises(ValueError, match="last"):
        fixed_length(numbered(2), 5, truncate="last")


def test_bins_hold_the_frames_as_little_endian_floats(at_home):
    store = TinyStore()
    write(store)
    for i, (frames, sequence) in enumerate(zip(FRAMES, store.sequences, strict=True)):
        raw = (at_home / "CASIA-B-bin" / f"{i:04d}.bin").read_bytes()
        found = np.frombuffer(raw, "<f4").reshape(5, 64, 44)
        for j in range(5):
            assert (found[j] == sequence[j % frames].astype(np.float32) / np.float32(255)).all()


def test_list_names_the_folder_as_it_was_given(at_home):
    write()
    lines = [f"{i} CASIA-B-bin/{i:04d}.bin 64 64\n" for i in range(5)]
    assert (at_home / "CASIA-B-bin.info").read_bytes() == "".join(lines).encode()
    assert [entry.index for entry in read_info("CASIA-B-bin.info")] == [0, 1, 2, 3, 4]
    write(folder=str(at_home / "with blank"))
    entries = read_info(at_home / "with blank.info")
    assert entries[3].path == at_home / "with blank" / "0003.bin"
    assert (entries[3].width, entries[3].height) == (64, 64)


def test_manifest_says_whose_sequence_each_bin_is(at_home):
    store = TinyStore()
    partition = {"sha256": "0" * 64, "subjects": ["075", "076"]}
    write(store, [4, 1, 3], dataset="CASIA-B", partition=partition, padding="zero", truncate="even")
    manifest = read_manifest(manifest_path("CASIA-B-bin"))
    assert manifest.shape == (5, 64, 44)
    assert manifest.settings["padding"] == "zero" and manifest.settings["truncate"] == "even"
    assert manifest.settings["partition"] == partition and manifest.settings["dataset"] == "CASIA-B"
    numbers = [(e["frames"], e["frames_used"], e["frames_padded"]) for e in manifest.entries]
    assert numbers == [(1, 1, 4), (7, 5, 0), (5, 5, 0)]
    for entry, position in zip(manifest.entries, [4, 1, 3], strict=True):
        labels = "/".join(entry[column] for column in ("subject", "seq_type", "view"))
        assert labels == store.index.name(position)
        first = np.frombuffer((at_home / "CASIA-B-bin" / entry["file"]).read_bytes(), "<f4")
        assert first.size == 5 * 64 * 44
    assert manifest.labels.subject.tolist() == store.index.subject[[4, 1, 3]].tolist()
    assert manifest.labels.frames.tolist() == [1, 7, 5]


def test_positions_as_a_mask(at_home):
    store = TinyStore()
    by_mask = write(store, store.index.seq_type == "nm-01").entries
    assert by_mask == write(store, [1, 3]).entries


def test_more_than_ten_thousand_bins_take_five_digits(at_home):
    from model.export.bins import _entries

    index = SequenceIndex.from_lengths(["1"] * 10_001, ["nm-01"] * 10_001, ["000"] * 10_001, [1] * 10_001)
    assert [_entries(index, 5)[i]["file"] for i in (0, 10_000)] == ["00000.bin", "10000.bin"]
    assert _entries(index.take(np.arange(10_000)), 5)[-1]["file"] == "9999.bin"


def test_smaller_run_leaves_no_bin_of_the_larger_one(at_home):
    write()
    write(positions=[0, 1])
    assert sorted(p.name for p in Path("CASIA-B-bin").iterdir()) == ["0000.bin", "0001.bin"]
    assert sorted(p.name for p in at_home.iterdir()) == [
        "CASIA-B-bin",
        "CASIA-B-bin.info",
        "CASIA-B-bin.json",
    ]
    assert len(read_info("CASIA-B-bin.info")) == 2


def test_failed_run_leaves_the_older_bins_and_their_list(at_home):
    write()

    class Failing(TinyStore):
        def sequence(self, position):
            if position == 3:
                raise UserError("the store is damaged")
            return super().sequence(position)

    before = {p: p.read_bytes() for p in at_home.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match="damaged"):
        write(Failing(), padding="zero")
    assert {p: p.read_bytes() for p in at_home.rglob("*") if p.is_file()} == before


def test_folder_of_other_things_is_not_replaced(at_home):
    (at_home / "CASIA-B-bin").mkdir()
    (at_home / "CASIA-B-bin" / "thesis.doc").write_text("years of work")
    with pytest.raises(UserError, match=r"thesis\.doc"):
        write()
    assert (at_home / "CASIA-B-bin" / "thesis.doc").read_text() == "years of work"
    (at_home / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        check_replaceable(at_home / "file", ".bin")


def test_nothing_to_write_and_empty_sequence(at_home):
    with pytest.raises(UserError, match="no sequence to write"):
        write(positions=[])
    with pytest.raises(UserError, match=r"075/nm-01/090: no frame"):
        write(TinyStore([3, 0, 2]))
    assert not list(at_home.iterdir())


def test_disk_too_small(at_home, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(UserError, match="the bins need 6 MB, 1 MB are free"):
        write(frame_num=100)
    assert not list(at_home.iterdir())


def test_a_disk_that_fails_is_one_line(at_home, monkeypatch):
    def fail(self, content):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(UserError, match=r"CASIA-B-bin: failed while it was written \(Input/output error\)"):
        write()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 a.bin 64 64\n1 b.bin 64\n", "line 2"),
        ("0 a.bin 64 64\n\nx b.bin 64 64\n", "line 3"),
        ("0 a.bin 64 64\n0 b.bin 64 64\n", "index 0 a second time"),
        ("0\n", "line 1"),
        ("\n", "empty"),
    ],
)
def test_damaged_list(tmp_path, text, words):
    (tmp_path / "bad.info").write_text(text)
    with pytest.raises(UserError, match=words):
        read_info(tmp_path / "bad.info")


def test_list_is_sorted_by_index_and_takes_foreign_line_ends(tmp_path):
    (tmp_path / "list.info").write_bytes(b"10 k.bin 64 64\r\n2 c.bin 64 64\r\n")
    assert [(e.index, e.path.name) for e in read_info(tmp_path / "list.info")] == [
        (2, "c.bin"),
        (10, "k.bin"),
    ]
    with pytest.raises(UserError, match="cannot be read"):
        read_info(tmp_path / "absent.info")


def _set(place, **changes):
    def damage(content):
        (content["entries"][place] if place is not None else content).update(changes)

    return damage


DAMAGES = {
    "an entry dropped": lambda content: content["entries"].pop(1),
    "entries reversed": lambda content: content["entries"].reverse(),
    "entries no list": _set(None, entries={"0": 1}),
    "no entries": _set(None, entries=[], count=0),
    "an entry no dict": lambda content: content["entries"].__setitem__(0, 5),
    "without a subject": lambda content: content["entries"][2].pop("subject"),
    "the same file": _set(1, file="0000.bin"),
    "the same stem elsewhere": _set(1, file="more/0000.bin"),
    "a file that climbs": _set(1, file="../0001.bin"),
    "an absolute file": _set(1, file="/0001.bin"),
    "another suffix": _set(1, file="0001.txt"),
    "a file that is none": _set(1, file=None),
    "a subject that is none": _set(1, subject=1),
    "an empty view": _set(1, view=""),
    "a view of two lines": _set(1, view="0\n90"),
    "a label with zeros behind it": _set(1, subject="075\0"),  # numpy would take it for 075
    "no frames": _set(1, frames=0),
    "half a frame": _set(1, frames=1.5),
    "more frames than there are numbers for": _set(1, frames=2**70),
    "true for one": _set(1, index=True),
    "another format": _set(None, format="x"),
    "the format before": _set(None, format="gaitset-bins-1"),
    "a shape that is none": _set(None, shape=5),
    "a shape of nothing": _set(None, shape=[0, 64, 44]),
    "another count": _set(None, count=6),
    "no dataset": _set(None, dataset=None),
    "no padding": lambda content: content.pop("padding"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_manifest(at_home, damage):
    write()
    content = read_json("CASIA-B-bin.json", sealed=True)
    damage(content)
    write_json("bad.json", content, sealed=True)
    with pytest.raises(UserError, match=r"bad\.json"):
        read_manifest("bad.json")


@pytest.mark.parametrize(("count", "batch_size", "added"), [(5, 4, 3), (5, 5, 0), (1, 16, 15), (16, 16, 0), (7, 1, 0)])
def test_last_batch_is_filled_with_its_last_item(count, batch_size, added):
    items = [f"{i}" for i in range(count)]
    assert fill_last_batch(items, batch_size) == (items + [items[-1]] * added, added)
    assert fill_last_batch(range(count), batch_size)[0][count:] == [count - 1] * added


@pytest.mark.parametrize("padding", ["repeat", "zero"])
def test_a_bin_gives_its_silhouettes_back_without_padding(at_home, padding):
    store = TinyStore()
    manifest = write(store, padding=padding)
    for number, sequence in enumerate(store.sequences):
        np.testing.assert_array_equal(manifest.sequence(number), sequence[:5])
    (at_home / "CASIA-B-bin" / "0002.bin").write_bytes(b"short")
    with pytest.raises(UserError, match=r"0002\.bin: no bin of shape"):
        manifest.sequence(2)


def test_no_change_to_a_manifest_gives_other_people(at_home):
    write()
    whole = Path("CASIA-B-bin.json").read_bytes()
    for place in range(0, len(whole), 3):
        Path("CASIA-B-bin.json").write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(UserError, match=r"CASIA-B-bin\.json"):
            read_manifest("CASIA-B-bin.json")


def test_of_two_writing_the_same_bins_the_second_is_told(at_home):
    with locked(Path(".CASIA-B-bin.lock"), "x"), pytest.raises(UserError, match="another job is writing there"):
        write()
    assert not Path("CASIA-B-bin").exists()
    write()
    assert sorted(p.name for p in at_home.iterdir()) == ["CASIA-B-bin", "CASIA-B-bin.info", "CASIA-B-bin.json"]
