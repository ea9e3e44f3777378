"""Run a variable-length model with ONNX Runtime. Such a model uses every frame of a sequence exactly once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from model.common.cores import core_count
from model.common.errors import UserError
from model.common.messages import progress_bar
from model.data.store import SilhouetteStore
from model.export.input_files import fixed_length
from model.export.onnx_file import EARLIER, MAXIMA, OUTPUT_NAME, POOLED, SILS_NAME, load_onnx
from model.export.processor_check import MAX_ERROR, check_error, read_sils
from model.runtime.ort_runtime import open_session, run_session

# Maximum number of frames per run of the session, for a batch or for a part of a long sequence. It limits the memory.
FRAME_CHUNK = 256


class VariableLengthRuntime:
    """Run a model of `model.export.variable_length`: uint8 [n, s, 64, 44] to float32 [n, 62, d].

    Args:
        frame_chunk: maximum number of frames per run of the session.
        check: whether to embed the check sequences of an 8-bit model, and to compare the result with the embeddings
            that are stored in its file.

    Raises:
        UserError: if the file is not a variable-length model that ONNX Runtime supports, if an 8-bit model has no
            check sequences, or if their embeddings differ from the stored embeddings.
    """

    def __init__(
        self, onnx_path: Path | str, threads: int | None = None, frame_chunk: int = FRAME_CHUNK, check: bool = True
    ):
        self.path = Path(onnx_path)
        self.threads = threads or core_count()
        self.frame_chunk = frame_chunk
        self.session, self.version = open_session(self.path, self.threads)
        found = {value.name for value in (*self.session.get_inputs(), *self.session.get_outputs())}
        expected = {SILS_NAME, OUTPUT_NAME, *(f"{MAXIMA}{number}" for number in POOLED)}
        if found != expected:
            names = ", ".join(sorted(found))
            raise UserError(f"{self.path}: not a variable-length model ({names}); export it with pth2onnx.py --whole")
        if check and any(node.op_type == "QLinearConv" for node in load_onnx(self.path).graph.node):
            self._check_processor()

    def _check_processor(self) -> None:
        again = "export it again with pth2onnx.py --int8"
        metadata = self.session.get_modelmeta().custom_metadata_map
        sils = read_sils(metadata)
        if sils is None:
            raise UserError(
                f"{self.path}: this 8-bit model has no check sequences, because an older version of this project "
                f"exported it, and its embeddings are wrong on processors without VNNI; {again}"
            )
        error = check_error(metadata, self.run(sils))
        if not error <= MAX_ERROR:
            raise UserError(
                f"{self.path}: ONNX Runtime {self.version} computes wrong 8-bit embeddings on this processor: they "
                f"differ from the embeddings of the export by {100 * error:.1f} %, expected at most "
                f"{100 * MAX_ERROR:.0f} %; {again} on this machine, or export with --whole instead"
            )

    def run(self, sils: np.ndarray) -> np.ndarray:
        """Run one batch: uint8 [n, s, 64, 44] to float32 [n, 62, d]."""
        size = max(1, self.frame_chunk // len(sils))
        chunks = range(0, sils.shape[1], size)
        earlier: dict[str, np.ndarray] = {}
        for first in chunks:
            last = first + size >= sils.shape[1]
            outputs = [OUTPUT_NAME] if last else [f"{MAXIMA}{number}" for number in POOLED]
            inputs = {SILS_NAME: sils[:, first : first + size], **earlier}
            found = run_session(self.path, self.session, outputs, inputs)
            earlier = {f"{EARLIER}{number}": maps for number, maps in zip(POOLED, found, strict=False)}
        return found[0]


def is_variable_length(path: Path) -> bool:
    """Return whether an ONNX file is a variable-length model, which the name of its first input shows."""
    inputs = load_onnx(path).graph.input
    return bool(inputs) and inputs[0].name == SILS_NAME


def embed_variable_length(runtime: VariableLengthRuntime, store: SilhouetteStore, quiet: bool = False) -> np.ndarray:
    """Compute the embeddings [N, 62, d] of all sequences of a store.

    The longest sequences run first, so that ONNX Runtime allocates memory only once. A batch contains sequences of
    similar length. The shorter sequences of a batch repeat their frames, which does not change the result of set
    pooling.
    """
    frames = np.asarray(store.index.frames)
    if not frames.all():
        raise UserError(f"{store.index.name(int(frames.argmin()))}: the sequence has no frames")
    rows: np.ndarray | None = None
    with progress_bar(total=len(frames), unit="sequences", what="onnxruntime", quiet=quiet) as bar:
        for batch in batches_by_length(frames, runtime.frame_chunk):
            sils = np.stack([fixed_length(store.sequence(position), frames[batch[0]]) for position in batch])
            embedded = runtime.run(sils)
            rows = np.empty((len(frames), *embedded.shape[1:]), embedded.dtype) if rows is None else rows
            rows[batch] = embedded
            bar.update(len(batch))
    return rows


def batches_by_length(frames: np.ndarray, frame_chunk: int) -> Iterator[np.ndarray]:
    """Yield the positions of the sequences in batches, the longest sequences first.

    A batch has at most `frame_chunk` frames, including repeated frames, or consists of a single sequence.
    """
    order = np.argsort(-frames, kind="stable")
    first = 0
    while first < len(order):
        count = max(1, frame_chunk // int(frames[order[first]]))
        yield order[first : first + count]
        first += count
