"""`python -m model.embed` writes files from which other programs read the same embeddings and labels."""

import json
import pickle

import numpy as np
import pytest
import torch
from scripts import one_line_error, run_module
from small_disk import no_file_larger_than

from model.commands import embed
from model.common.errors import UsageError, UserError
from model.data.index import SequenceIndex
from model.data.store import open_data
from model.embeddings.extract import embed_sequences
from model.embeddings.files import write_embeddings
from model.network import GaitSet
from model.network.pooling import strip_labels

CHANNELS = (4, 6, 10)


@pytest.fixture(scope="module")
def small(aligned_tree, tmp_path_factory):
    """The folder of a small encoder, whose sizes differ from the config, and the options of the command."""
    folder = tmp_path_factory.mktemp("embed")
    torch.manual_seed(3)
    torch.save(GaitSet(hidden_dim=8, channels=CHANNELS).state_dict(), folder / "e.ptm")
    (folder / "small.py").write_text("conf = {'data': {'pid_num': 3}}")
    options = ["--config", str(folder / "small.py"), "--checkpoint", str(folder / "e.ptm"), "--device", "cpu"]
    return folder, [*options, "--data_path", str(aligned_tree), "--work_path", str(folder), "--dataset", "Synthetic"]


def expected(folder, aligned_tree):
    """Return the index and the embeddings, computed one sequence at a time."""
    network = GaitSet(hidden_dim=8, channels=CHANNELS)
    network.load_state_dict(torch.load(folder / "e.ptm", weights_only=True))
    store = open_data(aligned_tree, folder / "store")
    cpu = torch.device("cpu")
    rows = [
        embed_sequences(network.eval(), torch.from_numpy(store.sequence(i)), [int(n)], cpu)[0]
        for i, n in enumerate(store.index.frames)
    ]
    return store.index, torch.stack(rows).numpy()


def test_netcdf_opens_in_xarray_with_all_labels(small, aligned_tree, capsys):
    import xarray

    folder, options = small
    embed.main([*options, "--output", str(folder / "all.nc"), "--batch_size", "7"])
    assert "wrote" in capsys.readouterr().out
    index, embeddings = expected(folder, aligned_tree)
    with xarray.open_dataset(folder / "all.nc") as file:
        assert file.embeddings.dims == ("sequence", "bin", "embedding")
        np.testing.assert_allclose(file.embeddings, embeddings, rtol=1e-4, atol=1e-5)
        for name in ("subject", "seq_type", "view", "frames"):
            np.testing.assert_array_equal(file[name], getattr(index, name))
        assert {"subject", "seq_type", "view", "branch", "strips", "strip"} <= set(file.embeddings.coords)
        details = json.loads(file.attrs["details"])
        assert details["checkpoint"] == str(folder / "e.ptm") and details["part"] == "all"


@pytest.mark.parametrize(("given", "disabled"), [(["--rt2"], [False]), ([], [])])
def test_rt2_disables_the_compilation_of_operators(small, monkeypatch, given, disabled):
    folder, options = small
    modes = []
    monkeypatch.setattr("model.devices.opening.set_compile_mode", lambda device, jit_compile: modes.append(jit_compile))
    embed.main([*options, *given, "--output", str(folder / "rt2.parquet"), "--quiet"])
    assert modes == disabled


def test_parquet_has_one_row_per_sequence(small, aligned_tree):
    import pyarrow.parquet

    folder, options = small
    embed.main([*options, "--output", str(folder / "all.parquet"), "--batch_size", "7", "--quiet"])
    index, embeddings = expected(folder, aligned_tree)
    table = pyarrow.parquet.read_table(folder / "all.parquet")
    assert table.column_names == ["subject", "seq_type", "view", "frames", "embedding"]
    for name in ("subject", "seq_type", "view", "frames"):
        assert table[name].to_pylist() == getattr(index, name).tolist()
    flat = np.array(table["embedding"].to_pylist(), np.float32)
    np.testing.assert_allclose(flat, embeddings.reshape(len(index), -1), rtol=1e-4, atol=1e-5)
    about = json.loads(table.schema.metadata[b"gaitset"])
    assert about["shape"] == [62, 8] and len(about["bins"]) == 62 and about["dataset"] == "Synthetic"


def test_part_selects_subjects(small):
    import pyarrow.parquet

    folder, options = small
    for part, subjects in (("train", {"001", "002", "003"}), ("test", {"004"})):
        embed.main([*options, "--output", str(folder / f"{part}.parquet"), "--part", part, "--quiet"])
        assert set(pyarrow.parquet.read_table(folder / f"{part}.parquet")["subject"].to_pylist()) == subjects


class ConstantMaps(torch.nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.full((len(maps), 128, 16, 11), 1000.0)


def test_strip_labels_follow_the_order_of_the_network():
    """Each pixel of a map has the number of its row as its value, and 1000 more in the global branch.

    Each vector of the embedding then identifies its strip.
    """
    network = GaitSet(hidden_dim=128)
    network.gl_layer4 = ConstantMaps()
    network.fc_bin[0].data = torch.eye(128).expand(62, 128, 128)
    rows = torch.arange(16.0)[:, None].expand(1, 128, 16, 11)
    small = [torch.zeros(1, 32, 32, 22), torch.zeros(1, 64, 16, 11)]
    with torch.no_grad():
        vectors = network.embed(*small, rows)[0, :, 0].tolist()
    labels = strip_labels()
    assert len(labels) == len(vectors) == 62
    for value, label in zip(vectors, labels, strict=True):
        height = 16 // label.strips
        top, bottom = label.strip * height, (label.strip + 1) * height - 1
        own = (top + bottom) / 2 + bottom  # mean + max
        assert value == pytest.approx(own + (2000 if label.branch == "global" else 0))


def test_data_type_without_mixed_precision_is_an_error(small):
    folder, options = small
    with pytest.raises(UsageError, match="--amp_dtype bf16 needs --amp torch, but this run uses float32"):
        embed.main([*options, "--amp_dtype", "bf16", "--output", str(folder / "bf16.parquet")])


def test_unknown_suffix_and_missing_package_are_errors(small, monkeypatch):
    _, options = small
    assert "the suffix must be one of .nc, .parquet" in one_line_error(
        run_module("model.embed", *options, "--output", "e.csv"), 2
    )
    assert "--output" in one_line_error(run_module("model.embed"), 2)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UserError, match="needs the package pyarrow"):
        embed.main([*options, "--output", "e.parquet"])


@pytest.mark.parametrize("suffix", [".nc", ".parquet"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_embeddings_are_an_error_that_keeps_the_existing_file(tmp_path, suffix, value):
    index = SequenceIndex.from_lengths(["a", "b"], ["nm-01"] * 2, ["000"] * 2, [3, 4])
    embeddings = np.zeros((2, 62, 4), np.float32)
    embeddings[1, 7, 2] = value
    path = tmp_path / f"e{suffix}"
    path.write_bytes(b"before")
    with pytest.raises(UserError, match="the embedding of b/nm-01/000 contains values that are not finite"):
        write_embeddings(path, index, [(np.arange(2), embeddings)], {}, 4)
    assert path.read_bytes() == b"before" and [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".nc", ".parquet"])
def test_full_disk_keeps_the_existing_file(tmp_path, suffix):
    """HDF5 raises no OSError, and may fail only when the file is closed."""
    count = 200
    index = SequenceIndex.from_lengths([f"{i}" for i in range(count)], ["nm-01"] * count, ["000"] * count, [3] * count)
    path = tmp_path / f"e{suffix}"
    path.write_bytes(b"before")
    for size in (0, 3000, 20_000, 100_000):
        batches = [(np.arange(i, i + 50), np.ones((50, 62, 4), np.float32)) for i in range(0, count, 50)]
        with pytest.raises(UserError, match="cannot be written"), no_file_larger_than(size):
            write_embeddings(path, index, batches, {}, 4)
        assert path.read_bytes() == b"before" and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_pickle_option_selects_one_of_several_pickles(small, tmp_path):
    import pyarrow.parquet

    _, options = small
    rng = np.random.default_rng(0)
    for view in ("000", "090"):
        path = tmp_path / "pickles" / "001" / "nm-01" / view
        path.mkdir(parents=True)
        for name, frames in (("masks", 3), ("sils", 4)):
            array = rng.choice(np.uint8([0, 1, 2, 255]), size=(frames, 128, 88))
            (path / f"{view}-{name}.pkl").write_bytes(pickle.dumps(array))
    options = [*options, "--data_path", str(tmp_path / "pickles"), "--output", str(tmp_path / "e.parquet"), "--quiet"]
    with pytest.raises(UserError, match=r"000-masks\.pkl, 000-sils\.pkl.*--pickle NAME"):
        embed.main(options)
    embed.main([*options, "--pickle", "sils"])
    assert pyarrow.parquet.read_table(tmp_path / "e.parquet")["frames"].to_pylist() == [4, 4]
