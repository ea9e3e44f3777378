"""What the bytes of a PNG, BMP or JPEG file say of themselves, read before any of them is decoded.

Decoders believe a header: twenty thousand pixels each way in a file of a hundred bytes become four hundred megabytes.
And they read on over damage: before 5.0 OpenCV decodes what there is of a truncated file and leaves the rest grey or
black without an error.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
BMP_START = b"BM"
MOST_PIXELS = 1 << 26  # more than any camera of people gives; raw silhouettes have 240×320

_JPEG_SIZES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # markers "start of frame"
_JPEG_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers that nothing belongs to


def fault_of(data: bytes) -> str | None:
    """What is wrong with an image file of these bytes, as far as it shows without decoding them; None if nothing."""
    if not data:
        return "empty file"
    for start, look in _FORMATS.items():
        if data.startswith(start):
            try:
                width, height = look(data)
            except (struct.error, IndexError):
                return "truncated image"
            except ValueError as error:
                return str(error)
            if width < 1 or height < 1 or width * height > MOST_PIXELS:
                return f"says it is {height}×{width} pixels, at most {MOST_PIXELS:,} in all are read"
            return None
    return "not an image (PNG, BMP or JPEG), or damaged"


def _png(data: bytes) -> tuple[int, int]:
    """Looks at every chunk: its checksum, and that the last is there."""
    if data[12:16] != b"IHDR":
        raise ValueError("damaged image (no header)")
    size = struct.unpack_from(">II", data, 16)
    place = len(PNG_START)
    while True:
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        (checksum,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(data[place + 4 : end]) != checksum:
            raise ValueError(f"damaged image (checksum of {kind.decode('latin1')!r})")
        if kind == PNG_END:
            return size
        place = end + 4


def _jpeg(data: bytes) -> tuple[int, int]:
    """The size is in front of the first scan; a thumbnail in the header has a size, scan and end of its own."""
    if data.find(JPEG_END, max(data.rfind(JPEG_SCAN), 0)) < 0:
        raise IndexError
    place = 2
    while True:
        if data[place] != 0xFF:
            raise ValueError("damaged image (no marker where one belongs)")
        while data[place] == 0xFF:
            place += 1
        marker = data[place]
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, place + 4)
            return width, height
        if marker in (JPEG_SCAN[1], JPEG_END[1]):
            raise ValueError("damaged image (no size in front of its pixels)")
        place += 1 if marker in _JPEG_ALONE else 1 + struct.unpack_from(">H", data, place + 1)[0]


def _bmp(data: bytes) -> tuple[int, int]:
    """Some writers leave 0 for the size of the file; uncompressed pixels tell it, too."""
    total, _, pixels, header = struct.unpack_from("<IIII", data, 2)
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)  # negative: the first row is on top
    needed = total
    if compression in (0, 3) and 0 < width * height <= MOST_PIXELS:
        needed = max(total, pixels + (width * bits + 31) // 32 * 4 * height)
    if len(data) < needed:
        raise IndexError
    return width, height


_FORMATS: dict[bytes, Callable[[bytes], tuple[int, int]]] = {PNG_START: _png, JPEG_START: _jpeg, BMP_START: _bmp}
