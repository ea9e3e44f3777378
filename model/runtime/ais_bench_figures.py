"""Figures of ais_bench: its summary.json, and the lines that it prints if there is no such file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.common.schema import check
from model.runtime.figures import NUMBER, Figures, latency_figures, lines_of, positive_figure

SUMMARY = "expected summary.json of ais_bench with NPU_compute_time (min, max, mean, …) and throughput"
PRINTED = (
    "expected lines of ais_bench such as `NPU_compute_time (ms): min = 0.6, max = 0.7, mean = 0.66, …` and "
    "`throughput 1000*batchsize.mean(1)/NPU_compute_time.mean(0.66): 1512.85`"
)


def figures_of_summary(path: Path, content: Mapping[str, Any]) -> Figures:
    """Read the content of summary.json."""
    times = check(content, {"NPU_compute_time": dict, "npu_compute_time_list": list | None})["NPU_compute_time"]
    latency = _latency(times)
    listed = content.get("npu_compute_time_list") or []
    if listed and not isinstance(listed[0], list):  # with several threads it contains pairs of start and end
        latency = latency_figures([positive_figure(value, "npu_compute_time_list") for value in listed])
    throughput = positive_figure(content.get("throughput"), "throughput")
    return Figures("ais_bench", _batch(throughput, times), None, throughput, latency, str(path))


def figures_of_printed_lines(path: Path, text: str) -> list[Figures]:
    """Read the summary blocks that ais_bench prints, one per device. The lines of several blocks may be mixed."""
    lines = lines_of(text)
    blocks = [_printed_times(line) for line in lines if "NPU_compute_time (ms)" in line]
    rates = [rate for rate in (re.search(rf"[tT]hroughput (.*):\s{{0,9}}{NUMBER}", line) for line in lines) if rate]
    if not blocks or not rates:
        raise ValueError(f"no line with {'throughput' if blocks else 'NPU_compute_time'}")
    figures = []
    for rate in rates:
        if not blocks:
            raise ValueError("more lines with throughput than with NPU_compute_time")
        mean = re.search(rf"mean\({NUMBER}\)$", rate[1])  # newer versions repeat the mean
        times = next((block for block in blocks if mean and block.get("mean") == float(mean[1])), blocks[0])
        blocks.remove(times)
        latency, throughput = _latency(times), positive_figure(float(rate[2]), "throughput")
        figures.append(Figures("ais_bench", _batch(throughput, times), None, throughput, latency, str(path)))
    return figures if len(figures) == 1 else _with_sum(figures, text)


def _printed_times(line: str) -> dict[str, float]:
    """Return the times in `min = 0.6, max = 0.7, ...`, or in the table row of the newest version, by their names."""
    named = re.findall(rf"\b([a-z]{{1,20}}(?:\([0-9]{{1,3}}%\))?) = {NUMBER}", line)
    cells = zip(("min", "max", "mean", "median", "P99"), re.findall(rf"│\s{{0,9}}{NUMBER}", line), strict=False)
    return {name: float(value) for name, value in named or cells}


def _with_sum(figures: Sequence[Figures], text: str) -> list[Figures]:
    """Name the device of each row as the last lines of ais_bench do, sort the rows, and append their sum."""
    devices = {
        float(throughput): int(device)
        for device, throughput in re.findall(rf"\bdevice_([0-9]{{1,4}}) throughput:{NUMBER}", text)
    }
    numbered = sorted((devices.get(row.device, i), i) for i, row in enumerate(figures))
    rows = [replace(figures[i], runtime=f"ais_bench, device {device}") for device, i in numbered]
    batch_size = rows[0].batch_size if len({row.batch_size for row in rows}) == 1 else None
    total = sum(row.device for row in rows)
    name = f"ais_bench, {len(rows)} devices"
    return [*rows, Figures(name, batch_size, None, total, source=rows[0].source, chips=len(rows))]


def _latency(times: Mapping[str, Any]) -> dict[str, float]:
    names = {"median": "p50", "percentile(90%)": "p90", "percentile(99%)": "p99", "P99": "p99"}
    named = {ours: positive_figure(times[name], name) for name, ours in names.items() if name in times}
    return {"mean": positive_figure(times.get("mean"), "mean of NPU_compute_time"), **named}


def _batch(throughput: float, times: Mapping[str, Any]) -> int:
    return round(throughput * times["mean"] / 1000)  # ais_bench defines throughput as 1000 * batch / mean
