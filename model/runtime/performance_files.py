"""Read and write the throughput and latency files of the inference tools.

perf_vision_batchsize_1_device_0.txt        benchmark; also written by `python -m model.runtime`, with .json
PureInfer_perf_of_<om>_in_device_0.txt      benchmark without data
<folder>_summary.json                       ais_bench; its printed output is supported too
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.common.errors import UserError
from model.common.files import atomic_file
from model.common.schema import check, parse_checked
from model.runtime.ais_bench_figures import PRINTED, SUMMARY, figures_of_printed_lines, figures_of_summary
from model.runtime.figures import NUMBER, Figures, lines_of, positive_figure

_STAGES = {"inference": "infer", "postprocess": "post"}  # names in the second documented format
# Bounded repetitions: otherwise the time is quadratic in the length of a line.
_PAIR = re.compile(rf"\b([A-Za-z][A-Za-z_ ]{{0,40}}?)\s{{0,9}}[:=]\s{{0,9}}{NUMBER}")
_MAX_JSON_BYTES = 1 << 26  # ais_bench lists the time of each batch
_MAX_TEXT_BYTES = 1 << 24  # a log may contain every step of a progress bar
_BENCHMARK = (
    "expected lines of benchmark such as `[e2e] throughputRate: 336.39, latency: 148637` and `[infer] throughputRate: "
    "338.442, Interface throughputRate: 787.709, moduleLatency: 2.21785`, or `ave_throughputRate: 38.4344samples/s`"
)
_OURS = {"runtime": str, "latency_ms": dict | None, **dict.fromkeys(("chip", "problem"), str | None)}


def write_performance(path: Path, performance: Mapping[str, Mapping[str, float]]) -> None:
    """Write figures in the format of benchmark.

    Args:
        performance: values by stage (e2e, data read, preprocess, infer, post) and by the tool's names: throughputRate
            and `Interface throughputRate` in sequences/s, latency of the whole run and moduleLatency of one sequence
            in ms.
    """
    with atomic_file(path) as part, part.open("w", newline="\n") as file:
        for stage, figures in performance.items():
            file.write(f"[{stage}] {', '.join(f'{name}: {value:.6g}' for name, value in figures.items())}\n")


def read_figures(path: Path | str, batch_size: int | None = None) -> Figures:
    """Read the figures of any supported file; of a log of several devices, their sum.

    Args:
        batch_size: used for files that do not contain the batch size.

    Raises:
        UserError: with the expected format, if the file is not supported or lacks the required figures.
    """
    return read_all_figures(path, batch_size)[-1]


def read_all_figures(path: Path | str, batch_size: int | None = None) -> list[Figures]:
    """Like `read_figures`, but return the figures of each device before their sum."""
    path, expected = Path(path), _BENCHMARK
    text = _text(path)
    try:
        if text.lstrip().startswith("{"):
            expected = SUMMARY
            content = parse_checked(text, {})
            if "device_throughput" in content and "runtime" in content:
                return _of_our_summary(path, content)
            return [figures_of_summary(path, content)]
        if "NPU_compute_time" in text:
            expected = PRINTED
            return figures_of_printed_lines(path, text)
        return [_of_benchmark(path, text, batch_size)]
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: {error}; {expected}") from error


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_JSON_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); run the deployed model first") from error
    if len(content) > (_MAX_JSON_BYTES if content.lstrip()[:1] == b"{" else _MAX_TEXT_BYTES):
        raise UserError(f"{path}: too large for a performance file; {_BENCHMARK}")
    return content.decode("utf-8", "replace")


def _of_benchmark(path: Path, text: str, batch_size: int | None) -> Figures:
    found: dict[str | None, dict[str, float]] = {}
    for line in lines_of(text):
        stage, rest = re.fullmatch(r"\s*(?:\[([^\]]{0,40})\])?\s*(.*)", line, re.DOTALL).groups()
        pairs = {name: float(value) for name, value in _PAIR.findall(rest)}
        found.setdefault(_STAGES.get(stage, stage), {}).update(pairs)
    named = re.search(r"batchsize_(\d+)|_bs(\d+)", path.name)
    batch_size = int(named[1] or named[2]) if named else batch_size
    pure = next((values for values in found.values() if "ave_throughputRate" in values), None)
    if pure:
        runtime, end_to_end = "benchmark, no data", None
        device = positive_figure(pure["ave_throughputRate"], "ave_throughputRate")
    else:
        runtime, infer = "benchmark", found.get("infer", {})
        end_to_end = positive_figure(found.get("e2e", {}).get("throughputRate"), "[e2e] throughputRate")
        rate = infer.get("Interface throughputRate") or infer.get("throughputRate")
        device = positive_figure(rate, "[infer] throughputRate")
    # The latencies of benchmark include waiting.
    latency = {"mean": batch_size * 1000 / device} if batch_size else {}
    return Figures(runtime, batch_size, end_to_end, device, latency, str(path))


def _of_our_summary(path: Path, content: Mapping[str, Any]) -> list[Figures]:
    """Read the summary of python -m model.runtime; of a run on several chips, a row per chip and their sum."""
    total = _of_run(path, check(content, _OURS))
    if not content.get("devices"):
        return [total]
    rows = [
        replace(_of_run(path, device), runtime=f"{device['runtime']}, device {device['device_id']}")
        for device in check(content["devices"], [_OURS | {"device_id": int}], "devices")
    ]
    return [*rows, replace(total, runtime=f"{total.runtime}, {len(rows)} devices", chips=len(rows))]


def _of_run(path: Path, content: Mapping[str, Any]) -> Figures:
    """Read the summary of one run, which has None for values that the tool did not report."""
    rates = [
        None if content.get(name) is None else positive_figure(content[name], name)
        for name in ("e2e_throughput", "device_throughput")
    ]
    batch_size, latency = content.get("batch_size"), content.get("latency_ms") or {}
    if batch_size is not None:
        check(batch_size, range(1, 1 << 31), "batch_size")
    named = {name: positive_figure(value, "latency_ms") for name, value in latency.items()}
    texts = {name: content.get(name) for name in ("chip", "problem")}
    return Figures(content["runtime"], batch_size, *rates, named, str(path), **texts)
