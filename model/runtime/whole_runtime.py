"""Whole sequences through ONNX Runtime: each frame once, none repeated, none left away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from model.common.cores import core_count
from model.common.errors import UserError
from model.common.messages import progress_bar
from model.data.store import SilhouetteStore
from model.export.input_files import fixed_length
from model.export.onnx_file import load_onnx
from model.export.processor_check import MAX_ERROR, check_error, read_sils
from model.export.tensor_names import EARLIER, MAXIMA, OUTPUT_NAME, POOLED, SILS_NAME
from model.runtime.ort_runtime import open_session, run_session

FRAMES_AT_ONCE = 256  # of all sequences of a batch, or of a piece of a long one: it bounds the memory


class WholeRuntime:
    """A session on a model of `model.export.variable_length`.

    check: compute the sequences that an 8 bit file brings along and compare their embeddings with those in the file.
    Raises UserError as OrtRuntime does, for an 8 bit file without these sequences, and for wrong embeddings.
    """

    def __init__(
        self,
        onnx_path: Path | str,
        threads: int | None = None,
        frames_at_once: int = FRAMES_AT_ONCE,
        check: bool = True,
    ):
        self.path = Path(onnx_path)
        self.threads = threads or core_count()
        self.frames_at_once = frames_at_once
        self.session, self.version = open_session(self.path, self.threads)
        found = {value.name for value in (*self.session.get_inputs(), *self.session.get_outputs())}
        wanted = {SILS_NAME, OUTPUT_NAME, *(f"{MAXIMA}{number}" for number in POOLED)}
        if found != wanted:
            raise UserError(f"{self.path}: has {', '.join(sorted(found))}; export it with pth2onnx.py --whole")
        if check and any(node.op_type == "QLinearConv" for node in load_onnx(self.path).graph.node):
            self._check_processor()

    def _check_processor(self) -> None:
        again = "export it again with pth2onnx.py --int8"
        metadata = self.session.get_modelmeta().custom_metadata_map
        sils = read_sils(metadata)
        if sils is None:
            raise UserError(
                f"{self.path}: the 8 bit model holds no sequences that check the processor, so an older version "
                f"exported it, and its embeddings are wrong on processors without VNNI; {again}"
            )
        error = check_error(metadata, self.run(sils))
        if not error <= MAX_ERROR:
            raise UserError(
                f"{self.path}: ONNX Runtime {self.version} computes wrong 8 bit embeddings on this processor: they "
                f"differ from those of the export by {100 * error:.1f} % of their length, at most "
                f"{100 * MAX_ERROR:.0f} % is allowed; {again} on this machine, or use --whole"
            )

    def run(self, sils: np.ndarray) -> np.ndarray:
        """uint8 [n, s, 64, 44] -> float32 [n, 62, d]."""
        size = max(1, self.frames_at_once // len(sils))
        pieces = range(0, sils.shape[1], size)
        earlier: dict[str, np.ndarray] = {}
        for first in pieces:
            last = first + size >= sils.shape[1]
            outputs = [OUTPUT_NAME] if last else [f"{MAXIMA}{number}" for number in POOLED]
            inputs = {SILS_NAME: sils[:, first : first + size], **earlier}
            found = run_session(self.path, self.session, outputs, inputs)
            earlier = {f"{EARLIER}{number}": maps for number, maps in zip(POOLED, found, strict=False)}
        return found[0]


def takes_whole_sequences(path: Path) -> bool:
    """Whether an ONNX file is one of `model.export.variable_length`, by the name of its first input."""
    inputs = load_onnx(path).graph.input
    return bool(inputs) and inputs[0].name == SILS_NAME


def embed_whole(runtime: WholeRuntime, store: SilhouetteStore, quiet: bool = False) -> np.ndarray:
    """Embeddings [N, 62, d] of all sequences of `store`, the longest first, so that memory only falls.

    Sequences of about the same length make a batch; its shorter ones repeat their first frames, which no set pooling
    notices.
    """
    frames = np.asarray(store.index.frames)
    if not frames.all():
        raise UserError(f"{store.index.name(int(frames.argmin()))}: no frame, so there is nothing to embed")
    rows: np.ndarray | None = None
    with progress_bar(total=len(frames), unit="sequences", what="onnxruntime", quiet=quiet) as bar:
        for batch in batches_by_length(frames, runtime.frames_at_once):
            sils = np.stack([fixed_length(store.sequence(position), frames[batch[0]]) for position in batch])
            found = runtime.run(sils)
            rows = np.empty((len(frames), *found.shape[1:]), found.dtype) if rows is None else rows
            rows[batch] = found
            bar.update(len(batch))
    if rows is None:
        raise UserError("no sequence to embed, the partition leaves none of the data")
    return rows


def batches_by_length(frames: np.ndarray, frames_at_once: int) -> Iterator[np.ndarray]:
    """Positions, the longest sequences first, in batches of at most `frames_at_once` frames, repeated ones included."""
    order = np.argsort(-frames, kind="stable")
    first = 0
    while first < len(order):
        count = max(1, frames_at_once // int(frames[order[first]]))
        yield order[first : first + count]
        first += count
