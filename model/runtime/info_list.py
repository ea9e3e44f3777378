"""Runs a model of static shapes over sequences: those of an `.info` list, or of a store directly."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from model.data.store import SilhouetteStore
from model.errors import UserError
from model.export.bins import DTYPE, check_replaceable, fixed_length
from model.export.manifest import InfoEntry, read_info
from model.files import whole_folder, write_json
from model.runtime.result_files import OUR_SUFFIX, write_performance

_READ_AHEAD = 2  # batches being read or waiting while one runs; as many may wait to be written


class Runtime(Protocol):
    """What runs a model: float32 of exactly `input_shape` [n, s, h, w] -> float32 [n, 62, d]."""

    input_shape: tuple[int, ...]

    @property
    def batch_size(self) -> int: ...

    def run(self, image_seq: np.ndarray) -> np.ndarray: ...

    def facts(self) -> dict[str, Any]: ...


def embed_fixed(
    runtime: Runtime, store: SilhouetteStore, padding: str, truncate: str, quiet: bool = False
) -> np.ndarray:
    """Embeddings [N, 62, d] of all sequences of `store`, each brought to the model's number of frames.

    The same as writing bins, running their list and reading the results, without files between.
    """
    batch_size, frame_num = runtime.input_shape[:2]
    rows = []
    for first in tqdm(range(0, len(store.index), batch_size), unit="batch", disable=quiet or None):
        image_seq = np.zeros(runtime.input_shape, np.float32)
        positions = range(first, min(first + batch_size, len(store.index)))
        for row, position in zip(image_seq, positions, strict=False):
            row[:] = fixed_length(store.sequence(position), frame_num, padding, truncate).astype(np.float32) / 255
        rows.append(runtime.run(image_seq)[: len(positions)])
    return np.concatenate(rows)


def run_info_list(
    runtime: Runtime,
    info_path: Path | str,
    result_folder: Path | str,
    *,
    warmup: int = 1,
    device_id: int = 0,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run every bin of the list; write `<stem>_1.bin` a sequence to `result_folder`, replaced as a whole.

    The last batch is filled up by repeating its last sequence; fillers leave no result. `warmup` batches of
    zeros go first and are not counted. Beside the folder appear the benchmark tool's performance file and
    the same as JSON, which is also returned: throughput in sequences a second, latency in ms a batch.
    runtime: has run, facts, input_shape (static [n, s, h, w]) and batch_size.
    Raises UserError before anything runs when a bin is missing or of another size than the model takes.
    """
    result_folder = Path(result_folder)
    entries = _check_bins(Path(info_path), runtime.input_shape)
    check_replaceable(result_folder, ".bin")
    for _ in range(warmup):
        runtime.run(np.zeros(runtime.input_shape, np.float32))
    clock = _Clock()
    batches = [entries[i : i + runtime.batch_size] for i in range(0, len(entries), runtime.batch_size)]
    start = time.perf_counter()
    try:
        with (
            whole_folder(result_folder) as part,
            tqdm(total=len(entries), unit="sequence", desc=runtime.facts()["runtime"], disable=quiet or None) as bar,
        ):
            _run_batches(runtime, batches, part, clock, bar)
        performance = _performance(runtime, clock, len(entries), time.perf_counter() - start)
        text = write_performance(result_folder.parent, runtime.batch_size, device_id, performance.pop("stages"))
        summary = {**runtime.facts(), **performance, "info": str(info_path), "result": str(result_folder)}
        write_json(text.with_suffix(".json"), summary)
    except OSError as error:
        raise UserError(f"{result_folder}: running the list failed ({error})") from error
    return summary


class _Clock:
    """Seconds of each batch in each stage. A stage runs in one thread at a time, so nothing needs a lock."""

    def __init__(self):
        self.seconds: dict[str, list[float]] = {"data read": [], "infer": [], "post": []}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage].append(time.perf_counter() - start)


def _run_batches(runtime: Runtime, batches: list[list[InfoEntry]], folder: Path, clock: _Clock, bar: tqdm) -> None:
    """Reading, inference and writing at the same time, with a bounded number of batches in memory."""

    def read(batch: list[InfoEntry]) -> np.ndarray:
        with clock("data read"):
            image_seq = np.empty(runtime.input_shape, np.float32)
            for row, entry in zip(image_seq, batch, strict=False):
                values = np.fromfile(entry.path, DTYPE)
                if values.size != row.size:
                    raise UserError(f"{entry.path}: changed its size while the list ran; run it again")
                row[:] = values.reshape(row.shape)
            image_seq[len(batch) :] = image_seq[len(batch) - 1]
            return image_seq

    def write(batch: list[InfoEntry], features: np.ndarray) -> None:
        with clock("post"):
            for entry, feature in zip(batch, features, strict=False):
                feature.astype(DTYPE, copy=False).tofile(folder / f"{entry.path.stem}{OUR_SUFFIX}.bin")

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        written: list[Future] = []
        try:
            for batch, image_seq in zip(batches, _ahead(reader, read, batches), strict=True):
                with clock("infer"):
                    features = runtime.run(image_seq)
                written.append(writer.submit(write, batch, features))
                if len(written) > _READ_AHEAD:
                    written.pop(0).result()
                bar.update(len(batch))
            for future in written:
                future.result()
        finally:
            reader.shutdown(cancel_futures=True)


def _ahead(reader: ThreadPoolExecutor, read: Callable, batches: list) -> Iterator[np.ndarray]:
    waiting = [reader.submit(read, batch) for batch in batches[:_READ_AHEAD]]
    for following in [*batches[_READ_AHEAD:], *[None] * len(waiting)]:
        image_seq = waiting.pop(0).result()
        if following is not None:
            waiting.append(reader.submit(read, following))
        yield image_seq


def _check_bins(info_path: Path, shape: tuple[int, ...]) -> list[InfoEntry]:
    """The list with paths that exist: as written, or from the list's folder when the first is only there."""
    entries = read_info(info_path)
    if not entries[0].path.exists() and (info_path.parent / entries[0].path).exists():
        entries = [entry._replace(path=info_path.parent / entry.path) for entry in entries]
    stems: dict[str, Path] = {}
    frame_bytes = int(np.prod(shape[2:])) * DTYPE.itemsize
    for entry in entries:
        if entry.path.stem in stems:
            raise UserError(f"{info_path}: {stems[entry.path.stem]} and {entry.path} would share one result file")
        stems[entry.path.stem] = entry.path
        try:
            size = entry.path.stat().st_size
        except OSError as error:
            raise UserError(
                f"{entry.path}: in {info_path} but not there ({error.strerror}); make the bins anew"
            ) from error
        if size != shape[1] * frame_bytes:
            found = f"{size // frame_bytes} frames" if size % frame_bytes == 0 else "no whole number of frames"
            raise UserError(
                f"{entry.path}: {size} bytes ({found}), the model takes {shape[1] * frame_bytes} "
                f"({shape[1]} frames); make the bins or export the model with the other's number of frames"
            )
    return entries


def _performance(runtime: Runtime, clock: _Clock, count: int, wall: float) -> dict[str, Any]:
    seconds = {stage: float(np.sum(values)) for stage, values in clock.seconds.items()}
    infer_ms = np.array(clock.seconds["infer"]) * 1000
    stages: dict[str, dict[str, float]] = {"e2e": {"throughput": count / wall, "latency_ms": wall * 1000}}
    for stage, total in seconds.items():
        stages[stage] = {"throughput": count / total, "module_latency_ms": total / count * 1000}
    interface = len(infer_ms) * runtime.batch_size / seconds["infer"]  # fillers count: the model ran them too
    module = stages["infer"].pop("module_latency_ms")
    stages["infer"] |= {"interface_throughput": interface, "module_latency_ms": module}
    return {
        "stages": stages,
        "batch_size": runtime.batch_size,
        "sequences": count,
        "batches": len(infer_ms),
        "seconds": wall,
        "e2e_throughput": count / wall,
        "inference_throughput": count / seconds["infer"],
        "latency_ms": {
            "mean": float(infer_ms.mean()),
            "median": float(np.median(infer_ms)),
            "p99": float(np.percentile(infer_ms, 99)),
        },
    }
