"""Write trees of raw silhouettes, which are drawn as ellipses, and check the frames that pretreatment makes of them."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
from scripts import load_script

from model.data.raw import pretreatment
from model.data.raw.aligned_sequence import RECORD_FOLDER
from model.data.raw.silhouette import align, read_image

pretreat = partial(pretreatment.pretreat, workers=1)

SEQUENCE = "001/nm-01/000"  # the first sequence of a tree
BLACK = np.zeros((90, 120), np.uint8)


def silhouette(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.zeros((90, 120), np.uint8)
    centre, radius = (int(rng.integers(40, 80)), 45), (int(rng.integers(8, 16)), int(rng.integers(30, 42)))
    cv2.ellipse(image, centre, radius, 0, 0, 360, 255, -1)
    return image


def encoded(suffix: str, image: np.ndarray, *flags: int) -> bytes:
    """Return the content of an image file that OpenCV encodes with these flags."""
    return cv2.imencode(suffix, image, list(flags))[1].tobytes()


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(path.suffix, image))
    return path


def make_tree(root: Path, sequences: int = 4, frames: int = 6) -> Path:
    for number in range(sequences):
        folder = root / f"{number // 2 + 1:03d}" / "nm-01" / f"{number % 2 * 90:03d}"
        for frame in range(frames):
            write(folder / f"f-{frame + 1:03d}.png", silhouette(100 * number + frame))
    return root


def with_shadow(mask: np.ndarray) -> np.ndarray:
    """Add a shadow with the value 127, as OpenCV's background subtraction does."""
    return np.maximum(mask, np.roll(mask, 15, axis=1) // 2)


def with_specks(mask: np.ndarray) -> np.ndarray:
    """Add specks in two corners. If they were not removed, the aligned figure would extend to these corners."""
    mask = mask.copy()
    mask[:2, :2] = mask[-2:, -2:] = mask.max()
    return mask


def changed_tree(root: Path, change, suffix: str = ".png", sequences: int = 2) -> Path:
    """Write a tree of changed silhouettes with six frames per sequence, of which the first two are empty."""
    for number in range(sequences):
        for frame in range(6):
            image = np.asarray(change(silhouette(100 * number + frame) if frame > 1 else BLACK))
            image = image if image.dtype == np.uint16 else image.astype(np.uint8)
            write(root / "001" / f"nm-{number + 1:02d}" / "000" / f"{frame}{suffix}", image)
    return root


def contents(root: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder by relative path, including the records of pretreatment."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def images(root: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(root).items() if RECORD_FOLDER not in name}


def assert_aligned(raw: Path, aligned: Path) -> None:
    """Check that each usable raw frame has a correct aligned frame, and that there are no other aligned frames."""
    wanted = {}
    for path in raw.rglob("*.png"):
        image = align(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
        if image is not None:
            wanted[path.relative_to(raw).as_posix()] = image
    assert sorted(images(aligned)) == sorted(wanted)
    for name, image in wanted.items():
        np.testing.assert_array_equal(read_image(aligned / name), image)


def run_pretreatment(folder: Path, monkeypatch, *options: str) -> int:
    """Run pretreatment.py in this process with `folder` as the current folder, and return its exit status."""
    monkeypatch.chdir(folder)
    command = ["pretreatment.py", "--input_path=raw", "--output_path=aligned", "--worker_num=1", *options]
    monkeypatch.setattr("sys.argv", command)
    return load_script("pretreatment").main()
