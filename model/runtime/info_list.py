"""Run a model of static shape on the input files of an `.info` list, or on the sequences of a store."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from model.common.errors import UserError, os_errors_as
from model.common.geometry import FLOAT32
from model.common.messages import progress_bar
from model.common.prefetch import prefetch
from model.data.store import SilhouetteStore
from model.export.input_files import FixedLength, check_replaceable, fixed_length
from model.export.manifest import digest_of, fill_last_batch
from model.runtime.bin_list import check_bins, check_digest, known_digests
from model.runtime.performance_files import write_performance
from model.runtime.result_files import OUR_SUFFIX
from model.runtime.result_record import replaced_results
from model.runtime.static_runtime import StaticRuntime
from model.runtime.task import Task

_PREFETCH = 2  # maximum number of batches that are read in advance, and of results that wait to be written


def embed_fixed(
    runtime: StaticRuntime, store: SilhouetteStore, length: FixedLength, quiet: bool = False, positions=None
) -> np.ndarray:
    """Compute the embeddings of sequences that are padded or truncated to the model's number of frames.

    The result is the same as from writing input files, running their list and reading the result files.

    Args:
        length: how to pad and truncate sequences. `length.frame_num` is ignored.
        positions: positions of the sequences in the store. Default: all sequences.

    Returns:
        Float array [n, 62, d].
    """
    rows, batch_size, how = [], runtime.batch_size, (runtime.frame_num, length.padding, length.truncate)
    positions = range(len(store.index)) if positions is None else positions
    firsts = range(0, len(positions), batch_size)
    for first in progress_bar(firsts, unit="batches", what=runtime.facts()["runtime"], quiet=quiet):
        image_seq = np.empty(runtime.input_shape, np.float32)
        filled, added = fill_last_batch(positions[first : first + batch_size], batch_size)
        for row, position in zip(image_seq, filled, strict=True):
            row[:] = fixed_length(store.sequence(position), *how).astype(np.float32) / 255
        rows.append(runtime.run(image_seq)[: batch_size - added])
    return np.concatenate(rows)


def run_info_list(runtime: StaticRuntime, task: Task) -> dict[str, Any]:
    """Run the model on the input files of the task and write one result file `<stem>_1.bin` per sequence.

    The last batch is filled by repeating its last sequence. The results of these fillers are not written. The result
    folder is replaced as a whole. A performance file in the format of the benchmark tool is written next to it.

    Returns:
        The summary of the run: the throughput in sequences/s (end to end, of inference including the copies to and
        from the device, and of the device alone) and the latency in ms per batch on the device.

    Raises:
        UserError: before the model runs, if an input file is missing or does not have the model's input size.
    """
    files = check_bins(task.info, runtime.input_shape[1:])[slice(*(task.share or (None,)))]
    known = known_digests(task.info)
    check_replaceable(task.result_folder, ".bin")
    runtime.warm_up(task.warmup)
    batches = [files[i : i + runtime.batch_size] for i in range(0, len(files), runtime.batch_size)]
    seconds: dict[str, list[float]] = {"data read": [], "infer": [], "post": []}  # of each batch
    start = time.perf_counter()
    with (
        replaced_results(task.result_folder) as (part, *digests),
        progress_bar(total=len(files), unit="sequences", what=runtime.facts()["runtime"], quiet=task.quiet) as bar,
    ):
        _run_batches(runtime, batches, part, seconds, bar, known, *digests)
    wall, count = time.perf_counter() - start, len(files)
    figures = runtime.figures(np.array(seconds["infer"]) * 1000)
    # The benchmark tool uses the same names of stages and figures.
    stages = {"e2e": {"throughputRate": count / wall, "latency": wall * 1000}}
    for stage, values in seconds.items():
        extra = {"Interface throughputRate": figures["device_throughput"]} if stage == "infer" else {}
        stages[stage] = {"throughputRate": count / sum(values), **extra, "moduleLatency": sum(values) / count * 1000}
    write_performance(task.summary_path(runtime.batch_size).with_suffix(".txt"), stages)
    return {
        **runtime.facts(), "batch_size": runtime.batch_size, "sequences": count, "batches": len(batches),
        "seconds": wall, "e2e_throughput": count / wall, "inference_throughput": count / sum(seconds["infer"]),
        **figures, "info": str(task.info), "result": str(task.result_folder),
    }  # fmt: skip


def _run_batches(
    runtime: StaticRuntime, batches: list[list[Path]], folder: Path, seconds: dict[str, list[float]], bar: tqdm,
    known: dict[str, str], read_digests: dict[str, str], written_digests: dict[str, str],
) -> None:  # fmt: skip
    """Read, run and write batches concurrently, with a bounded number of batches in memory.

    Args:
        seconds: for each stage, a list to which the duration of each batch is appended. Each stage runs in one
            thread, so no lock is needed.
        known: digests of the input files by stem, from the manifest.
        read_digests: dict to which the digests of the input files are added by stem.
        written_digests: dict to which the digests of the results are added by the stem of the input file.
    """

    @contextlib.contextmanager
    def clock(stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[stage].append(time.perf_counter() - start)

    def read(batch: list[Path]) -> np.ndarray:
        with clock("data read"):
            image_seq = np.empty(runtime.input_shape, np.float32)
            filled, _ = fill_last_batch(batch, runtime.batch_size)
            for row, file in zip(image_seq, filled, strict=True):
                with os_errors_as(f"{file}: cannot be read", "create the input files again"):
                    content = file.read_bytes()
                if len(content) != row.size * FLOAT32.itemsize:
                    raise UserError(f"{file}: its size changed during the run; run the list again")
                read_digests[file.stem] = check_digest(file, content, known)
                row[:] = np.frombuffer(content, FLOAT32).reshape(row.shape)
            return image_seq

    def infer(image_seq: np.ndarray) -> np.ndarray:
        with clock("infer"):
            return runtime.run(image_seq)

    def write(result: tuple[list[Path], np.ndarray]) -> int:
        with clock("post"):
            for file, feature in zip(*result, strict=False):
                content = feature.astype(FLOAT32, copy=False).tobytes()
                written_digests[file.stem] = digest_of(content)
                (folder / f"{file.stem}{OUR_SUFFIX}.bin").write_bytes(content)
        return len(result[0])

    with contextlib.closing(prefetch(read, batches, 1, _PREFETCH)) as image_seqs:
        results = zip(batches, map(infer, image_seqs), strict=True)
        for count in prefetch(write, results, 1, _PREFETCH):
            bar.update(count)
