"""ONNX Runtime as the deployed model's runtime, on machines without Ascend hardware."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from model.errors import UserError
from model.export.bins import DTYPE, InfoEntry, check_replaceable, read_info
from model.files import whole_folder, write_json
from model.runtime.result_files import OUR_SUFFIX, write_performance

CPU = "CPUExecutionProvider"
_READ_AHEAD = 2  # batches being read or waiting while one runs; as many may wait to be written


class OrtRuntime:
    """A session on a model of static shapes: float32 [n, s, h, w] -> float32 [n, 62, d].

    threads: of one operator; None lets ONNX Runtime take one a core (of those this process may use).
    providers: names, or (name, options); default the CPU. ONNX Runtime falls back to the CPU in silence
    when a provider cannot start: here that is an error.
    Raises UserError for a missing or foreign file, a dynamic shape, a provider that is not there.
    """

    name = "onnxruntime"

    def __init__(
        self,
        onnx_path: Path | str,
        threads: int | None = None,
        providers: Sequence[str | tuple[str, dict]] | None = None,
    ):
        ort = _import_onnxruntime()
        self.path = Path(onnx_path)
        self.threads = threads or _usable_threads()
        self.version = ort.__version__
        providers = list(providers or [CPU])
        asked = providers[0] if isinstance(providers[0], str) else providers[0][0]
        if not self.path.is_file():
            raise UserError(f"{self.path}: no such ONNX file; make it with pth2onnx.py")
        if asked not in ort.get_available_providers():
            available = ", ".join(ort.get_available_providers())
            raise UserError(f"this ONNX Runtime {ort.__version__} has no {asked}, only {available}")
        options = ort.SessionOptions()
        # All optimisations and the memory arena, one operator after another: measured fastest, see
        # test/bench/onnx_runtime.py --settings.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        try:
            self.session = ort.InferenceSession(str(self.path), options, providers=providers)
        except Exception as error:  # the classes of its binding have nothing but Exception in common
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{self.path}: ONNX Runtime cannot load it, is it an ONNX file? ({reason})") from error
        self.provider = self.session.get_providers()[0]
        if self.provider != asked:
            raise UserError(f"{asked} was asked for, ONNX Runtime took {self.provider}: is its driver installed?")
        self.input_name, self.input_shape = _only(self.path, self.session.get_inputs(), "input", 4)
        self.output_name, self.output_shape = _only(self.path, self.session.get_outputs(), "output", 3)

    @property
    def batch_size(self) -> int:
        return self.input_shape[0]

    @property
    def frame_num(self) -> int:
        return self.input_shape[1]

    def run(self, image_seq: np.ndarray) -> np.ndarray:
        """float32 of exactly the model's input shape -> float32 of its output shape."""
        if image_seq.shape != self.input_shape:
            raise ValueError(f"input of shape {image_seq.shape}, {self.path} takes {self.input_shape}")
        feature = self.session.run([self.output_name], {self.input_name: image_seq})[0]
        assert feature.shape == self.output_shape, "ONNX Runtime keeps to the shape of a static graph"
        return feature

    def facts(self) -> dict[str, Any]:
        return {
            "runtime": self.name,
            "version": f"{self.name} {self.version}",
            "provider": self.provider,
            "threads": self.threads,
            "model": str(self.path),
        }


def run_info_list(
    runtime: OrtRuntime,
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


def _run_batches(runtime: OrtRuntime, batches: list[list[InfoEntry]], folder: Path, clock: _Clock, bar: tqdm) -> None:
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


def _performance(runtime: OrtRuntime, clock: _Clock, count: int, wall: float) -> dict[str, Any]:
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


def _only(path: Path, values: list, kind: str, rank: int) -> tuple[str, tuple[int, ...]]:
    found = [f"{value.name} {value.type} {value.shape}" for value in values]
    static = len(values) == 1 and all(isinstance(size, int) and size > 0 for size in values[0].shape)
    if not static or len(values[0].shape) != rank or values[0].type != "tensor(float)":
        raise UserError(
            f"{path}: has {kind} {', '.join(found) or 'nothing'}; needed is one, float32, {rank} static "
            "axes, export it with pth2onnx.py"
        )
    return values[0].name, tuple(values[0].shape)


def _usable_threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _import_onnxruntime():
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"ONNX Runtime cannot be imported ({error}); pip install onnxruntime") from error
    return onnxruntime
