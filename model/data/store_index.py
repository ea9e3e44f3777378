"""The two descriptions in a store: whose the frames are, and which tree they were packed from.

Both are sealed: a label that changed on the disk would give a wrong table without a word.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.common.errors import UserError
from model.common.files import is_plain_name, read_json, seal
from model.data.index import SequenceIndex

FORMAT = "gaitset-store-2"
INDEX, SOURCE = "index.json", "source.json"
_LABELS = ("subject", "seq_type", "view")


def read_index(path: Path) -> SequenceIndex:
    """The index of the store at `path`. Raises UserError when it is damaged or of another version."""
    advice = f"delete {path} to have it built anew"
    try:
        meta = read_json(path / INDEX, sealed=True)
    except UserError as error:
        raise UserError(f"{error} ({advice})") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise UserError(f"{path / INDEX}: not a store of this version ({FORMAT}); {advice}")
    try:
        labels = [_decoded(meta[name], meta[f"{name}_code"], len(meta["frames"])) for name in _LABELS]
        index = SequenceIndex.from_lengths(*labels, meta["frames"])
        if index.frames.ndim != 1 or not len(index) or index.frames.min() < 1:
            raise ValueError("sequences without a frame")
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path / INDEX}: damaged ({error}); {advice}") from error
    return index


def _decoded(values: list[str], codes: list[int], count: int) -> np.ndarray:
    """A label column from its distinct values and, a sequence each, the position among them."""
    positions = np.asarray(codes, np.int64)
    if positions.shape != (count,) or positions.min(initial=0) < 0 or not all(isinstance(v, str) for v in values):
        raise ValueError("columns that do not fit together")
    return np.asarray(values, np.str_)[positions]


def write_index(
    folder: Path, subject: Sequence[str], seq_type: Sequence[str], view: Sequence[str], frames: Sequence[int]
) -> None:
    """Write a store's index: each label column as its distinct values and, a sequence each, the position among them.

    frames: of each sequence; they lie in the file of frames in this order.
    """
    index: dict[str, Any] = {"format": FORMAT}
    for name, labels in zip(_LABELS, (subject, seq_type, view), strict=True):
        values, codes = np.unique(labels, return_inverse=True)
        index |= {name: values.tolist(), f"{name}_code": codes.tolist()}
    index["frames"] = [int(number) for number in frames]
    _write_sealed(folder / INDEX, index)


def _write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Densely: an index has a line for each of a hundred thousand sequences otherwise."""
    path.write_text(seal(json.dumps(content)), encoding="utf-8")


def read_source(store: Path) -> dict[str, Any] | None:
    """Where a store came from; None where the file that tells it is damaged."""
    try:
        source = read_json(store / SOURCE, sealed=True)
        names = [name for pair in source["ends"].values() for name in pair]
        texts = all(isinstance(text, str) for text in (source["stamp"], *source["faults"], *names))
        return source if texts and all(map(is_plain_name, names)) else None
    except (UserError, KeyError, TypeError, AttributeError):
        return None


def write_source(folder: Path, source: dict[str, Any]) -> None:
    """stamp, ends: see `source_stamp`; faults: lines about files that were left out."""
    _write_sealed(folder / SOURCE, source)
