"""Fuzz targets for images, trees, pickles, partitions and stores."""

import io
import logging
import os
import pickle
import random
import shutil
from pathlib import Path

import cv2
import fault_mutations as mutate
import numpy as np
from fault_mutations import Target, file_target, make, sealed_target
from payloads import programs
from raw_trees import encoded
from walkers import write_aligned_tree

from model.data.array_pickle import read_array
from model.data.partition import read_partition
from model.data.raw.aligned_sequence import RECORD, _read_record
from model.data.raw.silhouette import DROP_REASONS, align, decode_pixels, read_image
from model.data.raw.tree import scan_tree
from model.data.source import read_pickle, to_frame_size
from model.data.store import current_source, open_data, open_store

PIXELS = np.pad(np.full((60, 40), 255, np.uint8), ((2, 2), (12, 12)))
FRAME = encoded(".png", PIXELS)


def images(folder: Path) -> Target:
    """A modified PNG gives the same pixels as before or is rejected, because PNG files contain checksums."""
    grey = [np.where(np.random.default_rng(i).random((64, 64)) > 0.5, 255, 0).astype(np.uint8) for i in range(3)]
    colour = cv2.cvtColor(grey[0], cv2.COLOR_GRAY2BGR)
    pictures = [*grey, colour, np.full((1, 1), 255, np.uint8), np.full((240, 320), 255, np.uint8)]
    only_png = [cv2.cvtColor(grey[1], cv2.COLOR_GRAY2BGRA), grey[2].astype(np.uint16) * 257]
    good = {suffix: [encoded(suffix, picture) for picture in pictures] for suffix in (".png", ".bmp", ".jpg")}
    good[".png"] += [encoded(".png", picture) for picture in only_png]
    everything = sum(good.values(), [encoded(suffix, colour) for suffix in (".tiff", ".webp", ".ppm")])
    pixels = {cv2.imdecode(np.frombuffer(data, np.uint8), 0).tobytes() for data in good[".png"]}

    def read(draw: random.Random) -> None:
        suffix = draw.choice((".png", ".png", ".png", ".bmp", ".jpg"))
        data = mutate.bytes_of(draw.choice(good[suffix]), everything, draw)
        image = decode_pixels(data, "a.png").grey
        assert image.dtype == np.uint8 and image.ndim == 2 and image.size <= 1 << 26
        assert not data.startswith(b"\x89PNG") or image.tobytes() in pixels, "different pixels from a damaged PNG"
        aligned = align(image)
        assert aligned is None or aligned.shape == (64, 64)

    return read


def image_files(folder: Path) -> Target:
    """Image files that are empty, damaged, have a wrong suffix, or are not regular files."""
    links = [folder / "a.png", Path("/dev/zero"), folder, folder / "nowhere", Path("/proc/self/mem")]
    sizes = (0, 1, 1 << 20, 1 << 33)

    def read(draw: random.Random) -> None:
        path = folder / draw.choice(("a.png", "b.PNG", "步态 1.jpg", "c.bmp"))
        path.unlink(missing_ok=True)
        damaged = mutate.bytes_of(FRAME, [FRAME], draw)
        make(path, draw.choice((None, draw.choice(links), draw.choice(sizes), damaged, damaged, damaged)))
        read_image(path)

    return read


def trees(folder: Path) -> Target:
    """Trees with wrong depth, loops, hidden files or unusual names give a correct store or an error."""
    logging.getLogger("model.data.store").setLevel(logging.ERROR)
    root = folder / "tree"
    frames, views, takes = {"1.png": FRAME, "2.png": FRAME}, ("000", "090"), ("nm-01", "nm-02")
    good = {subject: {take: {view: dict(frames) for view in views} for take in takes} for subject in ("001", "002")}
    parts = [
        FRAME, FRAME[:60], b"", b"no image", encoded(".bmp", 0 * PIXELS), encoded(".png", PIXELS[:9, :20]),
        pickle.dumps(np.zeros((2, 64, 44), np.uint8)), 0, 1 << 33, {}, {"1.png": FRAME}, {"000": {"1.png": FRAME}},
        None, root, root / "001/nm-01", folder / "nowhere",
    ]  # fmt: skip
    names = [
        "003", "NM-01", "张三 李", "²", ".hidden", "a\nb", os.fsdecode(b"\xff"), "Thumbs.db", "01.png", "1.PNG",
        "2.jpg", "3.bmp", "²3.png", "090.pkl", "x.txt", "._1.png", ".DS_Store",
    ]  # fmt: skip

    def read(draw: random.Random) -> None:
        shutil.rmtree(root, ignore_errors=True)
        make(root, mutate.structure_of(mutate.structure_of(good, draw, parts, names), draw, parts, names))
        found = {s.name: s for s in scan_tree(root)}
        store = open_data(root, folder / "stores", skip_bad=draw.random() < 0.7)
        for i in range(len(store.index)):
            assert len(store.sequence(i)) and store.index.name(i) in found

    return read


def pickles(folder: Path) -> Target:
    arrays = [np.arange(64 * 44, dtype=np.uint8).reshape(1, 64, 44), np.zeros((2, 64, 64), np.uint8)[:, :, ::2],
              np.array([["1"], ["2", "3"]], dtype=object), np.asfortranarray(np.zeros((3, 4), np.uint8))]  # fmt: skip
    good = [pickle.dumps(array, protocol) for array in arrays for protocol in range(6)]
    hostile = list(programs().values())

    def read(draw: random.Random) -> None:
        value = read_array(mutate.bytes_of(draw.choice(good if draw.random() < 0.8 else hostile), good + hostile, draw))
        assert isinstance(value, list) or value.dtype == np.uint8

    return read


def sequences(folder: Path) -> Target:
    """Pickles of OpenGait, of several image sizes."""
    sizes = ((64, 44), (64, 64), (64, 50), (128, 88), (128, 45))
    good = [pickle.dumps(np.zeros((3, *size), np.uint8), 4) for size in sizes]

    def read(path: Path) -> None:
        assert to_frame_size(read_pickle(path)).shape[1:] == (64, 44)

    return file_target(folder / "000.pkl", good, read)


def partitions(folder: Path) -> Target:
    good = {"TRAIN_SET": [f"{i:03d}" for i in range(5)], "TEST_SET": ["006", "张三"], "note": 1}
    return file_target(folder / "p.json", [good], _check_partition)


def original_partitions(folder: Path) -> Target:
    good = []
    for lists in ([["1", "2"], ["3", "4"]], [["1"], ["2", "3"]]):
        file = io.BytesIO()
        np.save(file, np.array(lists, dtype=object if len(lists[0]) == 1 else None), allow_pickle=True)
        good.append(file.getvalue())
    return file_target(folder / "p.npy", good, _check_partition)


def _check_partition(path: Path) -> None:
    partition = read_partition(path)
    assert all(isinstance(name, str) for name in (*partition.train, *partition.test))


def stores(folder: Path) -> Target:
    tree = write_aligned_tree(folder / "tree", subjects=1, seq_types=("nm-01", "nm-02"), frames=2)
    path = open_data(tree, folder / "stores").path

    def read() -> list[str]:
        current_source(tree, path)
        found = open_store(path)
        assert len(found.sequence(len(found.index) - 1)) == found.index.frames[-1]
        return [found.index.name(i) for i in range(len(found.index))]

    return sealed_target([path / "index.json", path / "source.json"], read)


def pretreatment_records(folder: Path) -> Target:
    frames = {f"{i}.png": [100, 1700000000000000000, 200 if i else None] for i in range(3)}
    reading = [[0, 255], False, True, False]
    good = {"version": 1, "frames": frames, "reading": reading, "dropped": {"0.png": "too small"}}
    (folder / RECORD).parent.mkdir()

    def read(path: Path) -> None:
        record = _read_record(str(folder))
        for entry in record.frames.values():
            assert len(entry) == 3 and entry[:2] != [] and (entry[2] is None or entry[2] + 0 == entry[2])
        assert set(record.dropped.values()) <= set(DROP_REASONS)
        assert record.reading is None or len(record.reading.notes()) <= len(record.reading)

    return file_target(folder / RECORD, [good], read)
