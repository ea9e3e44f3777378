"""Pretreatment of silhouettes that are not masks of 0 and 255, and of images that are not silhouettes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from raw_trees import (
    SEQUENCE,
    changed_tree,
    contents,
    encoded,
    images,
    make_tree,
    pretreat,
    run_pretreatment,
    with_shadow,
    with_specks,
)

from model.common.errors import UserError
from model.data.raw.pretreatment_report import LogFile
from model.data.raw.silhouette import align, read_image


def picture(seed: int) -> np.ndarray:
    """Return a coarse coloured texture in place of a picture of a camera. uint8 [90, 120, 3]"""
    return cv2.resize(np.random.default_rng(seed).integers(20, 236, (9, 12, 3), dtype=np.uint8), (120, 90))


def with_alpha(colour: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.dstack([np.broadcast_to(colour, (*mask.shape, 3)), mask]).astype(np.uint8)


def in_16_bits(grey: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return a 16-bit image of a mask and an alpha channel, of which 255 becomes 65535 and 1 stays 1."""
    return np.dstack([np.where(part == 255, np.uint16(65535), part) for part in (grey, grey, grey, alpha)])


WHITE = np.uint8([255, 255, 255])
SCALED, ALPHA, HALF = "scaled to 0 and 255", "alpha channel", "thresholded at 128"
INVERTED, SPECKS = "exchanged", "specks were removed"
USABLE = {
    "0 and 1": (lambda mask: mask // 255, ".png", [SCALED]),
    "0 and 1 in BMP": (lambda mask: mask // 255, ".bmp", [SCALED]),
    "0 and 1 in 16 bits": (lambda mask: (mask // 255).astype(np.uint16), ".png", [SCALED]),
    "opaque 0 and 1 in 16 bits": (lambda mask: in_16_bits(mask // 255, mask | 255), ".png", [SCALED]),
    "alpha of 0 and 1 in 16 bits": (lambda mask: in_16_bits(mask | 255, mask // 255), ".png", [ALPHA, SCALED]),
    "0 and 65535": (lambda mask: mask * np.uint16(257), ".png", []),
    "0 and 128": (lambda mask: mask // 255 * 128, ".png", [SCALED]),
    "50 and 200": (lambda mask: np.where(mask, 200, 50), ".png", [SCALED]),
    "red on black": (lambda mask: np.dstack([0 * mask, 0 * mask, mask]), ".png", [SCALED]),
    "alpha of white": (lambda mask: with_alpha(WHITE, mask), ".png", [ALPHA]),
    "alpha of 0 and 1": (lambda mask: with_alpha(WHITE, mask // 255), ".png", [ALPHA, SCALED]),
    "alpha of a picture": (lambda mask: with_alpha(picture(1), mask), ".png", [ALPHA]),
    "opaque": (lambda mask: with_alpha(mask[..., None], mask | 255), ".png", []),
    "shadows": (with_shadow, ".png", [HALF]),
    "grey edges": (lambda mask: cv2.addWeighted(mask, 0.75, cv2.dilate(mask, None), 0.25, 0), ".png", [HALF]),
    "inverted": (lambda mask: 255 - mask, ".png", [INVERTED]),
    "inverted 0 and 1": (lambda mask: 1 - mask // 255, ".png", [SCALED, INVERTED]),
    "inverted grey edges": (lambda mask: 255 - with_shadow(mask), ".png", [HALF, INVERTED]),
    "colour": (lambda mask: cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR), ".bmp", []),
    "specks": (with_specks, ".png", [SPECKS]),
    "specks, inverted": (lambda mask: 255 - with_specks(mask), ".png", [INVERTED, SPECKS]),
}


@pytest.mark.parametrize("name", USABLE)
def test_usable_silhouettes_are_read_as_masks(tmp_path, expected, name):
    change, suffix, notes = USABLE[name]
    raw = changed_tree(tmp_path / "raw", change, suffix)
    for worked_on in (12, 0):  # the second run reads no frame and has the same messages
        summary = pretreat(raw, tmp_path / "aligned", invert=INVERTED in notes, specks=SPECKS in notes)
        assert images(tmp_path / "aligned") == expected
        assert (summary.frames_worked_on, summary.dropped, summary.failed) == (worked_on, 4, False)
        assert summary.drop_reasons == {"empty": 4} and summary.notes()[0] == "dropped frames: 4 empty"
        assert [count for count in summary.readings.values()] == [2] * len(notes)
        assert all(note in line for note, line in zip(notes, summary.notes()[1:], strict=True))


def lossy(path: Path, quality: int) -> bytes:
    return encoded(".jpg", read_image(path), cv2.IMWRITE_JPEG_QUALITY, quality)


def thresholded(path: Path) -> np.ndarray:
    return np.where(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127, 255, 0).astype(np.uint8)


@pytest.mark.parametrize("quality", [10, 75, 100])
def test_lossy_silhouettes_are_thresholded_at_half(tmp_path, quality):
    raw = make_tree(tmp_path / "raw", 1)
    for path in raw.rglob("*.png"):
        path.with_suffix(".jpg").write_bytes(lossy(path, quality))
        path.unlink()
    summary = pretreat(raw, tmp_path / "aligned")
    assert list(summary.readings.values()) == [1] and HALF in next(iter(summary.readings))
    for path in raw.rglob("*.jpg"):
        aligned = read_image(tmp_path / "aligned" / path.relative_to(raw).with_suffix(".png"))
        np.testing.assert_array_equal(aligned, align(thresholded(path)))


def test_jpeg_frame_between_png_frames_is_thresholded(tmp_path):
    raw = make_tree(tmp_path / "raw", 1, frames=30)
    path = raw / SEQUENCE / "f-001.png"  # not one of the frames from which the reading is chosen
    path.write_bytes(lossy(path, 30))
    pretreat(raw, tmp_path / "aligned")
    np.testing.assert_array_equal(read_image(tmp_path / "aligned" / SEQUENCE / "f-001.png"), align(thresholded(path)))


# Wrong content

BORDER = "most of the picture, and its border, is white"
WRONG = {
    "inverted": (lambda mask: 255 - mask, False, rf"{BORDER}: .* pass --invert"),
    "inverted 0 and 1": (lambda mask: 1 - mask // 255, False, rf"{BORDER}: .* pass --invert"),
    "inverted grey": (lambda mask: 240 - (with_shadow(mask) * 0.9), False, rf"{BORDER}: .* pass --invert"),
    "inverted alpha": (lambda mask: with_alpha(WHITE, 255 - mask), False, rf"{BORDER}: .* pass --invert"),
    "inverted twice": (lambda mask: mask, True, rf"{BORDER} after the inversion: .* run without --invert"),
    "white": (lambda mask: mask | 255, False, "the whole picture is white .* alpha"),
    "pictures": (lambda mask: picture(int(mask.sum())), False, r"(9\d|100)% of the pixels are neither black nor white"),
    "dark pictures": (lambda mask: picture(int(mask.sum())) // 3, False, r"\d\d% of the pixels are neither .* segment"),
    "60 grey rows": (lambda mask: np.repeat(np.uint8([100] * 60 + [255] * 10 + [0] * 30), 100).reshape(100, 100), False,
                     "60% of the pixels are neither black nor white"),
    "cut out": (lambda mask: picture(3) * (mask[..., None] > 0), False, r"\d+% of the pixels that are not black are g"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_content_ends_the_run_with_the_reason(tmp_path, name):
    change, invert, reason = WRONG[name]
    raw = changed_tree(tmp_path / "raw", change)
    with pytest.raises(UserError, match=rf"raw/001/nm-01/000: {reason}"):
        pretreat(raw, tmp_path / "aligned", invert=invert)
    assert not contents(tmp_path / "aligned")


def test_skip_bad_leaves_wrong_sequences_out(tmp_path, capsys):
    raw, aligned = changed_tree(tmp_path / "raw", lambda mask: mask), tmp_path / "aligned"
    pretreat(raw, aligned)
    changed_tree(tmp_path / "other", lambda mask: 255 - mask, sequences=1)
    for path in (raw / SEQUENCE).iterdir():  # the sequence was aligned before
        path.write_bytes((tmp_path / "other" / path.relative_to(raw)).read_bytes())
    changed_tree(raw, lambda mask: picture(int(mask.sum())), sequences=1)
    (raw / "001/nm-01").rename(raw / "001/nm-03")
    changed_tree(raw, lambda mask: 255 - mask, sequences=1)
    for _ in range(2):
        summary = pretreat(raw, aligned, skip_bad=True, log=LogFile(tmp_path / "log"))
        assert (summary.kept, summary.dropped, summary.unreadable, summary.failed) == (4, 2, 12, False)
        assert {path.split("/")[1] for path in images(aligned)} == {"nm-02"}
        errors = capsys.readouterr().err
        assert errors.count("(the sequence is left out)") == 2 and "none of" not in errors
        assert BORDER in errors and "neither black nor white" in errors
    assert (tmp_path / "log").read_text().count("--FAIL--") == 4
    assert not (aligned / "001" / "nm-03").exists()


def test_command_prints_how_frames_were_read_inverts_and_removes_specks(tmp_path, capsys, monkeypatch, expected):
    changed_tree(tmp_path / "raw", lambda mask: 1 - with_specks(mask) // 255)
    assert run_pretreatment(tmp_path, monkeypatch, "--invert", "--remove_specks") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "2 sequences: " in line][1:] == [
        "2 sequences: masks with two values other than 0 and 255, such as 0 and 1, were scaled to 0 and 255",
        "2 sequences: black and white were exchanged (--invert)",
        "2 sequences: specks were removed (--remove_specks)",
    ]
    assert "next: python train.py" in lines[-1] and images(tmp_path / "aligned") == expected
