"""Reading, alignment and cropping of single silhouettes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from raw_trees import encoded

from model.common.errors import UserError
from model.data.raw.silhouette import BadImage, align, cut_sides, read_image, remove_specks, write_png

REFERENCE = Path(__file__).resolve().parents[2] / "support" / "reference" / "alignment.npz"


def slow_align(image: np.ndarray) -> np.ndarray | None:
    """Align an image in Python, pixel by pixel. Only the bicubic resize uses OpenCV."""
    pixels = image.tolist()
    if sum(map(sum, pixels)) <= 10000:
        return None
    filled = [row for row, values in enumerate(pixels) if any(values)]
    cut = image[filled[0] : filled[-1] + 1]
    width = int(64 * cut.shape[1] / cut.shape[0])
    if width == 0:
        return None
    resized = cv2.resize(cut, (width, 64), interpolation=cv2.INTER_CUBIC).tolist()
    total = sum(map(sum, resized))
    running, centre = 0, None
    for column in range(width):
        running += sum(row[column] for row in resized)
        if running > total / 2:
            centre = column
            break
    if centre is None:
        return None
    columns = range(centre - 32, centre + 32)
    if columns[0] <= 0 or centre + 32 >= width:  # the padding of the original
        resized = [[0] * 32 + row + [0] * 32 for row in resized]
        columns = range(centre, centre + 64)
    return np.array([[row[column] for column in columns] for row in resized], np.uint8)


def person(height: int, width: int, x: int, half: int = 20, top: int = 20, rows: int = 150) -> np.ndarray:
    image = np.zeros((height, width), np.uint8)
    rng = np.random.default_rng(x)
    for row in range(top, min(top + rows, height)):
        left, right = x - rng.integers(1, half), x + rng.integers(1, half)
        image[row, max(left, 0) : max(right, 0)] = 255
    return image


@pytest.mark.parametrize("x", [5, 20, 60, 100, 160, 250, 300, 318])
@pytest.mark.parametrize("rows", [64, 100, 200])
def test_align_equals_loops_at_any_position(x, rows):
    image = person(240, 320, x, rows=rows)
    wanted = slow_align(image)
    assert wanted is not None
    np.testing.assert_array_equal(align(image), wanted)


def test_align_equals_loops_on_grey_noise_of_many_sizes():
    rng = np.random.default_rng(1)
    for height, width in [(64, 44), (64, 64), (65, 63), (30, 400), (200, 3), (480, 640), (129, 128), (300, 5)]:
        image = rng.integers(0, 256, (height, width), dtype=np.uint8)
        image[: height // 8] = 0
        wanted = slow_align(image)
        assert wanted is not None
        np.testing.assert_array_equal(align(image), wanted, err_msg=f"{height}x{width}")


@pytest.mark.parametrize("column", [0, 31, 32, 33, 199])
def test_align_a_person_of_one_column_at_the_borders_and_where_padding_begins(column):
    """The original code pads also for column 32, although the crop starts at column 0. The result must be equal."""
    image = np.zeros((64, 200), np.uint8)
    image[:, column] = 255
    aligned = align(image)
    np.testing.assert_array_equal(aligned, slow_align(image))
    assert aligned[:, 32].min() == 255 and aligned.sum() == 64 * 255


def test_align_drops_images_without_a_column_after_resizing():
    assert align(np.full((300, 4), 255, np.uint8)) is None
    assert align(np.full((256, 4), 255, np.uint8)).shape == (64, 64)


def test_align_pixel_sum_limit():
    image = np.zeros((100, 100), np.uint8)
    image[:40, 50] = 250  # the pixel sum is 10000, the limit
    assert align(image) is None
    image[40, 50] = 1
    assert align(image) is not None
    assert align(np.zeros((240, 320), np.uint8)) is None


def test_align_accepts_views_of_larger_images():
    image = np.zeros((300, 400), np.uint8)
    image[20:260, 30:350] = person(240, 320, 150)
    view = image[20:260, 30:350]
    np.testing.assert_array_equal(align(view), align(view.copy()))


def slow_remove_specks(mask: np.ndarray) -> np.ndarray:
    """Find the connected components with a flood fill, pixel by pixel."""
    left, found = set(zip(*mask.nonzero(), strict=True)), []
    while left:
        front = [left.pop()]
        component = []
        while front:
            y, x = front.pop()
            component.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            front += near
        found.append(component)
    result = np.zeros_like(mask)
    for component in found:
        if 20 * len(component) >= max(map(len, found)):
            result[tuple(np.transpose(component))] = 255
    return result


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.35, 0.5])
def test_remove_specks_equals_a_flood_fill(share):
    noise = np.random.default_rng(7).random((60, 80))
    mask = np.where(noise < share, 255, 0).astype(np.uint8)
    # The largest component has at least 60 pixels, so components of one or two pixels are below 5 % and are specks.
    mask[5:11, 10:20] = 255
    assert np.array_equal(remove_specks(mask), slow_remove_specks(mask))
    assert np.array_equal(remove_specks(mask[:5, :5] * 0), mask[:5, :5] * 0)


def test_remove_specks_keeps_a_twentieth_of_the_largest_component():
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:30] = mask[0, :10] = mask[39, :9] = 255  # 200, 10 and 9 pixels
    assert [int(row.sum()) // 255 for row in remove_specks(mask)[[0, 15, 39]]] == [10, 20, 0]


def test_align_equals_the_original_on_reference_frames(real_data):
    reference = np.load(REFERENCE)
    assert len(reference["path"]) == 80
    for path, wanted in zip(reference["path"], reference["aligned"], strict=True):
        np.testing.assert_array_equal(align(read_image(real_data / str(path))), wanted, err_msg=path)


@pytest.mark.parametrize("name", ["a.png", "步态 数据.png", "with space.png"])
def test_write_and_read_png(tmp_path, name):
    image = person(64, 64, 32)
    write_png(tmp_path / name, image)
    np.testing.assert_array_equal(read_image(tmp_path / name), image)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes()[24:26] == bytes([8, 0])  # bit depth 8, grey


def test_read_rejects_a_truncated_jpeg_with_a_complete_thumbnail(tmp_path):
    image, thumbnail = encoded(".jpg", person(240, 320, 100)), encoded(".jpg", person(64, 64, 30))
    header = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    (tmp_path / "whole.jpg").write_bytes(image[:2] + header + image[2:])
    assert read_image(tmp_path / "whole.jpg").shape == (240, 320)
    (tmp_path / "cut.jpg").write_bytes(image[:2] + header + image[2:-200])
    with pytest.raises(BadImage, match="truncated"):
        read_image(tmp_path / "cut.jpg")


def test_read_reports_path_and_reason(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    damaged = bytearray(encoded(".png", person(240, 320, 100)))
    damaged[len(damaged) // 2] ^= 255
    (tmp_path / "damaged.png").write_bytes(damaged)
    reasons = {"empty": "empty file", "text": "not a PNG", "missing": "no such", "folder": "read", "damaged": "dam"}
    for name, reason in reasons.items():
        with pytest.raises(BadImage, match=reason) as caught:
            read_image(tmp_path / f"{name}.png")
        assert str(tmp_path / f"{name}.png") in str(caught.value) and isinstance(caught.value, UserError)


@pytest.mark.parametrize("shape", [(64, 43), (64, 65), (63, 64), (44, 64), (64,), (1, 240, 320)])
def test_cut_sides_rejects_other_shapes(shape):
    with pytest.raises(ValueError, match="expected"):
        cut_sides(np.zeros(shape, np.uint8))
