"""The two JSON files of a store: the labels of the frames, and the source tree.

Both contain a checksum because a changed label would lead to a wrong accuracy table without an error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.common.errors import UserError
from model.common.files import is_plain_name, read_json, seal
from model.common.geometry import LABELS
from model.data.index import SequenceIndex

FORMAT = "gaitset-store-2"
INDEX, SOURCE = "index.json", "source.json"


def read_index(path: Path) -> SequenceIndex:
    """Read the index of the store at `path`. Raises UserError if it is damaged or of another version."""
    advice = f"delete {path} to build it again"
    try:
        meta = read_json(path / INDEX, sealed=True)
    except UserError as error:
        raise UserError(f"{error} ({advice})") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise UserError(f"{path / INDEX}: not a store of this version ({FORMAT}); {advice}")
    try:
        labels = [_decoded(meta[name], meta[f"{name}_code"], len(meta["frames"])) for name in LABELS]
        index = SequenceIndex.from_lengths(*labels, meta["frames"])
        if index.frames.ndim != 1 or not len(index) or index.frames.min() < 1:
            raise ValueError("sequences without frames")
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path / INDEX}: damaged ({error}); {advice}") from error
    return index


def _decoded(values: list[str], codes: list[int], count: int) -> np.ndarray:
    """Decode a label column from its distinct values and one position in them per sequence."""
    positions = np.asarray(codes, np.int64)
    if positions.shape != (count,) or positions.min(initial=0) < 0 or not all(isinstance(v, str) for v in values):
        raise ValueError("inconsistent columns")
    return np.asarray(values, np.str_)[positions]


def write_index(
    folder: Path, subject: Sequence[str], seq_type: Sequence[str], view: Sequence[str], frames: Sequence[int]
) -> None:
    """Write the index of a store. Label columns are stored as distinct values and one position in them per sequence.

    Args:
        frames: number of frames of each sequence, in the order of the file of frames.
    """
    index: dict[str, Any] = {"format": FORMAT}
    for name, labels in zip(LABELS, (subject, seq_type, view), strict=True):
        values, codes = np.unique(labels, return_inverse=True)
        index |= {name: values.tolist(), f"{name}_code": codes.tolist()}
    index["frames"] = [int(number) for number in frames]
    _write_sealed(folder / INDEX, index)


def _write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with a checksum on one line, because indented columns would have a line per sequence."""
    path.write_text(seal(json.dumps(content)), encoding="utf-8")


def read_source(store: Path) -> dict[str, Any] | None:
    """Read the source of a store, or return None if the file is damaged."""
    try:
        source = read_json(store / SOURCE, sealed=True)
        names = [name for pair in source["ends"].values() for name in pair]
        texts = all(isinstance(text, str) for text in (source["stamp"], *source["faults"], *names))
        return source if texts and all(map(is_plain_name, names)) else None
    except (UserError, KeyError, TypeError, AttributeError):
        return None


def write_source(folder: Path, source: dict[str, Any]) -> None:
    """Write the source of a store: tree, stamp and ends (see `source_stamp`), and faults, the skipped files."""
    _write_sealed(folder / SOURCE, source)
