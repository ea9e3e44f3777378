import numpy as np
import pytest

from model.errors import UserError
from model.export.manifest import Manifest
from model.runtime.result_files import performance_path, read_performance, read_results, write_performance

SHAPE = (3, 4)


@pytest.fixture
def manifest(tmp_path):
    labels = {"seq_type": "nm-01", "view": "090"}
    entries = [
        {"index": i, "file": f"{i:04d}.bin", "subject": f"{75 + i}", "frames": i + 1, **labels} for i in range(3)
    ]
    return Manifest(tmp_path / "bins.json", (5, 64, 44), entries, {})


def write_results(folder, suffix="_1", count=3, shape=SHAPE):
    folder.mkdir(exist_ok=True)
    values = np.random.default_rng(0).standard_normal((count, *shape)).astype("<f4")
    for i in range(count):
        (folder / f"{i:04d}{suffix}.bin").write_bytes(values[i].tobytes())
    return values


@pytest.mark.parametrize("suffix", ["_0", "_1"])
def test_both_tools_names(tmp_path, manifest, suffix):
    values = write_results(tmp_path / "r", suffix)
    for other in ("filler_0000_1.bin", "perf_vision_batchsize_1_device_0.txt", "summary.json"):
        (tmp_path / "r" / other).write_text("ignored")
    embeddings, labels = read_results(tmp_path / "r", manifest, SHAPE)
    assert embeddings.dtype == np.float32
    assert (embeddings == values).all()
    assert labels.subject.tolist() == ["75", "76", "77"]
    assert labels.seq_type.tolist() == ["nm-01"] * 3 and labels.view.tolist() == ["090"] * 3


def test_manifest_order_counts_not_the_folder_s(tmp_path, manifest):
    values = write_results(tmp_path / "r")
    for entry, i in zip(manifest.entries, (2, 0, 1), strict=True):
        entry["file"] = f"{i:04d}.bin"
    assert (read_results(tmp_path / "r", manifest, SHAPE)[0] == values[[2, 0, 1]]).all()


def test_default_shape_is_the_network_s(tmp_path, manifest):
    values = write_results(tmp_path / "r", shape=(62, 256))
    assert (read_results(tmp_path / "r", manifest)[0] == values).all()


def test_results_of_two_tools(tmp_path, manifest):
    write_results(tmp_path / "r", "_0")
    write_results(tmp_path / "r", "_1", count=1)
    with pytest.raises(UserError, match="two tools"):
        read_results(tmp_path / "r", manifest, SHAPE)


def test_missing(tmp_path, manifest):
    write_results(tmp_path / "r")
    (tmp_path / "r" / "0001_1.bin").unlink()
    with pytest.raises(UserError, match=r"1 files \(0001_1\.bin\) of 3 results are missing"):
        read_results(tmp_path / "r", manifest, SHAPE)


def test_none_at_all(tmp_path, manifest):
    with pytest.raises(UserError, match="no folder of results"):
        read_results(tmp_path / "r", manifest, SHAPE)
    (tmp_path / "r").mkdir()
    with pytest.raises(UserError, match="no result of the 3 sequences"):
        read_results(tmp_path / "r", manifest, SHAPE)


@pytest.mark.parametrize("name", ["0003_1.bin", "0000_2.bin", "other.bin"])
def test_surplus(tmp_path, manifest, name):
    write_results(tmp_path / "r")
    (tmp_path / "r" / name).write_bytes(bytes(48))
    with pytest.raises(UserError, match=rf"1 files \({name}\) belong to nothing"):
        read_results(tmp_path / "r", manifest, SHAPE)


def test_many_surplus_files_are_counted(tmp_path, manifest):
    write_results(tmp_path / "r", count=9)
    with pytest.raises(UserError, match=r"6 files \(0003_1\.bin, 0004_1\.bin, 0005_1\.bin, …\)"):
        read_results(tmp_path / "r", manifest, SHAPE)


@pytest.mark.parametrize(("size", "words"), [(47, "run the model|run the deployed"), (24, "float32 output")])
def test_wrong_size(tmp_path, manifest, size, words):
    write_results(tmp_path / "r")
    (tmp_path / "r" / "0002_1.bin").write_bytes(bytes(size))
    with pytest.raises(UserError, match=rf"0002_1\.bin\).*{size} bytes instead of 48; .*({words})"):
        read_results(tmp_path / "r", manifest, SHAPE)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers(tmp_path, manifest, value):
    write_results(tmp_path / "r")
    (tmp_path / "r" / "0001_1.bin").write_bytes(np.full(SHAPE, value, "<f4").tobytes())
    with pytest.raises(UserError, match=r"0001_1\.bin.*no finite numbers"):
        read_results(tmp_path / "r", manifest, SHAPE)


PERFORMANCE = {
    "e2e": {"throughput": 336.39, "latency_ms": 148637.0},
    "data read": {"throughput": 357.787, "module_latency_ms": 2.79496},
    "preprocess": {"throughput": 357.147, "module_latency_ms": 2.79997},
    "infer": {"throughput": 338.442, "interface_throughput": 787.709, "module_latency_ms": 2.21785},
    "post": {"throughput": 338.44, "module_latency_ms": 2.95473},
}
TOOL_TEXT = """[e2e] throughputRate: 336.39, latency: 148637
[data read] throughputRate: 357.787, moduleLatency: 2.79496
[preprocess] throughputRate: 357.147, moduleLatency: 2.79997
[infer] throughputRate: 338.442, Interface throughputRate: 787.709, moduleLatency: 2.21785
[post] throughputRate: 338.44, moduleLatency: 2.95473
"""


def test_performance_file_is_the_tool_s_to_the_byte(tmp_path):
    path = write_performance(tmp_path, 16, 3, PERFORMANCE)
    assert path == performance_path(tmp_path, 16, 3) == tmp_path / "perf_vision_batchsize_16_device_3.txt"
    assert path.read_bytes() == TOOL_TEXT.encode()
    assert read_performance(path) == PERFORMANCE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[inference] throughputRate: 1.45105e+06samples/s, moduleLatency: 0.7 ms\r\n[postprocess] throughputRate: 2",
         {"infer": {"throughput": 1.45105e06, "module_latency_ms": 0.7}, "post": {"throughput": 2.0}}),
        ("---PureInfer Performance Summary---\n[INFO] ave_throughputRate: 38.4344samples/s, ave_latency: 26.1589ms",
         {"pure": {"throughput": 38.4344, "latency_ms": 26.1589}}),
        ("ave_throughputRate = 5.20623samples/s, ave_latency = 192.894ms",
         {"pure": {"throughput": 5.20623, "latency_ms": 192.894}}),
    ],
)  # fmt: skip
def test_variants_of_the_performance_file(tmp_path, text, expected):
    (tmp_path / "perf.txt").write_text(text, newline="")
    assert read_performance(tmp_path / "perf.txt") == expected


def test_no_performance(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_performance(tmp_path / "perf.txt")
    (tmp_path / "perf.txt").write_text("[INFO] nothing went well\n")
    with pytest.raises(UserError, match="no throughput in it"):
        read_performance(tmp_path / "perf.txt")
