"""Run a model of static shape on the sequences of an `.info` list or of a store."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from model.common.errors import UserError
from model.common.geometry import FLOAT32
from model.common.json_files import write_json
from model.common.messages import progress_bar
from model.common.prefetch import prefetch
from model.data.store import SilhouetteStore
from model.export.input_files import check_replaceable, fixed_length
from model.export.manifest import InfoEntry, digest_of, fill_last_batch
from model.runtime.bin_list import check_bins, check_digest, known_digests
from model.runtime.figures import latency_figures
from model.runtime.performance_files import write_performance
from model.runtime.result_files import OUR_SUFFIX
from model.runtime.result_record import replaced_results

_PREFETCH = 2  # batches that are read in advance; the same number may wait for writing


class Runtime(Protocol):
    """Interface of the runtimes: float32 [n, s, h, w] of exactly `input_shape` to float32 [n, 62, d].

    A runtime is a context manager that releases its resources at the end.

    Attributes:
        device_ms: milliseconds of the model alone in each `run`, or None if the runtime cannot measure it; then
            the duration of `run` is used.
    """

    input_shape: tuple[int, ...]
    device_ms: list[float] | None

    @property
    def batch_size(self) -> int: ...

    def run(self, image_seq: np.ndarray) -> np.ndarray: ...

    def facts(self) -> dict[str, Any]: ...

    def __enter__(self) -> Runtime: ...

    def __exit__(self, *error) -> None: ...


def embed_fixed(
    runtime: Runtime,
    store: SilhouetteStore,
    padding: str,
    truncate: str,
    quiet: bool = False,
    positions: Sequence[int] | None = None,
) -> np.ndarray:
    """Compute the embeddings of sequences that are padded or truncated to the model's number of frames.

    Equivalent to writing input files, running their list and reading the results, without the files.

    Args:
        positions: positions of the sequences in the store. Default: all.

    Returns:
        Float array [n, 62, d].
    """
    batch_size, frame_num = runtime.input_shape[:2]
    rows = []
    positions = range(len(store.index)) if positions is None else positions
    firsts = range(0, len(positions), batch_size)
    for first in progress_bar(firsts, unit="batches", what=runtime.facts()["runtime"], quiet=quiet):
        image_seq = np.empty(runtime.input_shape, np.float32)
        filled, added = fill_last_batch(positions[first : first + batch_size], batch_size)
        for row, position in zip(image_seq, filled, strict=True):
            row[:] = fixed_length(store.sequence(position), frame_num, padding, truncate).astype(np.float32) / 255
        rows.append(runtime.run(image_seq)[: batch_size - added])
    return np.concatenate(rows)


def run_info_list(
    runtime: Runtime,
    info_path: Path | str,
    result_folder: Path | str,
    *,
    warmup: int = 1,
    device_id: int = 0,
    quiet: bool = False,
    share: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Run the model on all input files of a list and write one `<stem>_1.bin` per sequence.

    The last batch is filled by repeating its last sequence, and the fillers get no result. The result folder is
    replaced as a whole. A performance file in the format of the benchmark tool and the returned summary in JSON
    are written to its parent folder.

    Args:
        warmup: number of batches of zeros before the measured ones.
        share: first position in the list and the one after the last, to run only a part of it. Default: all.

    Returns:
        Throughput in sequences/s (end to end, of inference with its copies, and of the device alone) and
        latency in ms per batch on the device.

    Raises:
        UserError: before the model runs, if an input file is missing or does not have the model's input size.
    """
    result_folder = Path(result_folder)
    entries = check_bins(Path(info_path), runtime.input_shape[1:])[slice(*(share or (None,)))]
    known = known_digests(Path(info_path))
    check_replaceable(result_folder, ".bin")
    for _ in range(warmup):
        runtime.run(np.zeros(runtime.input_shape, np.float32))
    clock = _Clock()
    batches = [entries[i : i + runtime.batch_size] for i in range(0, len(entries), runtime.batch_size)]
    start = time.perf_counter()
    with (
        replaced_results(result_folder) as (part, *digests),
        progress_bar(total=len(entries), unit="sequences", what=runtime.facts()["runtime"], quiet=quiet) as bar,
    ):
        _run_batches(runtime, batches, part, clock, bar, known, *digests)
    performance = _performance(runtime, clock, len(entries), time.perf_counter() - start)
    text = write_performance(result_folder.parent, runtime.batch_size, device_id, performance.pop("stages"))
    summary = {**runtime.facts(), **performance, "info": str(info_path), "result": str(result_folder)}
    write_json(text.with_suffix(".json"), summary)
    return summary


class _Clock:
    """Seconds of each batch in each stage. Each stage runs in one thread, so no lock is needed."""

    def __init__(self):
        self.seconds: dict[str, list[float]] = {"data read": [], "infer": [], "post": []}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage].append(time.perf_counter() - start)


def _run_batches(
    runtime: Runtime, batches: list[list[InfoEntry]], folder: Path, clock: _Clock, bar: tqdm, known: dict[str, str],
    read_digests: dict[str, str], written_digests: dict[str, str],
) -> None:  # fmt: skip
    """Read, run and write batches concurrently with a bounded number of batches in memory.

    Args:
        known: expected digests of the input files by stem.
        read_digests, written_digests: receive the digests of the input files and of the results, by stem.
    """

    def read(batch: list[InfoEntry]) -> np.ndarray:
        with clock("data read"):
            image_seq = np.empty(runtime.input_shape, np.float32)
            filled, _ = fill_last_batch(batch, runtime.batch_size)
            for row, entry in zip(image_seq, filled, strict=True):
                try:
                    content = entry.path.read_bytes()
                except OSError as error:
                    raise UserError(
                        f"{entry.path}: cannot be read ({error.strerror}); create the input files again"
                    ) from error
                if len(content) != row.size * FLOAT32.itemsize:
                    raise UserError(f"{entry.path}: its size changed during the run; run the list again")
                read_digests[entry.path.stem] = check_digest(entry.path, content, known)
                row[:] = np.frombuffer(content, FLOAT32).reshape(row.shape)
            return image_seq

    def write(result: tuple[list[InfoEntry], np.ndarray]) -> None:
        with clock("post"):
            for entry, feature in zip(*result, strict=False):
                content = feature.astype(FLOAT32, copy=False).tobytes()
                written_digests[entry.path.stem] = digest_of(content)
                (folder / f"{entry.path.stem}{OUR_SUFFIX}.bin").write_bytes(content)

    def infer(batch: list[InfoEntry], image_seq: np.ndarray) -> tuple[list[InfoEntry], np.ndarray]:
        with clock("infer"):
            return batch, runtime.run(image_seq)

    with contextlib.closing(prefetch(read, batches, 1, _PREFETCH)) as image_seqs:
        results = (infer(batch, image_seq) for batch, image_seq in zip(batches, image_seqs, strict=True))
        for batch, _ in zip(batches, prefetch(write, results, 1, _PREFETCH), strict=True):
            bar.update(len(batch))


def _performance(runtime: Runtime, clock: _Clock, count: int, wall: float) -> dict[str, Any]:
    seconds = {stage: float(np.sum(values)) for stage, values in clock.seconds.items()}
    batches = len(clock.seconds["infer"])
    device_ms = np.array(clock.seconds["infer"]) * 1000
    if runtime.device_ms is not None:
        device_ms = np.array(runtime.device_ms[-batches:])  # without the warmup
    device = batches * runtime.batch_size * 1000 / float(device_ms.sum())  # including fillers, which the model runs too
    stages = {"e2e": {"throughputRate": count / wall, "latency": wall * 1000}}
    for stage, total in seconds.items():
        extra = {"Interface throughputRate": device} if stage == "infer" else {}
        stages[stage] = {"throughputRate": count / total, **extra, "moduleLatency": total / count * 1000}
    return {
        "stages": stages, "batch_size": runtime.batch_size, "sequences": count, "batches": batches, "seconds": wall,
        "e2e_throughput": count / wall, "inference_throughput": count / seconds["infer"],
        "device_throughput": device, "latency_ms": latency_figures(device_ms),
    }  # fmt: skip
