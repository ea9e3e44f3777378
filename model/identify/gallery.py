"""Read and write a gallery of enrolled people: a Parquet file with one sequence per row.

A row has an embedding, its labels and an animated silhouette. The file also holds the checksum of the encoder, because
embeddings of two encoders cannot be compared. The file is read and rewritten in blocks, so a gallery can be larger than
the memory.
"""

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet as parquet

from model.common.errors import UserError, first_line, some_names
from model.common.files import atomic_file
from model.common.lock import locked
from model.embeddings.files import check_finite, embedding_blocks, parquet_rows, parquet_schema, parquet_writer

FACTS = b"gaitset_gallery"  # key of the metadata in the file
ROW_BLOCK = 256  # number of rows that are read or written together: 16 MB of embeddings
COLUMNS = ("person", "take", "view")


class Encoder(NamedTuple):
    """The encoder of a gallery. `dim` is the number of values per strip of an embedding."""

    name: str
    sha256: str
    dim: int


class Entry(NamedTuple):
    """A sequence to enrol. `animation` is a film strip with `frames_shown` frames; see `model.report.animation`."""

    person: str
    take: str
    view: str
    frames: int
    embedding: np.ndarray
    frames_shown: int
    animation: str


@dataclass(frozen=True)
class Gallery:
    """The labels of a gallery file, with one array entry per sequence, and functions that read the embeddings.

    `people` holds the sorted names, and `person_ids` [N] are positions in `people`.
    """

    path: Path
    encoder: Encoder
    labels: dict[str, np.ndarray]
    people: np.ndarray
    person_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.person_ids)

    def embeddings(self) -> Iterator[np.ndarray]:
        """Yield the embeddings in blocks, float32 [b, values], in the order of the file."""
        with _opened(self.path) as file:
            yield from embedding_blocks(file, ROW_BLOCK)

    def embeddings_of(self, rows: Sequence[int]) -> np.ndarray:
        """Return the embeddings of `rows`, [r, values]."""
        with _opened(self.path) as file:
            column = parquet_rows(file, rows, ["embedding"]).column(0).combine_chunks()
        return column.flatten().to_numpy().reshape(len(rows), -1).copy()  # buffers of pyarrow cannot be written to

    def film_strips(self, rows: Sequence[int]) -> dict[int, tuple[str, int, str]]:
        """Return for each of `rows` the name person/take/view, the number of frames shown and the film strip."""
        with _opened(self.path) as file:
            table = parquet_rows(file, rows, [*COLUMNS, "frames_shown", "animation"]).to_pylist()
        strips = [("/".join(r[c] for c in COLUMNS), r["frames_shown"], r["animation"]) for r in table]
        return dict(zip(rows, strips, strict=True))


def read_gallery(path: Path) -> Gallery:
    """Read the labels of a gallery. Raises UserError if the file is missing, damaged or not a gallery."""
    with _opened(path) as file:
        encoder = _encoder_of(path, file.schema_arrow)
        table = file.read(list(COLUMNS))
    labels = {name: np.array(table[name].to_pylist(), dtype=np.str_) for name in COLUMNS}
    people, person_ids = np.unique(labels["person"], return_inverse=True)
    return Gallery(path, encoder, labels, people, person_ids.reshape(-1))


def check_encoder(gallery: Gallery, encoder: Encoder) -> None:
    """Raise UserError if the gallery was enrolled with a different encoder."""
    if gallery.encoder.sha256 != encoder.sha256:
        raise UserError(
            f"{gallery.path}: enrolled with encoder {gallery.encoder.name} (SHA-256 {gallery.encoder.sha256[:12]}), "
            f"but this command uses {encoder.name} ({encoder.sha256[:12]}); embeddings of different encoders cannot be "
            "compared; give the same encoder with --checkpoint, or enrol everybody again in another gallery"
        )


def enrol(path: Path, encoder: Encoder, entries: Iterable[Entry]) -> int:
    """Add entries to the gallery file atomically. The file is created if it does not exist.

    An entry replaces the existing entry with the same person, take and view. Returns the number of different entries.

    Raises:
        UserError: the gallery was enrolled with a different encoder, another job is writing the gallery, or an
            embedding is not finite.
    """
    with _locked(path):
        existing = read_gallery(path) if path.exists() else None
        if existing is not None:
            check_encoder(existing, encoder)
        entries, new = iter(entries), set()
        with _rewritten(path, encoder) as writer:
            while block := list(islice(entries, ROW_BLOCK)):
                columns = list(zip(*block, strict=True))
                embeddings = np.stack(columns[4]).astype(np.float32).reshape(len(block), -1)
                check_finite(embeddings, ["/".join(entry[:3]) for entry in block])
                new.update(zip(*columns[:3], strict=True))
                columns[4] = pyarrow.FixedSizeListArray.from_arrays(embeddings.ravel(), embeddings.shape[1])
                writer.write_table(pyarrow.table(columns, schema=writer.schema))
            if existing is not None:
                _copy(path, writer, [label not in new for label in zip(*existing.labels.values(), strict=True)])
    return len(new)


def remove(path: Path, person: str) -> int:
    """Remove all sequences of a person atomically. Return how many there were. Raises UserError for an unknown name."""
    with _locked(path):
        gallery = read_gallery(path)
        gone = gallery.labels["person"] == person
        if not gone.any():
            raise UserError(f"{path}: nobody named {person} is enrolled; the names are {some_names(gallery.people)}")
        with _rewritten(path, gallery.encoder) as writer:
            _copy(path, writer, ~gone)
    return int(gone.sum())


def _copy(path: Path, writer: parquet.ParquetWriter, keep: Sequence[bool]) -> None:
    start, keep = 0, np.array(keep, bool)
    with _opened(path) as file:
        for batch in file.iter_batches(ROW_BLOCK):
            kept = batch.filter(pyarrow.array(keep[start : start + batch.num_rows]))
            start += batch.num_rows
            if kept.num_rows:
                writer.write_table(pyarrow.Table.from_batches([kept]).cast(writer.schema))


@contextmanager
def _rewritten(path: Path, encoder: Encoder) -> Iterator[parquet.ParquetWriter]:
    with atomic_file(path, durable=True) as part, parquet_writer(part, _schema(encoder), COLUMNS) as writer:
        yield writer


def _schema(encoder: Encoder) -> pyarrow.Schema:
    shown = [("frames_shown", pyarrow.int32()), ("animation", pyarrow.string())]
    return parquet_schema(COLUMNS, encoder.dim, {FACTS: encoder._asdict()}, shown)


def _encoder_of(path: Path, schema: pyarrow.Schema) -> Encoder:
    try:
        encoder = Encoder(**json.loads((schema.metadata or {})[FACTS]))
        if schema.equals(_schema(encoder)):
            return encoder
    except (KeyError, TypeError, ValueError):
        pass
    raise UserError(f"{path}: not a gallery; create one with `{_enroll_command(path)}`")


def _enroll_command(path: Path) -> str:
    return f"python -m model.identify enroll --gallery {shlex.quote(str(path))}"


@contextmanager
def _opened(path: Path) -> Iterator[parquet.ParquetFile]:
    if not path.is_file():
        raise UserError(f"{path}: no such gallery; create it with `{_enroll_command(path)}`")
    try:
        # With pre-buffering, all blocks that were read would stay in memory until the file is closed.
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            yield file
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as a gallery ({first_line(error)}); enrol everybody again") from error


def _locked(path: Path):
    return locked(path.with_name(f".{path.name}.lock"), path)
