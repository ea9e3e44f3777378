"""The packed store: contents, rebuilding, and errors."""

import pickle
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import cv2
import numpy as np
import pytest
from walkers import write_aligned_tree

from model.common.errors import UsageError, UserError
from model.common.json_files import read_json, write_json
from model.data import store as store_module
from model.data.source_stamp import source_stamp
from model.data.store import current_source, is_store, open_data, open_store, store_path


@pytest.fixture
def tree(tmp_path):
    return write_aligned_tree(tmp_path / "tree", subjects=2, seq_types=("nm-01", "bg-01"), frames=3)


def frames_by_hand(folder):
    return np.stack([cv2.imread(str(path), 0)[:, 10:54] for path in sorted(folder.iterdir())])


@pytest.mark.parametrize("cache", [False, True])
def test_store_holds_the_tree(tree, tmp_path, cache):
    store = open_data(tree, tmp_path / "stores", cache=cache)
    assert len(store.index) == 2 * 2 * 2
    for position in range(len(store.index)):
        expected = frames_by_hand(tree / store.index.name(position))
        assert np.array_equal(store.sequence(position), expected)
    assert isinstance(store.frames.base, np.memmap) is not cache


def test_second_opening_builds_nothing(tree, tmp_path, monkeypatch):
    first = open_data(tree, tmp_path / "stores")
    monkeypatch.setattr(store_module, "build_store", lambda *a, **k: pytest.fail("built again"))
    second = open_data(tree, tmp_path / "stores")
    assert np.array_equal(first.frames, second.frames)


def test_a_store_is_accepted_as_data(tree, tmp_path):
    path = open_data(tree, tmp_path / "stores").path
    shutil.rmtree(tree)
    assert len(open_data(path, tmp_path / "unused").index) == 8


def rewrite_in_place(tree):
    for path in sorted((tree / "001" / "nm-01" / "000").iterdir()):
        path.write_bytes(cv2.imencode(".png", np.tri(64, k=-32, dtype=np.uint8) * 255)[1].tobytes())


CHANGES = {
    "frame added": lambda t: shutil.copy(t / "001/nm-01/000/001-nm-01-000-001.png", t / "001/nm-01/000/zz.png"),
    "frame removed": lambda t: (t / "001/nm-01/000/001-nm-01-000-002.png").unlink(),
    "frames overwritten in place": rewrite_in_place,
    "sequence added": lambda t: shutil.copytree(t / "001/nm-01/000", t / "001/nm-01/180"),
    "sequence removed": lambda t: shutil.rmtree(t / "002/bg-01/090"),
    "subject added": lambda t: shutil.copytree(t / "001", t / "003"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_tree_is_packed_again(tree, tmp_path, change):
    before = open_data(tree, tmp_path / "stores")
    assert current_source(tree, before.path)
    change(tree)
    assert current_source(tree, before.path) is None
    after = open_data(tree, tmp_path / "stores")
    total = sum(len(list(folder.iterdir())) for folder in tree.glob("*/*/*"))
    assert after.index.frames.sum() == total
    assert current_source(tree, after.path)


def test_worker_processes_give_the_same_store(tree, tmp_path, monkeypatch):
    alone = open_data(tree, tmp_path / "one", workers=1)
    monkeypatch.setattr(store_module, "MIN_FILES_FOR_POOL", 1)
    many = open_data(tree, tmp_path / "two", workers=2)
    assert np.array_equal(alone.frames, many.frames)
    assert alone.index.subject.tolist() == many.index.subject.tolist()


def test_a_failed_build_keeps_the_old_store(tree, tmp_path):
    before = open_data(tree, tmp_path / "stores")
    (tree / "001/nm-01/000/001-nm-01-000-001.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"001-nm-01-000-001\.png"):
        open_data(tree, tmp_path / "stores")
    assert is_store(before.path)
    assert [p.name for p in (tmp_path / "stores").iterdir()] == [before.path.name]


def test_bad_images_are_skipped_with_skip_bad(tree, tmp_path, caplog):
    (tree / "001/nm-01/000/001-nm-01-000-001.png").write_bytes(b"no image")
    store = open_data(tree, tmp_path / "stores", skip_bad=True)
    position = [store.index.name(i) for i in range(len(store.index))].index("001/nm-01/000")
    assert store.index.frames[position] == len(list((tree / "001/nm-01/000").iterdir())) - 1
    assert "001-nm-01-000-001.png" in caplog.text


def test_empty_sequences_are_skipped_with_a_warning(tree, tmp_path, caplog):
    (tree / "001" / "nm-02" / "000").mkdir(parents=True)
    store = open_data(tree, tmp_path / "stores")
    assert len(store.index) == 8
    assert "001/nm-02/000" in caplog.text


def test_raw_frames_are_rejected_with_advice(tree, tmp_path):
    cv2.imwrite(str(tree / "001/nm-01/000/001-nm-01-000-001.png"), np.zeros((240, 320), np.uint8))
    with pytest.raises(UserError, match=r"240×320.*pretreatment\.py"):
        open_data(tree, tmp_path / "stores")


def test_missing_path_is_rejected(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        open_data(tmp_path / "nowhere", tmp_path / "stores")


def test_truncated_store_is_rejected(tree, tmp_path):
    path = open_data(tree, tmp_path / "stores").path
    with (path / "frames.u8").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(UserError, match=r"1000 bytes.*delete"):
        open_store(path)


def test_store_of_another_version_is_rejected(tree, tmp_path):
    path = open_data(tree, tmp_path / "stores").path
    write_json(path / "index.json", read_json(path / "index.json") | {"format": "gaitset-store-0"}, sealed=True)
    with pytest.raises(UserError, match="not a store of this version"):
        open_store(path)
    write_json(path / "index.json", {"format": "gaitset-store-1"})
    with pytest.raises(UserError, match=r"an older version; .*delete"):
        open_store(path)


def test_every_damaged_byte_of_an_index_is_detected(tree, tmp_path):
    """Without the checksum, the label `001` could become `003` without an error."""
    path = open_data(tree, tmp_path / "stores").path
    content = (path / "index.json").read_bytes()
    for position in range(len(content)):
        (path / "index.json").write_bytes(content[:position] + bytes([content[position] ^ 2]) + content[position + 1 :])
        with pytest.raises(UserError, match=r"index\.json"):
            open_store(path)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": ["001"]}, {"subject_code": [0, 0]}, {"subject_code": [-1] * 8}, {"subject_code": [[0] * 8]},
        {"subject": [1, 2]}, {"view_code": "00000000"}, {"frames": [0] * 8}, {"frames": [-3] * 8}, {"frames": None},
        {"frames": [[3]] * 8}, {"frames": [2**70] * 8}, {"frames": ["x"] * 8}, {"frames": [1]}, {"frames": []},
    ],
    ids=repr,
)  # fmt: skip
def test_an_inconsistent_index_is_reported_in_one_line(tree, tmp_path, change):
    path = open_data(tree, tmp_path / "stores").path
    write_json(path / "index.json", read_json(path / "index.json", sealed=True) | change, sealed=True)
    with pytest.raises(UserError, match=r"index\.json: damaged|frames\.u8: \d+ bytes, -?\d+ expected"):
        open_store(path)


def damage_frames(store):
    with (store / "frames.u8").open("r+b") as file:
        file.truncate(1000)


DAMAGES = {
    "frames truncated": damage_frames,
    "frames missing": lambda s: (s / "frames.u8").unlink(),
    "index truncated": lambda s: (s / "index.json").write_text("{"),
    "index missing": lambda s: (s / "index.json").unlink(),
    "source truncated": lambda s: (s / "source.json").write_text("{"),
    "source missing": lambda s: (s / "source.json").unlink(),
    "source with impossible file names": lambda s: write_json(
        s / "source.json", {"stamp": "", "ends": {"001/nm-01/000": ["a\0", "../b"]}, "faults": []}, sealed=True
    ),
    "source of other types": lambda s: write_json(
        s / "source.json", {"stamp": "", "ends": {"a": [1]}, "faults": []}, sealed=True
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_store_of_a_tree_is_built_again(tree, tmp_path, damage):
    before = open_data(tree, tmp_path / "stores", cache=True)
    damage(before.path)
    after = open_data(tree, tmp_path / "stores")
    assert np.array_equal(before.frames, after.frames) and before.path == after.path
    assert [p.name for p in (tmp_path / "stores").iterdir()] == [before.path.name]


def test_a_job_waits_while_another_builds_the_store(tree, tmp_path, monkeypatch, caplog):
    """Two jobs started at the same time share the store: only one of them builds it."""
    monkeypatch.setattr("model.common.lock._RETRY_SECONDS", 0.01)
    store = store_path(tree.resolve(), tmp_path / "stores")
    builds = []
    build_store = store_module.build_store

    def build_slowly(*arguments, **keywords):
        builds.append(arguments)
        build_store(*arguments, **keywords)
        time.sleep(0.2)

    monkeypatch.setattr(store_module, "build_store", build_slowly)
    with ThreadPoolExecutor(2) as pool:
        found = [job.result() for job in [pool.submit(open_data, tree, tmp_path / "stores") for _ in range(2)]]
    assert len(builds) == 1 and {one.path for one in found} == {store}
    assert f"waiting for {store}, which another job is writing, process" in caplog.text


CONTENTS = {  # of aligned frames: what the store holds, or why it is not built
    "aligned": (lambda frames: frames, lambda frames: frames, ""),
    "0 and 1": (
        lambda frames: frames // 128,
        lambda frames: frames // 128 * 255,
        "sequences: masks of two other values",
    ),
    "0 and 100": (lambda frames: frames // 128 * 100, lambda frames: frames // 128 * 255, "were scaled to 0 and 255"),
    "inverted": (lambda frames: 255 - frames, None, "most of the picture, and its border, is white: .*--invert"),
    "inverted 0 and 1": (lambda frames: 1 - frames // 128, None, "most of the picture, and its border, is white"),
    "white": (lambda frames: frames | 255, None, "the whole picture is white"),
    "grey": (
        lambda frames: frames // 2 + 60 + np.uint8([0, 1] * 32),
        None,
        "100% of the pixels are neither black nor white: .* python -m model.silhouettes",
    ),
}


@pytest.mark.parametrize("kind", ["images", "alpha", "pickles"])
@pytest.mark.parametrize("content", CONTENTS)
def test_content_of_aligned_frames(tree, tmp_path, caplog, content, kind):
    change, stored, message = CONTENTS[content]
    caplog.set_level("INFO")
    before = open_data(tree, tmp_path / "before")
    for folder in sorted(tree.glob("*/*/*")):
        frames = np.stack([cv2.imread(str(path), 0) for path in sorted(folder.iterdir())])
        for path, frame in zip(sorted(folder.iterdir()), change(frames), strict=True):
            path.unlink()
            if kind != "pickles":
                cv2.imwrite(
                    str(path), frame if kind == "images" else cv2.merge([np.full_like(frame, 255)] * 3 + [frame])
                )
        if kind == "pickles":
            (folder / f"{folder.name}.pkl").write_bytes(pickle.dumps(change(frames)))
    if stored is None:
        with pytest.raises(UserError, match=rf"001/bg-01/000: {message}"):
            open_data(tree, tmp_path / "stores")
        assert not list((tmp_path / "stores").iterdir())
        return
    caplog.clear()
    np.testing.assert_array_equal(open_data(tree, tmp_path / "stores").frames, stored(before.frames))
    notes = [record.getMessage() for record in caplog.records if "sequences: " in record.getMessage()]
    assert len(notes) == bool(message) + (kind == "alpha") and all("8 sequences" in note for note in notes)
    assert not message or message in notes[-1]


def test_stamp_of_a_tree_without_a_listed_file_is_none(tree):
    ends = {"001/nm-01/000": ("001-nm-01-000-001.png", "gone.png")}
    assert source_stamp(tree, ends) is None


def test_a_link_to_itself_is_an_unreadable_frame(tree, tmp_path):
    loop = tree / "001/nm-01/000/000.png"  # the first of its sequence, which the stamp covers
    loop.symlink_to(loop)
    for _ in range(2):
        with pytest.raises(UserError, match=r"1 unreadable files.*000\.png: cannot be read"):
            open_data(tree, tmp_path / "stores")
    assert len(open_data(tree, tmp_path / "stores", skip_bad=True).index) == 8


def test_trees_with_equal_names_have_different_stores(tmp_path):
    assert store_path(tmp_path / "a" / "CASIA-B", "s") != store_path(tmp_path / "b" / "CASIA-B", "s")


def test_skipped_files_are_reported_again(tree, tmp_path, caplog):
    """A store built with skip_bad must not count as complete later."""
    (tree / "001/nm-01/000/001-nm-01-000-001.png").write_bytes(b"")
    open_data(tree, tmp_path / "stores", skip_bad=True)
    with pytest.raises(UserError, match=r"1 unreadable files.*001-nm-01-000-001\.png"):
        open_data(tree, tmp_path / "stores")
    caplog.clear()
    open_data(tree, tmp_path / "stores", skip_bad=True)
    assert "001-nm-01-000-001.png" in caplog.text


def test_tree_without_readable_frames_is_rejected(tree, tmp_path):
    for path in tree.glob("*/*/*/*"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no readable frame"):
        open_data(tree, tmp_path / "stores", skip_bad=True)
    assert not list((tmp_path / "stores").iterdir())


def test_a_killed_worker_ends_the_job(tree, tmp_path, monkeypatch):
    def broken(self, *arguments, **keywords):
        raise BrokenProcessPool

    monkeypatch.setattr(store_module, "MIN_FILES_FOR_POOL", 1)
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor.map", broken)
    with pytest.raises(UserError, match="was killed"):
        open_data(tree, tmp_path / "stores", workers=2)
