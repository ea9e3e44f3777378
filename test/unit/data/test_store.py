"""The packed store: contents, rebuilding, and errors."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import cv2
import numpy as np
import pytest

from model.common.errors import UsageError, UserError
from model.common.json_files import read_json, write_json
from model.data import store as store_module
from model.data.store import current_source, is_store, open_data, open_store, store_path
from model.data.store_index import source_stamp

FRAME = "001/nm-01/000/001-nm-01-000-001.png"


def frames_by_hand(folder):
    return np.stack([cv2.imread(str(path), 0)[:, 10:54] for path in sorted(folder.iterdir())])


@pytest.mark.parametrize("cache", [False, True])
def test_store_holds_the_tree(tree, tmp_path, cache):
    store = open_data(tree, tmp_path / "stores", cache=cache)
    assert len(store.index) == 2 * 2 * 2
    for position in range(len(store.index)):
        assert np.array_equal(store.sequence(position), frames_by_hand(tree / store.index.name(position)))
    assert isinstance(store.frames.base, np.memmap) is not cache


def test_a_store_is_accepted_as_data(tree, store, tmp_path):
    shutil.rmtree(tree)
    assert len(open_data(store.path, tmp_path / "unused").index) == 8


def rewrite_in_place(tree):
    for path in sorted((tree / "001" / "nm-01" / "000").iterdir()):
        path.write_bytes(cv2.imencode(".png", np.tri(64, k=-32, dtype=np.uint8) * 255)[1].tobytes())


CHANGES = {
    "frame added": lambda t: shutil.copy(t / FRAME, t / "001/nm-01/000/zz.png"),
    "frame removed": lambda t: (t / FRAME).unlink(),
    "frames overwritten in place": rewrite_in_place,
    "sequence added": lambda t: shutil.copytree(t / "001/nm-01/000", t / "001/nm-01/180"),
    "sequence removed": lambda t: shutil.rmtree(t / "002/bg-01/090"),
    "subject added": lambda t: shutil.copytree(t / "001", t / "003"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_tree_is_packed_again(tree, store, tmp_path, change):
    assert current_source(tree, store.path)
    change(tree)
    assert current_source(tree, store.path) is None
    after = open_data(tree, tmp_path / "stores")
    assert after.index.frames.sum() == len(list(tree.glob("*/*/*/*")))
    assert current_source(tree, after.path)


def test_worker_processes_give_the_same_store(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "core_count", lambda: 2)
    alone = open_data(tree, tmp_path / "alone")
    monkeypatch.setattr(store_module, "MIN_FILES_FOR_POOL", 1)
    many = open_data(tree, tmp_path / "many")
    assert np.array_equal(alone.frames, many.frames)
    assert alone.index.subject.tolist() == many.index.subject.tolist()


def test_a_failed_build_keeps_the_old_store(tree, store, tmp_path):
    (tree / FRAME).write_bytes(b"")
    with pytest.raises(UserError, match=r"001-nm-01-000-001\.png"):
        open_data(tree, tmp_path / "stores")
    assert is_store(store.path)
    assert [p.name for p in (tmp_path / "stores").iterdir()] == [store.path.name]


def test_skipped_files_are_reported_at_each_opening(tree, tmp_path, caplog):
    """A store that was built with skip_bad must not be accepted later without skip_bad."""
    (tree / FRAME).write_bytes(b"no image")
    for _ in range(2):
        caplog.clear()
        store = open_data(tree, tmp_path / "stores", skip_bad=True)
        assert "001-nm-01-000-001.png" in caplog.text
        position = [store.index.name(i) for i in range(len(store.index))].index("001/nm-01/000")
        assert store.index.frames[position] == len(list((tree / "001/nm-01/000").iterdir())) - 1
        with pytest.raises(UserError, match=r"1 unreadable file,.*001-nm-01-000-001\.png"):
            open_data(tree, tmp_path / "stores")


def test_empty_sequences_are_skipped_with_a_warning(tree, tmp_path, caplog):
    (tree / "001" / "nm-02" / "000").mkdir(parents=True)
    assert len(open_data(tree, tmp_path / "stores").index) == 8
    assert "001/nm-02/000" in caplog.text


def test_raw_frames_are_rejected_with_advice(tree, tmp_path):
    cv2.imwrite(str(tree / FRAME), np.zeros((240, 320), np.uint8))
    with pytest.raises(UserError, match=r"240×320.*pretreatment\.py"):
        open_data(tree, tmp_path / "stores")


def test_missing_path_is_rejected(tmp_path):
    with pytest.raises(UsageError, match="no such folder; give a tree"):
        open_data(tmp_path / "nowhere", tmp_path / "stores")
    (tmp_path / "walkers.png").touch()
    with pytest.raises(UsageError, match="is a file, not a folder; give a tree"):
        open_data(tmp_path / "walkers.png", tmp_path / "stores")


def cut_frames(path):
    with (path / "frames.u8").open("r+b") as file:
        file.truncate(1000)


def test_truncated_store_is_rejected(store):
    cut_frames(store.path)
    with pytest.raises(UserError, match=r"1000 bytes.*delete"):
        open_store(store.path)


def test_store_of_another_version_is_rejected(store):
    index = store.path / "index.json"
    write_json(index, read_json(index) | {"format": "gaitset-store-0"}, sealed=True)
    with pytest.raises(UserError, match="not a store of this version"):
        open_store(store.path)
    write_json(index, {"format": "gaitset-store-1"})
    with pytest.raises(UserError, match=r"an older version; .*delete"):
        open_store(store.path)


def test_every_damaged_byte_of_an_index_is_detected(store):
    """Without the checksum, the label `001` could become `003` without an error."""
    content = (store.path / "index.json").read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 2
        (store.path / "index.json").write_bytes(damaged)
        with pytest.raises(UserError, match=r"index\.json"):
            open_store(store.path)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": ["001"]}, {"subject_code": [0, 0]}, {"subject_code": [-1] * 8}, {"subject_code": [[0] * 8]},
        {"subject": [1, 2]}, {"view_code": "00000000"}, {"frames": [0] * 8}, {"frames": [-3] * 8}, {"frames": None},
        {"frames": [[3]] * 8}, {"frames": [2**70] * 8}, {"frames": ["x"] * 8}, {"frames": [1]}, {"frames": []},
    ],
    ids=repr,
)  # fmt: skip
def test_an_inconsistent_index_is_reported_in_one_line(store, change):
    index = store.path / "index.json"
    write_json(index, read_json(index, sealed=True) | change, sealed=True)
    with pytest.raises(UserError, match=r"index\.json: damaged"):
        open_store(store.path)


def with_source(ends):
    """Return a function that writes a source with other first and last files."""
    source = {"stamp": "", "ends": ends, "faults": []}
    return lambda path: write_json(path / "source.json", source, sealed=True)


DAMAGES = {
    "frames truncated": cut_frames,
    "frames missing": lambda path: (path / "frames.u8").unlink(),
    "index truncated": lambda path: (path / "index.json").write_text("{"),
    "index missing": lambda path: (path / "index.json").unlink(),
    "source truncated": lambda path: (path / "source.json").write_text("{"),
    "source missing": lambda path: (path / "source.json").unlink(),
    "source with impossible file names": with_source({"001/nm-01/000": ["a\0", "../b"]}),
    "source of other types": with_source({"a": [1]}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_store_of_a_tree_is_built_again(tree, tmp_path, damage):
    before = open_data(tree, tmp_path / "stores", cache=True)
    damage(before.path)
    after = open_data(tree, tmp_path / "stores")
    assert np.array_equal(before.frames, after.frames) and before.path == after.path
    assert [p.name for p in (tmp_path / "stores").iterdir()] == [before.path.name]


def test_a_job_waits_while_another_builds_the_store(tree, tmp_path, monkeypatch, caplog):
    """If two jobs start at the same time, only one of them builds the store."""
    monkeypatch.setattr("model.common.lock._RETRY_SECONDS", 0.01)
    store, build_store = store_path(tree.resolve(), tmp_path / "stores"), store_module.build_store
    slowly = Mock(side_effect=lambda *a, **k: (build_store(*a, **k), time.sleep(0.2)))
    monkeypatch.setattr(store_module, "build_store", slowly)
    with ThreadPoolExecutor(2) as pool:
        found = [job.result() for job in [pool.submit(open_data, tree, tmp_path / "stores") for _ in range(2)]]
    assert slowly.call_count == 1 and {one.path for one in found} == {store}
    assert f"waiting for {store}, which another job is writing, process" in caplog.text


def test_stamp_of_a_tree_without_a_listed_file_is_none(tree):
    ends = {"001/nm-01/000": ("001-nm-01-000-001.png", "gone.png")}
    assert source_stamp(tree, ends) is None


def test_a_link_to_itself_is_an_unreadable_frame(tree, tmp_path):
    loop = tree / "001/nm-01/000/000.png"  # the first file of its sequence, so the stamp covers it
    loop.symlink_to(loop)
    for _ in range(2):
        with pytest.raises(UserError, match=r"1 unreadable file,.*000\.png: cannot be read"):
            open_data(tree, tmp_path / "stores")
    assert len(open_data(tree, tmp_path / "stores", skip_bad=True).index) == 8


def test_trees_with_equal_names_have_different_stores(tmp_path):
    assert store_path(tmp_path / "a" / "CASIA-B", "s") != store_path(tmp_path / "b" / "CASIA-B", "s")


def test_tree_without_readable_frames_is_rejected(tree, tmp_path):
    for path in tree.glob("*/*/*/*"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no readable frame"):
        open_data(tree, tmp_path / "stores", skip_bad=True)
    assert not list((tmp_path / "stores").iterdir())
