"""Files that are rejected before they are decoded: absurd sizes, damage, other formats, pipes and devices."""

import os
import resource
import struct
import zlib

import cv2
import numpy as np
import pytest
from raw_trees import encoded

from model.data.raw import silhouette
from model.data.raw.image_header import MAX_PIXELS, image_error
from model.data.raw.silhouette import BadImage, decode_pixels, read_image


def picture(seed=0, size=(24, 16)):
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width, height, bits=8, colour=0, rows=b"", palette=b""):
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + palette + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def patched(data: bytes, position: int, content: bytes) -> bytes:
    return data[:position] + content + data[position + len(content) :]


PNG, JPEG, BMP = (encoded(suffix, picture()) for suffix in (".png", ".jpg", ".bmp"))
JPEG_SIZE = JPEG.index(b"\xff\xc0")  # the segment with the size


BOMBS = {
    "png": png_of(20_000, 20_000, rows=bytes(20_001 * 100)),
    "png of one bit": png_of(20_000, 20_000, bits=1),
    "png of 16 bit and alpha": png_of(20_000, 20_000, bits=16, colour=6),
    "png, one row": png_of(2**31 - 1, 1),
    "jpeg": patched(JPEG, JPEG_SIZE + 5, struct.pack(">HH", 20_000, 20_000)),
    "bmp": patched(BMP, 18, struct.pack("<ii", 20_000, 20_000)),
    "bmp from the top": patched(BMP, 18, struct.pack("<ii", 20_000, -20_000)),
    "nothing": png_of(0, 5),
}


@pytest.mark.parametrize("name", BOMBS)
def test_decode_rejects_an_absurd_size_before_decoding(name, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadImage, match=rf"a\.x: claims \d+×\d+ pixels in its header; at most {MAX_PIXELS:,}"):
        decode_pixels(BOMBS[name], "a.x")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_decode_reads_the_same_size_as_opencv(suffix, channels):
    for size in [(1, 1), (3, 5), (240, 320), (17, 300)]:
        assert decode_pixels(encoded(suffix, picture(0, size + channels)), "a").grey.shape == size


def test_decode_reads_every_kind_of_png():
    """All kinds are read as 8-bit grey, even if the name of the file has the suffix .jpg."""
    grey = np.where(picture() > 127, 255, 0).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in grey // 255)
    kinds = {
        "16 bit": encoded(".png", grey.astype(np.uint16) * 257),
        "colour": encoded(".png", cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)),
        "alpha": encoded(".png", cv2.cvtColor(grey, cv2.COLOR_GRAY2BGRA)),
        "one bit": encoded(".png", grey, cv2.IMWRITE_PNG_BILEVEL, 1),
        "palette": png_of(16, 24, colour=3, rows=rows, palette=png_chunk(b"PLTE", b"\0\0\0\xff\xff\xff")),
    }
    for name, data in kinds.items():
        np.testing.assert_array_equal(decode_pixels(data, f"{name}.jpg").grey, grey, err_msg=name)


def test_no_damage_to_a_png_changes_a_pixel(capfd):
    """Flip each bit of each byte: the damage is reported or has no effect, and the decoder prints nothing."""
    for position, byte in enumerate(PNG):
        for bit in range(8):
            try:
                found = decode_pixels(patched(PNG, position, bytes([byte ^ 1 << bit])), "a.png").grey
                np.testing.assert_array_equal(found, picture())
            except BadImage as error:
                assert str(error).startswith("a.png: ")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("data", [PNG, JPEG, BMP], ids=["png", "jpeg", "bmp"])
def test_every_truncation_is_reported(data):
    assert image_error(data) is None
    for length in range(len(data)):
        assert image_error(data[:length]), length


def test_truncation_of_a_bmp_without_length_in_its_header_is_reported():
    data = patched(encoded(".bmp", picture(size=(30, 30, 3))), 2, bytes(4))
    assert decode_pixels(data, "a").grey.shape == (30, 30)
    assert image_error(data[:-1]) == "truncated image"


@pytest.mark.parametrize("suffix", [".tiff", ".webp", ".ppm", ".jp2", ".hdr", ".pfm", ".sr"])
def test_decode_rejects_other_formats(suffix):
    """OpenCV would decode these formats with any file name, but their headers are not checked."""
    try:
        data = encoded(suffix, picture(size=(64, 64, 3)).astype(np.float32 if suffix in (".hdr", ".pfm") else np.uint8))
    except cv2.error:
        pytest.skip(f"this OpenCV cannot write {suffix}")
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) is not None
    with pytest.raises(BadImage, match="not a PNG, BMP or JPEG image"):
        decode_pixels(data, "a.png")


def test_jpeg_without_a_size_is_reported():
    length = int.from_bytes(JPEG[JPEG_SIZE + 2 : JPEG_SIZE + 4], "big")
    with pytest.raises(BadImage, match="no size before the pixels"):
        decode_pixels(JPEG[:JPEG_SIZE] + JPEG[JPEG_SIZE + 2 + length :], "a.jpg")
    with pytest.raises(BadImage, match="a marker is missing"):
        decode_pixels(JPEG[:2] + b"\0\0" + JPEG[2:], "a.jpg")


def test_read_rejects_pipes_and_devices(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(BadImage, match=r"a\.png: cannot be read: it is not a regular file"):
        read_image(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    with pytest.raises(BadImage, match="not a regular file"):
        read_image(tmp_path / "b.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(BadImage, match="cannot be read"):
        read_image(tmp_path / "loop.png")


def test_read_rejects_a_file_of_absurd_length(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(1 << 40)  # a sparse file, which needs no disk space
    with pytest.raises(BadImage, match=f"bytes; the supported maximum is {silhouette.MAX_BYTES:,}"):
        read_image(tmp_path / "a.png")
