"""Performance files in all documented formats. The expected figures are computed by hand."""

import json

import numpy as np
import pytest

from model.common.errors import UserError
from model.runtime.performance_files import (
    Figures,
    latency_figures,
    read_all_figures,
    read_figures,
    write_performance,
)

TOOL_TEXT = """[e2e] throughputRate: 336.39, latency: 148637
[data read] throughputRate: 357.787, moduleLatency: 2.79496
[preprocess] throughputRate: 357.147, moduleLatency: 2.79997
[infer] throughputRate: 338.442, Interface throughputRate: 787.709, moduleLatency: 2.21785
[post] throughputRate: 338.44, moduleLatency: 2.95473
"""


def test_performance_file_has_the_bytes_of_the_tool(tmp_path):
    performance = {
        "e2e": {"throughputRate": 336.39, "latency": 148637.0},
        "data read": {"throughputRate": 357.787, "moduleLatency": 2.79496},
        "preprocess": {"throughputRate": 357.147, "moduleLatency": 2.79997},
        "infer": {"throughputRate": 338.442, "Interface throughputRate": 787.709, "moduleLatency": 2.21785},
        "post": {"throughputRate": 338.44, "moduleLatency": 2.95473},
    }
    path = tmp_path / "perf_vision_batchsize_16_device_3.txt"
    write_performance(path, performance)
    assert path.read_bytes() == TOOL_TEXT.encode()


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def test_figures_of_benchmark(tmp_path):
    """At an interface throughput of 787.709/s, a batch of 16 takes 16 / 787.709 s."""
    path = write(tmp_path, "perf_vision_batchsize_16_device_0.txt", TOOL_TEXT)
    figures = read_figures(path)
    assert figures == Figures("benchmark", 16, 336.39, 787.709, {"mean": pytest.approx(16000 / 787.709)}, str(path))


def test_figures_of_benchmark_in_its_second_format(tmp_path):
    text = (
        "[e2e] throughputRate: 96.455samples/s, latency: 1389.25ms\r\n[inference] throughputRate: 356.828, "
        "Interface throughputRate: 1.45105e+06 samples/s, moduleLatency: 2.8\r\n[postprocess] throughputRate: 9\r\n"
    )
    figures = read_figures(write(tmp_path, "perf_vision_batchsize_1_device_3.txt", text))
    assert (figures.end_to_end, figures.device) == (96.455, 1.45105e06)
    figures = read_figures(write(tmp_path, "copied.txt", text), batch_size=4)
    assert figures.batch_size == 4 and figures.latency_ms["mean"] == pytest.approx(4000 / 1.45105e06)
    assert read_figures(tmp_path / "copied.txt").latency_ms == {}  # the batch size is unknown


def test_module_throughput_without_interface_throughput(tmp_path):
    text = "[e2e] throughputRate: 10, latency: 5\n[infer] throughputRate: 20, moduleLatency: 50\n"
    assert read_figures(write(tmp_path, "perf.txt", text)).device == 20


@pytest.mark.parametrize(
    ("name", "text", "batch", "device", "mean"),
    [
        ("PureInfer_perf_of_gaitset_submit_bs16_in_device_0.txt",
         "ave_throughputRate = 171.203samples/s, ave_latency = 5.84102ms\n", 16, 171.203, 93.456),
        ("log.txt",
         "[INFO] Dataset number: 19 finished cost 25.448ms\n[INFO] PureInfer result saved in ./result/P.txt\n"
         "-----------------PureInfer Performance Summary------------------\n"
         "[INFO] ave_throughputRate: 38.4344samples/s, ave_latency: 26.1589ms\n", None, 38.4344, None),
    ],
)  # fmt: skip
def test_figures_of_pure_inference(tmp_path, name, text, batch, device, mean):
    """The file contains the latency of one sample, so the latency of a batch is computed from the throughput."""
    figures = read_figures(write(tmp_path, name, text))
    assert (figures.batch_size, figures.end_to_end, figures.device) == (batch, None, device)
    assert figures.latency_ms == ({"mean": pytest.approx(mean, rel=1e-4)} if mean else {})


TIMES = [4.0, 5.0, 6.0, 7.0, 28.0]
SUMMARY = {
    "filesinfo": {"0": {"infiles": ["a/0000.bin"], "outfiles": ["b/0000_0.bin"]}},
    "args": ["x"],
    "NPU_compute_time": {"min": 4.0, "max": 28.0, "mean": 10.0, "median": 6.0, "percentile(99%)": 27.16, "count": 5},
    "H2D_latency": {},
    "D2H_latency": {},
    "throughput": 1600.0,
    "npu_compute_time_list": TIMES,
    "pid": 1,
}


def test_figures_of_ais_bench(tmp_path):
    """1600 sequences/s at 10 ms per batch are 16 sequences per batch."""
    figures = read_figures(write(tmp_path, "x_summary.json", SUMMARY))
    assert (figures.runtime, figures.batch_size, figures.end_to_end, figures.device) == ("ais_bench", 16, None, 1600.0)
    expected = {"mean": 10.0, "p50": 6.0, "p90": 19.6, "p99": 27.16}  # p90 = 7 + 0.6 * 21, p99 = 7 + 0.96 * 21
    assert figures.latency_ms == pytest.approx(expected)


def test_figures_of_ais_bench_with_threads(tmp_path):
    """With several threads, ais_bench lists start and end times, and reports only the mean."""
    content = SUMMARY | {"NPU_compute_time": {"mean": 10.0, "count": 5}, "npu_compute_time_list": [[0.0, 10.0]]}
    assert read_figures(write(tmp_path, "x_summary.json", content)).latency_ms == {"mean": 10.0}


@pytest.mark.parametrize(
    "throughput",
    [
        "throughput 1000*batchsize.mean(1)/NPU_compute_time.mean(0.66): 1512.85",
        "throughput 1000*batchsize(1)/NPU_compute_time.mean(0.66): 1512.85",
        "throughput (1000*batchsize/NPU_compute_time): 1512.85",
    ],
)
def test_figures_of_printed_ais_bench_lines(tmp_path, throughput):
    text = (
        "[INFO] load model x.om success\n[INFO] -----------------Performance Summary------------------\n"
        "[INFO] NPU_compute_time (ms): min = 0.6, max = 7e-01, mean = 0.661, median = 0.65, percentile(99%) = 0.69\n"
        f"[INFO] {throughput}\n[INFO] ----\nunload model success, model Id is 1\n"
    )
    figures = read_figures(write(tmp_path, "log.txt", text))
    assert (figures.runtime, figures.batch_size, figures.device) == ("ais_bench", 1, 1512.85)
    assert figures.latency_ms == {"mean": 0.661, "p50": 0.65, "p99": 0.69}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[e2e] throughputRate: 1, latency: 2\n", r"\[infer\] throughputRate is missing; expected lines of benchmark"),
        ("[infer] throughputRate: 1\n", r"\[e2e\] throughputRate is missing"),
        ("[e2e] throughputRate: 0, latency: 0\n[infer] throughputRate: 1\n", r"\[e2e\] throughputRate is 0"),
        ("Segmentation fault\n", r"\[e2e\] throughputRate is missing"),
        ("", r"\[e2e\] throughputRate is missing"),
        ('{"a": 1}', "NPU_compute_time: expected dict, found nothing; expected summary.json of ais_bench"),
        ('{"a": ', "expected summary.json of ais_bench"),
        ({"NPU_compute_time": {"median": 1}, "throughput": 1}, "mean of NPU_compute_time is missing"),
        ({"NPU_compute_time": {"mean": 1}, "throughput": 0}, "throughput is 0; expected summary"),
        ({"NPU_compute_time": {"mean": 1}, "throughput": None}, "throughput is missing"),
        ('{"NPU_compute_time": {"mean": ' + "[" * 900 + "]" * 900 + "}}",
         r"mean of NPU_compute_time is \[\[.*expected"),
        ('{"a": ' + "[" * 100_000, "nested too deeply; expected summary.json"),
        ({"runtime": "acl", "device_throughput": 1, "batch_size": 0},
         "batch_size: expected int from 1 to .*, found 0;"),
        ({"runtime": "acl", "device_throughput": 1, "devices": [{"runtime": "acl"}]},
         r"devices\[0\]\.device_id: expect"),
        ({"runtime": "acl", "device_throughput": 1, "devices": {"a": 1}}, "devices: expected list, found {'a': 1};"),
        ({"runtime": ["acl"], "device_throughput": 1}, r"runtime: expected str, found \['acl'\];"),
        ("NPU_compute_time (ms): mean = 1\n", "no line with throughput; expected lines of ais_bench"),
        ("NPU_compute_time\nthroughput x: 3\n", "no line with NPU_compute_time"),
    ],
)  # fmt: skip
def test_invalid_performance_files(tmp_path, text, message):
    with pytest.raises(UserError, match=rf"perf\.txt: .*{message}") as error:
        read_figures(write(tmp_path, "perf.txt", text))
    assert "\n" not in str(error.value)


BLOCKS = {3: (0.5, 2000.0), 0: (0.8, 1250.0)}  # device: mean in ms, throughput at batch 1


def log_of_devices(order, newest, devices=BLOCKS):
    """Return the log of ais_bench --device 3,0, in which two processes print their lines in `order`.

    Args:
        newest: whether the lines have the format of the newest version, which repeats the mean in the throughput line.
    """
    lines = []
    for kind, device in order:
        mean, rate = devices[device]
        if kind == "times":
            lines.append(f"[INFO] NPU_compute_time (ms): min = 0.4, max = 0.9, mean = {mean}, median = {mean}")
        elif newest:
            lines.append(f"[INFO] throughput 1000*batchsize.mean(1)/NPU_compute_time.mean({mean}): {rate}")
        else:
            lines.append(f"[INFO] throughput (1000*batchsize/NPU_compute_time): {rate}")
    lines += [f"[INFO] i:{i} device_{device} throughput:{rate}                 start_time:1.5 end_time:2.5"
              for i, (device, (_, rate)) in enumerate(devices.items())]  # fmt: skip
    return "\rInference array Processing: 100%|███| 2/2\n".join([*lines, "[INFO] summary throughput:3250.0\n"])


SEPARATE = [("times", 3), ("rate", 3), ("times", 0), ("rate", 0)]
MIXED = [("times", 3), ("times", 0), ("rate", 0), ("rate", 3)]


@pytest.mark.parametrize(("order", "newest"), [(SEPARATE, True), (SEPARATE, False), (MIXED, True)])
def test_rows_of_two_devices_and_their_sum(tmp_path, order, newest):
    path = write(tmp_path, "log.txt", log_of_devices(order, newest))
    rows = read_all_figures(path)
    assert [(row.runtime, row.batch_size, row.device, row.latency_ms.get("mean"), row.chips) for row in rows] == [
        ("ais_bench, device 0", 1, 1250.0, 0.8, 1),
        ("ais_bench, device 3", 1, 2000.0, 0.5, 1),
        ("ais_bench, 2 devices", 1, 3250.0, None, 2),
    ]
    assert read_figures(path) == rows[-1]


def test_rows_of_a_log_that_ends_before_the_names_of_the_devices(tmp_path):
    text = log_of_devices(SEPARATE, True).partition("[INFO] i:0")[0]
    rows = read_all_figures(write(tmp_path, "log.txt", text))
    assert [(row.runtime, row.device) for row in rows] == [
        ("ais_bench, device 0", 2000.0), ("ais_bench, device 1", 1250.0), ("ais_bench, 2 devices", 3250.0),
    ]  # fmt: skip
    with pytest.raises(UserError, match="more lines with throughput than with NPU_compute_time"):
        read_all_figures(write(tmp_path, "log.txt", f"{text}[INFO] throughput x: 5\n"))


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt: cannot be read \(No such file"):
        read_figures(tmp_path / "none.txt")


def test_latency_figures_equal_sorted_values():
    values = np.random.default_rng(1).gamma(2, 3, 101)
    ordered = sorted(values)  # of 101 values, each percentile is an element of the list
    figures = latency_figures(values)
    assert figures == pytest.approx(
        {"mean": sum(values) / 101, "p50": ordered[50], "p90": ordered[90], "p99": ordered[99]}
    )
