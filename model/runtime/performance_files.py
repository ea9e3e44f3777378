"""Read and write the performance files of the inference tools: throughput and latency of runs of a deployed model.

perf_vision_batchsize_1_device_0.txt        benchmark; `python -m model.runtime` writes it too, and a .json file
PureInfer_perf_of_<om>_in_device_0.txt      benchmark without data
<folder>_summary.json                       ais_bench; its printed output is supported too
"""

import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from model.common.errors import UserError, os_errors_as
from model.common.files import atomic_file
from model.common.schema import check, parse_checked

_NUMBER = r"([-+]?[0-9]{1,30}(?:\.[0-9]{0,30})?(?:[eE][-+]?[0-9]{1,3})?)(?![0-9.])"
_MAX_LINE_LENGTH = 10_000
_STAGES = {"inference": "infer", "postprocess": "post"}  # benchmark has two documented formats with different names
# The repetitions are bounded, because otherwise the search time would be quadratic in the length of a line.
_PAIR = re.compile(rf"\b([A-Za-z][A-Za-z_ ]{{0,40}}?)\s{{0,9}}[:=]\s{{0,9}}{_NUMBER}")
_MAX_JSON_BYTES = 1 << 26  # the summary of ais_bench lists the time of each batch
_MAX_TEXT_BYTES = 1 << 24  # a log may contain every update of a progress bar
_BENCHMARK = (
    "expected lines of benchmark such as `[e2e] throughputRate: 336.39, latency: 148637` and `[infer] throughputRate: "
    "338.442, Interface throughputRate: 787.709, moduleLatency: 2.21785`, or `ave_throughputRate: 38.4344samples/s`"
)
_OURS = {"runtime": str, "latency_ms": dict | None, **dict.fromkeys(("chip", "problem"), str | None)}
_AIS_BENCH = "expected summary.json of ais_bench with NPU_compute_time (min, max, mean, …) and throughput"
_PRINTED = (
    "expected lines of ais_bench such as `NPU_compute_time (ms): min = 0.6, max = 0.7, mean = 0.66, …` and "
    "`throughput 1000*batchsize.mean(1)/NPU_compute_time.mean(0.66): 1512.85`"
)


@dataclass(frozen=True)
class Figures:
    """Performance of one run. Values that the tool does not report are None.

    Attributes:
        end_to_end: throughput in sequences/s, including reading and writing files.
        device: throughput in sequences/s of the model alone, summed over `chips` chips.
        latency_ms: latency in ms per batch on the device. Possible keys are mean, p50, p90 and p99.
        source: path of the file that contains the figures.
        chip: name of the chip, such as Ascend310P3, if known.
        problem: reason why the figures are missing, if they are.
        chips: number of chips.
    """

    runtime: str
    batch_size: int | None
    end_to_end: float | None
    device: float | None
    latency_ms: dict[str, float] = field(default_factory=dict)
    source: str = ""
    chip: str | None = None
    problem: str | None = None
    chips: int = 1


def latency_figures(milliseconds: Sequence[float]) -> dict[str, float]:
    values = np.asarray(milliseconds, float)
    p50, p90, p99 = np.percentile(values, (50, 90, 99)).tolist()
    return {"mean": float(values.mean()), "p50": p50, "p90": p90, "p99": p99}


def write_performance(path: Path, performance: Mapping[str, Mapping[str, float]]) -> None:
    """Write figures in the format of benchmark.

    Args:
        performance: figures of each stage (e2e, data read, preprocess, infer, post) by the names that benchmark uses:
            throughputRate and `Interface throughputRate` in sequences/s, latency in ms of the whole run, and
            moduleLatency in ms per sequence.
    """
    with atomic_file(path) as part, part.open("w", newline="\n") as file:
        for stage, figures in performance.items():
            file.write(f"[{stage}] {', '.join(f'{name}: {value:.6g}' for name, value in figures.items())}\n")


def read_figures(path: Path | str, batch_size: int | None = None) -> Figures:
    """Read the figures of a supported file. If the file contains several devices, return the figures of their sum.

    Args:
        batch_size: used if the file does not contain the batch size.

    Raises:
        UserError: with the expected format, if the format is not supported or a required figure is missing.
    """
    return read_all_figures(path, batch_size)[-1]


def read_all_figures(path: Path | str, batch_size: int | None = None) -> list[Figures]:
    """Read the figures of a supported file: of each device and, for several devices, of their sum as the last element.

    The arguments and errors are the same as for `read_figures`.
    """
    path, expected = Path(path), _BENCHMARK
    text = _text(path)
    try:
        if text.lstrip().startswith("{"):
            expected = _AIS_BENCH
            content = parse_checked(text, {})
            if "device_throughput" in content and "runtime" in content:
                return _of_our_summary(path, content)
            return [_of_summary(path, content)]
        if "NPU_compute_time" in text:
            expected = _PRINTED
            return _of_printed_lines(path, text)
        return [_of_benchmark(path, text, batch_size)]
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: {error}; {expected}") from error


def _text(path: Path) -> str:
    with os_errors_as(f"{path}: cannot be read", "run the deployed model first"), path.open("rb") as file:
        content = file.read(_MAX_JSON_BYTES + 1)
    if len(content) > (_MAX_JSON_BYTES if content.lstrip()[:1] == b"{" else _MAX_TEXT_BYTES):
        raise UserError(f"{path}: too large for a performance file; {_BENCHMARK}")
    return content.decode("utf-8", "replace")


def _of_benchmark(path: Path, text: str, batch_size: int | None) -> Figures:
    found: dict[str | None, dict[str, float]] = {}
    for line in _lines_of(text):
        stage, rest = re.fullmatch(r"\s*(?:\[([^\]]{0,40})\])?\s*(.*)", line, re.DOTALL).groups()
        pairs = {name: float(value) for name, value in _PAIR.findall(rest)}
        found.setdefault(_STAGES.get(stage, stage), {}).update(pairs)
    named = re.search(r"batchsize_(\d+)|_bs(\d+)", path.name)
    batch_size = int(named[1] or named[2]) if named else batch_size
    pure = next((values for values in found.values() if "ave_throughputRate" in values), None)
    if pure:
        runtime, end_to_end = "benchmark, no data", None
        device = _positive(pure["ave_throughputRate"], "ave_throughputRate")
    else:
        runtime, infer = "benchmark", found.get("infer", {})
        end_to_end = _positive(found.get("e2e", {}).get("throughputRate"), "[e2e] throughputRate")
        rate = infer.get("Interface throughputRate") or infer.get("throughputRate")
        device = _positive(rate, "[infer] throughputRate")
    # The mean latency is computed from the throughput, because the latencies of benchmark include waiting.
    latency = {"mean": batch_size * 1000 / device} if batch_size else {}
    return Figures(runtime, batch_size, end_to_end, device, latency, str(path))


def _of_our_summary(path: Path, content: Mapping[str, Any]) -> list[Figures]:
    """Read the summary of python -m model.runtime: the figures of each chip and, for several chips, of their sum."""
    total = _of_run(path, check(content, _OURS))
    if not content.get("devices"):
        return [total]
    rows = [
        replace(_of_run(path, device), runtime=f"{device['runtime']}, device {device['device_id']}")
        for device in check(content["devices"], [_OURS | {"device_id": int}], "devices")
    ]
    return [*rows, replace(total, runtime=f"{total.runtime}, {len(rows)} devices", chips=len(rows))]


def _of_run(path: Path, content: Mapping[str, Any]) -> Figures:
    """Read the summary of one run. Values that the tool did not report are None."""
    rates = [
        None if content.get(name) is None else _positive(content[name], name)
        for name in ("e2e_throughput", "device_throughput")
    ]
    batch_size, latency = content.get("batch_size"), content.get("latency_ms") or {}
    if batch_size is not None:
        check(batch_size, range(1, 1 << 31), "batch_size")
    named = {name: _positive(value, "latency_ms") for name, value in latency.items()}
    texts = {name: content.get(name) for name in ("chip", "problem")}
    return Figures(content["runtime"], batch_size, *rates, named, str(path), **texts)


def _of_summary(path: Path, content: Mapping[str, Any]) -> Figures:
    """Read the figures from the content of ais_bench's summary.json."""
    times = check(content, {"NPU_compute_time": dict, "npu_compute_time_list": list | None})["NPU_compute_time"]
    figures = _of_ais_bench(path, times, content.get("throughput"))
    listed = content.get("npu_compute_time_list") or []
    if not listed or isinstance(listed[0], list):  # with several threads, the list contains pairs of start and end
        return figures
    latency = latency_figures([_positive(value, "npu_compute_time_list") for value in listed])
    return replace(figures, latency_ms=latency)


def _of_ais_bench(path: Path, times: Mapping[str, Any], throughput: Any) -> Figures:
    names = {"median": "p50", "percentile(90%)": "p90", "percentile(99%)": "p99", "P99": "p99"}
    latency = {"mean": _positive(times.get("mean"), "mean of NPU_compute_time")}
    latency |= {ours: _positive(times[name], name) for name, ours in names.items() if name in times}
    throughput = _positive(throughput, "throughput")
    batch_size = round(throughput * latency["mean"] / 1000)  # ais_bench defines throughput as 1000 * batch / mean
    return Figures("ais_bench", batch_size, None, throughput, latency, str(path))


def _of_printed_lines(path: Path, text: str) -> list[Figures]:
    """Read the figures that ais_bench prints: one block of lines per device. Lines of different blocks may be mixed."""
    lines = _lines_of(text)
    blocks = [_printed_times(line) for line in lines if "NPU_compute_time (ms)" in line]
    rates = [rate for rate in (re.search(rf"[tT]hroughput (.*):\s{{0,9}}{_NUMBER}", line) for line in lines) if rate]
    if not blocks or not rates:
        raise ValueError(f"no line with {'throughput' if blocks else 'NPU_compute_time'}")
    figures = []
    for rate in rates:
        if not blocks:
            raise ValueError("more lines with throughput than with NPU_compute_time")
        mean = re.search(rf"mean\({_NUMBER}\)$", rate[1])  # newer versions repeat the mean
        times = next((block for block in blocks if mean and block.get("mean") == float(mean[1])), blocks[0])
        blocks.remove(times)
        figures.append(_of_ais_bench(path, times, float(rate[2])))
    return figures if len(figures) == 1 else _with_sum(figures, text)


def _printed_times(line: str) -> dict[str, float]:
    """Return the times in a line by name. The line is `min = 0.6, max = 0.7, ...`, or a table row (newest version)."""
    named = re.findall(rf"\b([a-z]{{1,20}}(?:\([0-9]{{1,3}}%\))?) = {_NUMBER}", line)
    cells = zip(("min", "max", "mean", "median", "P99"), re.findall(rf"│\s{{0,9}}{_NUMBER}", line), strict=False)
    return {name: float(value) for name, value in named or cells}


def _with_sum(figures: Sequence[Figures], text: str) -> list[Figures]:
    """Add the number of its device to each row, sort the rows by this number, and append their sum.

    The last lines that ais_bench prints contain the number and the throughput of each device.
    """
    devices = {
        float(throughput): int(device)
        for device, throughput in re.findall(rf"\bdevice_([0-9]{{1,4}}) throughput:{_NUMBER}", text)
    }
    numbered = sorted((devices.get(row.device, i), i) for i, row in enumerate(figures))
    rows = [replace(figures[i], runtime=f"ais_bench, device {device}") for device, i in numbered]
    batch_size = rows[0].batch_size if len({row.batch_size for row in rows}) == 1 else None
    total = sum(row.device for row in rows)
    name = f"ais_bench, {len(rows)} devices"
    return [*rows, Figures(name, batch_size, None, total, source=rows[0].source, chips=len(rows))]


def _lines_of(text: str) -> list[str]:
    """Return the lines of a text without very long lines, which would make the searches slow."""
    return [line for line in text.splitlines() if len(line) <= _MAX_LINE_LENGTH]


def _positive(value: Any, name: str) -> float:
    """Return `value` as a float. Raise ValueError with `name` if `value` is None or not a positive number."""
    if type(value) not in (int, float) or not 0 < value < 1e150:
        raise ValueError(f"{name} is {'missing' if value is None else reprlib.repr(value)}")
    return float(value)
