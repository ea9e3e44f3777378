import numpy as np
import pytest

from model.common.errors import UserError
from model.export.manifest import Manifest
from model.runtime.result_files import read_results

SHAPE = (3, 4)
VALUES = np.random.default_rng(0).standard_normal((3, *SHAPE)).astype("<f4")


@pytest.fixture
def manifest(tmp_path):
    labels = {"seq_type": "nm-01", "view": "090"}
    entries = [
        {"index": i, "file": f"{i:04d}.bin", "subject": f"{75 + i}", "frames": i + 1, "digest": f"{i}", **labels}
        for i in range(3)
    ]
    return Manifest(tmp_path / "bins.json", (5, 64, 44), entries, {})


def write_results(folder, suffix="_1", values=VALUES):
    folder.mkdir(exist_ok=True)
    for i, value in enumerate(values):
        (folder / f"{i:04d}{suffix}.bin").write_bytes(value.tobytes())


@pytest.mark.parametrize("suffix", ["_0", "_1"])
def test_names_of_both_tools(tmp_path, manifest, suffix):
    write_results(tmp_path / "r", suffix)
    for other in ("filler_0000_1.bin", "perf_vision_batchsize_1_device_0.txt", "summary.json"):
        (tmp_path / "r" / other).write_text("ignored")
    embeddings, labels = read_results(tmp_path / "r", manifest, SHAPE)
    assert embeddings.dtype == np.float32
    assert (embeddings == VALUES).all()
    assert labels.subject.tolist() == ["75", "76", "77"]
    assert labels.seq_type.tolist() == ["nm-01"] * 3 and labels.view.tolist() == ["090"] * 3


def test_order_of_the_manifest(tmp_path, manifest):
    write_results(tmp_path / "r")
    for entry, i in zip(manifest.entries, (2, 0, 1), strict=True):
        entry["file"] = f"{i:04d}.bin"
    assert (read_results(tmp_path / "r", manifest, SHAPE)[0] == VALUES[[2, 0, 1]]).all()


def test_names_of_input_files_are_read_once(manifest):
    """The dict `digests` is computed once. It took 19 s for 1,760 sequences to compute it at every access."""
    assert manifest.digests == {"0000": "0", "0001": "1", "0002": "2"} and manifest.digests is manifest.digests


def test_no_results(tmp_path, manifest):
    with pytest.raises(UserError, match="no result folder"):
        read_results(tmp_path / "r", manifest, SHAPE)
    (tmp_path / "r").mkdir()
    with pytest.raises(UserError, match="no results of the 3 sequences"):
        read_results(tmp_path / "r", manifest, SHAPE)


@pytest.mark.parametrize(
    ("changed", "content", "message"),
    [
        (["0000_0.bin"], bytes(48), "two tools"),
        (["0001_1.bin"], None, r"1 files \(0001_1\.bin\) of 3 results are missing"),
        (["0003_1.bin"], bytes(48), r"1 files \(0003_1\.bin\) belong to no sequence of"),
        (["0000_2.bin"], bytes(48), r"1 files \(0000_2\.bin\) belong to no sequence of"),
        (["other.bin"], bytes(48), r"1 files \(other\.bin\) belong to no sequence of"),
        ([f"{i:04d}_1.bin" for i in range(3, 9)], bytes(48),
         r"6 files \(0003_1\.bin, 0004_1\.bin, 0005_1\.bin, …\) belong to no sequence of"),
        (["0002_1.bin"], bytes(47), r"0002_1\.bin\).*: 47 bytes, expected 48 bytes; run the deployed model again"),
        (["0002_1.bin"], bytes(24), r"0002_1\.bin\).*: 24 bytes, expected 48 bytes; convert the model with float32"),
        (["0001_1.bin"], np.full(SHAPE, np.nan, "<f4").tobytes(), r"0001_1\.bin.*values that are not finite"),
        (["0001_1.bin"], np.full(SHAPE, np.inf, "<f4").tobytes(), r"0001_1\.bin.*values that are not finite"),
    ],
)  # fmt: skip
def test_refused_results(tmp_path, manifest, changed, content, message):
    write_results(tmp_path / "r")
    for name in changed:
        (tmp_path / "r" / name).unlink() if content is None else (tmp_path / "r" / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_results(tmp_path / "r", manifest, SHAPE)


def write_npy(folder, values, suffix="_0"):
    """Write .npy files as ais_bench --outfmt NPY does, with a batch axis."""
    folder.mkdir(parents=True)
    for i, value in values.items():
        np.save(folder / f"{i:04d}{suffix}.npy", value[None])


def test_npy_results(tmp_path, manifest):
    write_npy(tmp_path / "r", dict(enumerate(VALUES)))
    assert (read_results(tmp_path / "r", manifest, SHAPE)[0] == VALUES).all()
    np.save(tmp_path / "r" / "0002_0.npy", VALUES[2].astype(">f4"))
    assert (read_results(tmp_path / "r", manifest, SHAPE)[0] == VALUES).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros(SHAPE, np.float16), r"0002_0\.npy\) .* wrong size: 24 bytes, expected 48 bytes; convert the model"),
        (np.zeros((3, 5), "<f4"), "wrong size: 60 bytes, expected 48 bytes"),
        (np.array(["a"]), r"0002_0\.npy: does not contain an array of numbers"),
        (b"no array", r"0002_0\.npy: not a valid \.npy file"),
    ],
)
def test_invalid_npy_results(tmp_path, manifest, content, message):
    write_npy(tmp_path / "r", dict(enumerate(np.ones((3, *SHAPE), "<f4"))))
    target = tmp_path / "r" / "0002_0.npy"
    target.write_bytes(content) if isinstance(content, bytes) else np.save(target, content)
    with pytest.raises(UserError, match=message):
        read_results(tmp_path / "r", manifest, SHAPE)


def test_text_results(tmp_path, manifest):
    """ais_bench --outfmt TXT writes numbers with six decimals, and one line per row of the last axis."""
    for i, value in enumerate(VALUES):
        np.savetxt(tmp_path / f"{i:04d}_0.txt", value, "%f", newline=" \n")
    (tmp_path / "perf_vision_batchsize_1_device_0.txt").write_text("[e2e] throughputRate: 1")
    found = read_results(tmp_path, manifest, SHAPE)[0]
    np.testing.assert_allclose(found, VALUES, rtol=0, atol=5.1e-7)
    for text, message in (("1.5 x", r"0002_0\.txt: does not only contain numbers"), ("1 2 3", "wrong size: 12 bytes")):
        (tmp_path / "0002_0.txt").write_text(text)
        with pytest.raises(UserError, match=message):
            read_results(tmp_path, manifest, SHAPE)


def test_newest_output_folder_of_ais_bench(tmp_path, manifest):
    write_results(tmp_path / "2025_01_02-23_59_59", "_0", VALUES[:2])
    (tmp_path / "2026_01_02-00_00_00").mkdir()  # a run that failed
    (tmp_path / "2026_01_01-00_00_00_summary.json").touch()
    write_results(tmp_path / "2026_01_01-00_00_00", "_0")
    assert (read_results(tmp_path, manifest, SHAPE)[0] == VALUES).all()
    write_results(tmp_path, "_1", -VALUES)
    assert (read_results(tmp_path, manifest, SHAPE)[0] == -VALUES).all()  # results in the folder itself come first
    (tmp_path / "2026_01_01-00_00_00" / "0001_0.bin").unlink()
    (tmp_path / "0001_1.bin").unlink()
    with pytest.raises(UserError, match=r"0001_1\.bin\) of 3 results are missing"):
        read_results(tmp_path, manifest, SHAPE)


@pytest.mark.parametrize("folder", ["r", "r/2026_01_01-00_00_00"])
@pytest.mark.parametrize("names", [("device0_0", "device3_1"), ("device0", "device3")])  # new and old versions
def test_results_of_several_devices(tmp_path, manifest, folder, names):
    write_npy(tmp_path / folder / names[0], {0: VALUES[0], 2: VALUES[2]})
    write_npy(tmp_path / folder / names[1], {1: VALUES[1]})
    assert (read_results(tmp_path / "r", manifest, SHAPE)[0] == VALUES).all()
