"""Fuzz targets for performance files, accuracy files, logs, and the output of npu-smi and atc."""

import json
import math
import random
from pathlib import Path
from unittest import mock

import fault_mutations as mutate
from fault_mutations import Target, file_target
from small_results import a_result

from model.export.atc import soc_version
from model.export.atc.advice import explain
from model.report.comparison import compare_files, comparison_text
from model.report.training_curves import read_log
from model.runtime.ais_bench_tool import _results
from model.runtime.performance import compare_accuracy, table
from model.runtime.performance_files import read_figures

PERFORMANCE = """[e2e] throughputRate: 336.39, latency: 148637
[data read] throughputRate: 339.12, moduleLatency: 2.94
[infer] throughputRate: 338.442, Interface throughputRate: 787.709, moduleLatency: 2.21785
[post] throughputRate: 338.44, moduleLatency: 2.95
"""
PURE = "ave_throughputRate = 38.4344samples/s, ave_latency = 26.02ms\n"
PRINTED = """[INFO] -----------------Performance Summary------------------
[INFO] NPU_compute_time (ms): min = 0.6, max = 0.7, mean = 0.66, median = 0.66, percentile(99%) = 0.7
[INFO] throughput 1000*batchsize.mean(1)/NPU_compute_time.mean(0.66): 1512.85
"""
SUMMARY = {
    "NPU_compute_time": {"min": 4.0, "max": 28.0, "mean": 10.0, "median": 6.0, "percentile(99%)": 27.16, "count": 5},
    "throughput": 100.0, "npu_compute_time_list": [4.0, 10.0, 28.0],
    "filesinfo": {"0": {"infiles": ["a/0000.bin"], "outfiles": ["b/0000_0.bin"]}},
}  # fmt: skip
OURS = {
    "runtime": "acl", "batch_size": 4, "e2e_throughput": 10.0, "device_throughput": 20.0, "latency_ms": {"mean": 3.0},
    "chip": "Ascend310P3", "problem": None,
}  # fmt: skip


def _table(path: Path) -> None:
    figures = read_figures(path)
    rates = [figures.end_to_end, figures.device, *figures.latency_ms.values()]
    assert all(rate is None or (isinstance(rate, float) and 0 < rate < math.inf) for rate in rates)
    assert table([figures])


def performance_texts(folder: Path) -> Target:
    def read(draw: random.Random) -> None:
        text = draw.choice((PERFORMANCE, PURE, PRINTED))
        changed = mutate.lines_of(text, draw).encode("utf-8", "surrogatepass")
        path = folder / draw.choice(("perf_vision_batchsize_16_device_0.txt", "x.txt"))
        path.write_bytes(changed if draw.random() < 0.7 else mutate.bytes_of(text.encode(), [PRINTED.encode()], draw))
        _table(path)

    return read


def summaries(folder: Path) -> Target:
    def read(path: Path) -> None:
        for result in _results(folder / "s", ["0000"]).values():
            assert result.parent == folder / "s"
        _table(path)

    return file_target(folder / "s_summary.json", [SUMMARY, OURS], read)


def accuracies(folder: Path) -> Target:
    good = {"rank1": {c: {"including": 95.5, "excluding": 94.0} for c in ("NM", "BG")}, "views": ["000"]}
    return lambda draw: compare_accuracy([mutate.write(folder / f"{name}.json", good, draw) for name in "ab"])


def compared_results(folder: Path) -> Target:
    """Files of test.py --json, which --compare compares with a valid file."""
    good = json.loads(json.dumps(a_result().to_json()))
    (folder / "a.json").write_text(json.dumps(good))

    def read(path: Path) -> None:
        assert comparison_text(compare_files(folder / "a.json", path))

    return file_target(folder / "b.json", [good], read)


def reported_logs(folder: Path) -> Target:
    """Training logs, from which the report draws curves."""
    point = {"hard_loss_metric": 0.1, "full_loss_metric": 0.2, "full_loss_num": 3.0, "mean_dist": 1.0, "lr": 1e-4,
             "hard_or_full": "full", "iterations_per_second": 9.0, "skipped": 0}  # fmt: skip
    lines = [json.dumps({"iteration": i, **point}) for i in range(1, 4)] + [json.dumps({"iteration": 3, "rank1": 5.0})]

    def read(draw: random.Random) -> None:
        changed = [mutate.json_text(json.loads(line), draw) for line in lines if draw.random() < 0.9]
        path = mutate.write(folder / "train.jsonl", "\n".join(changed + lines), draw)
        for found in read_log(path):
            names = ("rank1",) if "rank1" in found else ("full_loss_metric", "hard_loss_metric", "full_loss_num", "lr")
            assert all(math.isfinite(found[name]) for name in ("iteration", *names))

    return read


def tools_words(folder: Path) -> Target:
    """Changed output of npu-smi and atc."""
    chips = """+------+
| NPU   Name      | Health | Power |
| Chip  Device    | Bus-Id | AICore |
+======+
| 0     310P3     | OK     | 17.5   |
| 0     0         | 0000:86:00.0 | 0 |
+======+
"""
    board = "Chip Name : Ascend910\nNPU Name : 9391\n"
    said = "ATC start working now.\n[ERROR] E10016: Opname specified is invalid\nATC run failed\n"

    def read(draw: random.Random) -> None:
        with mock.patch.object(soc_version, "run_npu_smi", lambda *arguments: mutate.lines_of(board, draw)):
            for number, name in soc_version.parse_chips(mutate.lines_of(chips, draw)):
                soc_version.soc_version_of(number, name)
        assert explain(mutate.lines_of(said, draw), draw.choice((0, 1, 255, -9)), "python3")

    return read
