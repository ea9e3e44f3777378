"""Store test sequences and their embeddings in an 8-bit model, so that a runtime can check its processor's arithmetic.

The sequences are drawn figures, so the file contains no silhouettes of people. Correct processors compute the same
integers, and their float32 layers after set pooling differ by about 1e-6.
"""

import base64
import binascii
import zlib
from collections.abc import Mapping

import numpy as np

SILS_KEY, FEATURE_KEY = "check_sils", "check_feature"
SILS_SHAPE = (2, 8, 64, 44)  # sequences, frames, height, width
STRIDE = 16  # every 16th value of an embedding is stored
MAX_ERROR = 0.02  # relative; saturated sums cause 0.2, and a different rounding of all maps of one layer causes 0.01


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the mean distance of two arrays of embeddings [n, ...], relative to the mean length of `expected`."""
    distances, lengths = (
        np.linalg.norm(each.astype(np.float64).reshape(len(each), -1), axis=1) for each in (found - expected, expected)
    )
    return float(distances.mean() / lengths.mean())


def write_check(sils: np.ndarray, feature: np.ndarray) -> dict[str, str]:
    """Return metadata that holds uint8 `sils` of SILS_SHAPE and a part of their embeddings `feature` [n, 62, d]."""
    stored = np.ascontiguousarray(feature[..., ::STRIDE], np.float16)
    return {
        SILS_KEY: base64.b64encode(zlib.compress(sils.tobytes(), 9)).decode(),
        FEATURE_KEY: base64.b64encode(stored.tobytes()).decode(),
    }


def read_sils(metadata: Mapping[str, str]) -> np.ndarray | None:
    """Return the sequences, uint8 of SILS_SHAPE, or None if the metadata does not contain them."""
    size = int(np.prod(SILS_SHAPE))
    try:
        # Decompress at most one byte more than expected, so that a malicious file cannot fill the memory.
        pixels = zlib.decompressobj().decompress(base64.b64decode(metadata[SILS_KEY]), size + 1)
    except (KeyError, binascii.Error, zlib.error):
        return None
    return np.frombuffer(pixels, np.uint8).reshape(SILS_SHAPE) if len(pixels) == size else None


def check_error(metadata: Mapping[str, str], feature: np.ndarray) -> float:
    """Compare the embeddings `feature` with the stored ones. Return the relative error, or inf for damaged metadata."""
    found = feature[..., ::STRIDE]
    try:
        expected = np.frombuffer(base64.b64decode(metadata[FEATURE_KEY]), np.float16)
    except (KeyError, ValueError):
        return np.inf
    if expected.size != found.size:
        return np.inf
    return relative_error(found, expected.reshape(found.shape).astype(np.float32))
