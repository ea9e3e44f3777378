"""Input files of fixed length, their `.info` list and their manifest."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_store import FRAMES, TinyStore

from model.common.errors import UserError
from model.common.lock import locked
from model.data.index import SequenceIndex
from model.export.input_files import FixedLength, _entries, check_replaceable, fixed_length, write_input_files
from model.export.manifest import fill_last_batch, manifest_path, read_info, read_manifest


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Run each test in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(store=None, positions=None, folder="CASIA-B-bin", length=("repeat", "first"), frame_num=5, **keywords):
    length = FixedLength(frame_num, *length)
    return write_input_files(store or TinyStore(), positions, folder, f"{folder}.info", length, quiet=True, **keywords)


def numbered(frames):
    """Return a sequence whose frame i is filled with i + 1."""
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
def test_fixed_length_pads_and_truncates(frames, frame_num, padding, truncate, expected):
    fixed = fixed_length(numbered(frames), frame_num, padding, truncate)
    assert fixed.dtype == np.uint8 and fixed.shape == (frame_num, 2, 2)
    assert fixed[:, 0, 0].tolist() == expected
    assert (fixed == fixed[:, :1, :1]).all()


@pytest.mark.parametrize("frames", [100, 101, 150, 199, 200, 255])
def test_even_truncation_takes_no_frame_twice(frames):
    taken = fixed_length(numbered(frames), 100, truncate="even")[:, 0, 0].astype(int)
    gaps = np.diff(taken)
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(
    ("frames", "arguments", "words"),
    [(0, {}, "without frames"), (2, {"padding": "mirror"}, "mirror"), (2, {"truncate": "last"}, "last")],
)
def test_fixed_length_rejects_wrong_arguments(frames, arguments, words):
    with pytest.raises(ValueError, match=words):
        fixed_length(numbered(frames), 5, **arguments)


def test_input_files_hold_little_endian_floats(folder):
    store = TinyStore()
    write(store)
    for i, (frames, sequence) in enumerate(zip(FRAMES, store.sequences, strict=True)):
        found = np.fromfile(folder / "CASIA-B-bin" / f"{i:04d}.bin", "<f4").reshape(5, 64, 44)
        for j in range(5):
            assert (found[j] == sequence[j % frames].astype(np.float32) / np.float32(255)).all()


def test_info_list_names_files_as_the_folder_was_given(folder):
    write()
    lines = [f"{i} CASIA-B-bin/{i:04d}.bin 64 64\n" for i in range(5)]
    assert (folder / "CASIA-B-bin.info").read_bytes() == "".join(lines).encode()
    assert read_info("CASIA-B-bin.info") == [Path(f"CASIA-B-bin/{i:04d}.bin") for i in range(5)]
    write(folder=str(folder / "with blank"))
    assert (folder / "with blank.info").read_text().splitlines()[3] == f"3 {folder}/with blank/0003.bin 64 64"
    assert read_info(folder / "with blank.info")[3] == folder / "with blank" / "0003.bin"


def test_manifest_holds_labels_and_settings(folder):
    store, partition = TinyStore(), {"sha256": "0" * 64, "subjects": ["075", "076"]}
    write(store, [4, 1, 3], length=("zero", "even"), dataset="CASIA-B", partition=partition)
    manifest = read_manifest(manifest_path("CASIA-B-bin"))
    assert manifest.shape == (5, 64, 44)
    expected = {"padding": "zero", "truncate": "even", "partition": partition, "dataset": "CASIA-B"}
    assert {key: manifest.settings[key] for key in expected} == expected
    numbers = [(e["frames"], e["frames_used"], e["frames_padded"]) for e in manifest.entries]
    assert numbers == [(1, 1, 4), (7, 5, 0), (5, 5, 0)]
    for entry, position in zip(manifest.entries, [4, 1, 3], strict=True):
        assert "/".join(entry[column] for column in ("subject", "seq_type", "view")) == store.index.name(position)
        assert (folder / "CASIA-B-bin" / entry["file"]).stat().st_size == 4 * 5 * 64 * 44
    assert manifest.labels.subject.tolist() == store.index.subject[[4, 1, 3]].tolist()
    assert manifest.labels.frames.tolist() == [1, 7, 5]


def test_positions_may_be_a_mask():
    store = TinyStore()
    by_mask = write(store, store.index.seq_type == "nm-01").entries
    assert by_mask == write(store, [1, 3]).entries


def test_more_than_ten_thousand_files_have_five_digits():
    index = SequenceIndex.from_lengths(["1"] * 10_001, ["nm-01"] * 10_001, ["000"] * 10_001, [1] * 10_001)
    assert [_entries(index, 5)[i]["file"] for i in (0, 10_000)] == ["00000.bin", "10000.bin"]
    assert _entries(index.take(np.arange(10_000)), 5)[-1]["file"] == "9999.bin"


def test_a_smaller_run_removes_files_of_a_larger_one(folder):
    write()
    write(positions=[0, 1])
    assert sorted(p.name for p in Path("CASIA-B-bin").iterdir()) == ["0000.bin", "0001.bin"]
    assert sorted(p.name for p in folder.iterdir()) == ["CASIA-B-bin", "CASIA-B-bin.info", "CASIA-B-bin.json"]
    assert len(read_info("CASIA-B-bin.info")) == 2


def test_a_failed_run_keeps_the_existing_files_and_their_list(folder):
    class Failing(TinyStore):
        def sequence(self, position):
            if position == 3:
                raise UserError("the store is damaged")
            return super().sequence(position)

    write()
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match="damaged"):
        write(Failing(), length=("zero", "first"))
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_folder_with_other_files_is_not_replaced(folder):
    (folder / "CASIA-B-bin").mkdir()
    (folder / "CASIA-B-bin" / "thesis.doc").write_text("years of work")
    with pytest.raises(UserError, match=r"thesis\.doc"):
        write()
    assert (folder / "CASIA-B-bin" / "thesis.doc").read_text() == "years of work"
    (folder / "file").write_text("")
    with pytest.raises(UserError, match="it is a file"):
        check_replaceable(folder / "file", ".bin")


@pytest.mark.parametrize(
    ("store", "arguments", "words"),
    [
        (None, {"positions": []}, "no sequence to write"),
        ([3, 0, 2], {}, "075/nm-01/090: has no frames"),
        (None, {"frame_num": 100}, "the input files need 6 MB, but 1 MB are free"),
    ],
)
def test_errors_before_writing_leave_no_file(folder, monkeypatch, store, arguments, words):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(UserError, match=words):
        write(TinyStore(store) if store else None, **arguments)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("count", "batch_size", "added"), [(5, 4, 3), (5, 5, 0), (1, 16, 15), (16, 16, 0), (7, 1, 0)])
def test_the_last_batch_is_filled_with_its_last_item(count, batch_size, added):
    items = [f"{i}" for i in range(count)]
    assert fill_last_batch(items, batch_size) == (items + [items[-1]] * added, added)
    assert fill_last_batch(range(count), batch_size)[0][count:] == [count - 1] * added


@pytest.mark.parametrize("padding", ["repeat", "zero"])
def test_manifest_reads_silhouettes_without_padding(folder, padding):
    store = TinyStore()
    manifest = write(store, length=(padding, "first"))
    for number, sequence in enumerate(store.sequences):
        np.testing.assert_array_equal(manifest.sequence(number), sequence[:5])
    (folder / "CASIA-B-bin" / "0002.bin").write_bytes(b"short")
    with pytest.raises(UserError, match=r"0002\.bin: cannot be read as float32 values of shape"):
        manifest.sequence(2)


def test_a_second_job_on_the_same_folder_is_refused(folder):
    with locked(Path(".CASIA-B-bin.lock"), "x"), pytest.raises(UserError, match="another job is writing there"):
        write()
    assert not Path("CASIA-B-bin").exists()
    write()
    assert sorted(p.name for p in folder.iterdir()) == ["CASIA-B-bin", "CASIA-B-bin.info", "CASIA-B-bin.json"]
