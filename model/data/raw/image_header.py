"""Check PNG, BMP and JPEG files for damage and unreasonable sizes before the pixels are decoded.

Decoders trust the header: a file of a hundred bytes that claims 20,000 × 20,000 pixels takes 400 MB of memory. Decoders
also ignore damage: OpenCV before 5.0 decodes the available part of a truncated file and leaves the other pixels grey or
black, without an error.
"""

import struct
import zlib
from collections.abc import Callable

PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
BMP_START = b"BM"
MAX_PIXELS = 1 << 26  # maximum number of pixels of an image; raw silhouettes of CASIA-B have 240×320 pixels

# Markers of the frame headers, which contain the size of the image, and markers without a length and content.
_JPEG_SIZES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_JPEG_ALONE = {0x01, *range(0xD0, 0xD8)}


def image_error(data: bytes) -> str | None:
    """Check the bytes of an image file without decoding the pixels. Returns a description of the error, or None."""
    if not data:
        return "empty file"
    for start, read_size in _FORMATS.items():
        if data.startswith(start):
            try:
                width, height = read_size(data)
            except (struct.error, IndexError):
                return "truncated image"
            except ValueError as error:
                return str(error)
            if width < 1 or height < 1 or width * height > MAX_PIXELS:
                return f"claims {height}×{width} pixels in its header; at most {MAX_PIXELS:,} in total are supported"
            return None
    return "damaged, or not a PNG, BMP or JPEG image"


def _png(data: bytes) -> tuple[int, int]:
    """Return (width, height). The checksum of every chunk and the presence of the last chunk are checked first."""
    if data[12:16] != b"IHDR":
        raise ValueError("damaged image (no header)")
    size = struct.unpack_from(">II", data, 16)
    position = len(PNG_START)
    while True:
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        (checksum,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(data[position + 4 : end]) != checksum:
            raise ValueError(f"damaged image (checksum of {name.decode('latin1')!r})")
        if name == PNG_END:
            return size
        position = end + 4


def _jpeg(data: bytes) -> tuple[int, int]:
    """Return (width, height) from the frame header, which precedes the first scan.

    The end marker is searched after the last scan, because a thumbnail in the header has its own size, scan and end.
    """
    if data.find(JPEG_END, max(data.rfind(JPEG_SCAN), 0)) < 0:
        raise IndexError
    position = 2
    while True:
        if data[position] != 0xFF:
            raise ValueError("damaged image (a marker is missing)")
        while data[position] == 0xFF:
            position += 1
        marker = data[position]
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, position + 4)
            return width, height
        if marker in (JPEG_SCAN[1], JPEG_END[1]):
            raise ValueError("damaged image (no size before the pixels)")
        position += 1 if marker in _JPEG_ALONE else 1 + struct.unpack_from(">H", data, position + 1)[0]


def _bmp(data: bytes) -> tuple[int, int]:
    """Return (width, height).

    Some programs write 0 as the size of the file. For uncompressed pixels, the size is computed from width and height.
    """
    total, _, pixels, header = struct.unpack_from("<IIII", data, 2)
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)  # negative if the rows start at the top
    needed = total
    if compression in (0, 3) and 0 < width * height <= MAX_PIXELS:
        needed = max(total, pixels + (width * bits + 31) // 32 * 4 * height)
    if len(data) < needed:
        raise IndexError
    return width, height


_FORMATS: dict[bytes, Callable[[bytes], tuple[int, int]]] = {PNG_START: _png, JPEG_START: _jpeg, BMP_START: _bmp}
