"""Write embeddings and their labels, batch by batch, to files for other programs.

NAME.nc        NetCDF-4 with the dimensions sequence, bin and embedding; xarray opens it with all labels
NAME.parquet   Parquet with one row per sequence and the embedding as a list of bins x d numbers
"""

import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from model.common.errors import UsageError, UserError
from model.common.files import atomic_file
from model.common.geometry import LABELS
from model.common.netcdf import import_netcdf4, netcdf_errors
from model.data.index import SequenceIndex
from model.network.pooling import strip_labels

Write = Callable[[np.ndarray, np.ndarray], None]  # (positions [b], embeddings [b, 62, dim]): write the embeddings
ROW_CHUNK = 64  # rows per chunk of the file: 4 MB of embeddings


def check_format(path: Path) -> None:
    """Check the suffix. Raises UsageError if it is unknown, and UserError if its package cannot be imported."""
    if path.suffix not in _FORMATS:
        raise UsageError(f"{path}: the suffix must be one of {', '.join(_FORMATS)}")
    package, import_package, _ = _FORMATS[path.suffix]
    try:
        import_package()
    except ImportError as error:
        raise UserError(f"{path}: needs the package {package}: pip install -r requirements.txt ({error})") from error


def write_embeddings(
    path: Path, index: SequenceIndex, batches: Iterable[tuple[np.ndarray, np.ndarray]], facts: dict[str, Any], dim: int
) -> None:
    """Write `path` atomically in the format of its suffix.

    Args:
        batches: positions in `index`, consecutive from 0, and embeddings [b, 62, dim].
        facts: JSON values about the network and the data, stored in the file.

    Raises:
        UserError: if embeddings are not finite.
    """
    check_format(path)
    with atomic_file(path) as part, _FORMATS[path.suffix][2](part, index, facts, dim) as write:
        done = 0
        for positions, embeddings in batches:
            assert positions[0] == done, "embeddings must be in the order of the index"
            check_finite(embeddings, [index.name(position) for position in positions.tolist()])
            write(positions, np.ascontiguousarray(embeddings, np.float32))
            done += len(positions)
        assert done == len(index), f"got {done} of {len(index)} embeddings"


def check_finite(embeddings: np.ndarray, names: Sequence[str]) -> None:
    """Raise UserError if embeddings [b, ...] contain NaN or infinity. The message contains the first of these names."""
    bad = ~np.isfinite(embeddings).reshape(len(embeddings), -1).all(1)
    if bad.any():
        raise UserError(
            f"the embedding of {names[bad.argmax()]} contains values that are not finite; check the checkpoint and the "
            "precision"
        )


def parquet_schema(labels: Sequence[str], dim: int, metadata: dict[bytes, Any], more: Sequence[tuple] = ()) -> Any:
    """Return the schema of a table with the columns `labels`, frames, embedding (62 x `dim` numbers) and `more`."""
    import pyarrow as pa

    embedding = ("embedding", pa.list_(pa.float32(), len(strip_labels()) * dim))
    columns = [*((name, pa.string()) for name in labels), ("frames", pa.int32()), embedding, *more]
    return pa.schema(columns, {key: json.dumps(value, ensure_ascii=False) for key, value in metadata.items()})


def parquet_writer(path: Path, schema: Any, labels: Sequence[str]) -> Any:
    import pyarrow.parquet

    # Compression and dictionaries hardly reduce the size of embeddings.
    return pyarrow.parquet.ParquetWriter(path, schema, compression="none", use_dictionary=list(labels))


def embedding_blocks(file: Any, rows: int) -> Iterator[np.ndarray]:
    """Yield the embeddings of an open Parquet file in blocks of `rows`, float32 [b, 62 * d]."""
    for batch in file.iter_batches(rows, columns=["embedding"]):
        yield batch.column(0).flatten().to_numpy().reshape(batch.num_rows, -1)


def parquet_rows(file: Any, rows: Sequence[int], columns: list[str]) -> Any:
    """Return `columns` of `rows` of an open Parquet file. Only the row groups that contain these rows are read."""
    import pyarrow

    wanted, parts, start = np.unique(rows), [], 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        inside = wanted[(wanted >= start) & (wanted < stop)]
        if len(inside):
            parts.append(file.read_row_group(group, columns).take(inside - start))
        start = stop
    return pyarrow.concat_tables(parts).take(np.searchsorted(wanted, rows))


@contextmanager
def _netcdf(path: Path, index: SequenceIndex, facts: dict[str, Any], dim: int) -> Iterator[Write]:
    with netcdf_errors(path):
        file = _create_netcdf(path, index, facts, dim)

    def write(positions: np.ndarray, embeddings: np.ndarray) -> None:
        with netcdf_errors(path):
            file["embeddings"][positions[0] : positions[-1] + 1] = embeddings

    try:
        yield write
    finally:
        with netcdf_errors(path):
            file.close()


def _create_netcdf(path: Path, index: SequenceIndex, facts: dict[str, Any], dim: int) -> Any:
    labels = strip_labels()
    file = import_netcdf4().Dataset(path, "w", format="NETCDF4")
    for name, size in (("sequence", len(index)), ("bin", len(labels)), ("embedding", dim)):
        file.createDimension(name, size)
    for name in LABELS:
        file.createVariable(name, str, ("sequence",))[:] = getattr(index, name).astype(object)
    file.createVariable("frames", "i4", ("sequence",))[:] = index.frames
    file.createVariable("branch", str, ("bin",))[:] = np.array([label.branch for label in labels], object)
    for name in ("strips", "strip"):
        file.createVariable(name, "i2", ("bin",))[:] = [getattr(label, name) for label in labels]
    chunks = (min(ROW_CHUNK, len(index)), len(labels), dim)
    values = file.createVariable("embeddings", "f4", ("sequence", "bin", "embedding"), chunksizes=chunks)
    values.coordinates = "subject seq_type view branch strips strip"
    values.long_name = "GaitSet embedding; compare by Euclidean distance of all bins together"
    file.details = json.dumps(facts, ensure_ascii=False)
    return file


@contextmanager
def _parquet(path: Path, index: SequenceIndex, facts: dict[str, Any], dim: int) -> Iterator[Write]:
    import pyarrow

    about = {"shape": [len(strip_labels()), dim], "bins": [label._asdict() for label in strip_labels()], **facts}
    with parquet_writer(path, parquet_schema(LABELS, dim, {b"gaitset": about}), LABELS) as file:

        def write(positions: np.ndarray, embeddings: np.ndarray) -> None:
            rows = index.take(positions)
            values = pyarrow.FixedSizeListArray.from_arrays(embeddings.ravel(), embeddings[0].size)
            columns = [*(getattr(rows, name).tolist() for name in LABELS), rows.frames, values]
            file.write_table(pyarrow.table(columns, schema=file.schema))

        yield write


# For each suffix: the package, the function that imports the package, and the context manager that opens a file and
# yields the function that writes embeddings.
_FORMATS: dict[str, tuple[str, Callable, Callable]] = {
    ".nc": ("netCDF4", import_netcdf4, _netcdf),
    ".parquet": ("pyarrow", lambda: importlib.import_module("pyarrow"), _parquet),
}
