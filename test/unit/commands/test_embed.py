"""`python -m model.embed`: other programs read exactly the embeddings and labels of the network."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scripts import one_line_error, run_module
from small_disk import no_file_larger_than

from model.commands import embed
from model.common.errors import UserError
from model.data.index import SequenceIndex
from model.data.store import open_data
from model.embeddings.extract import embed_sequences
from model.embeddings.files import write_embeddings
from model.network import GaitSet
from model.network.pooling import strip_labels


@pytest.fixture(scope="module")
def made(aligned_tree, tmp_path_factory):
    """A small encoder, a config for it, and the command's options."""
    folder = tmp_path_factory.mktemp("embed")
    torch.manual_seed(3)
    torch.save(GaitSet(hidden_dim=8).state_dict(), folder / "e.ptm")
    (folder / "small.py").write_text("conf = {'data': {'pid_num': 3}, 'model': {'hidden_dim': 8}}")
    options = ["--config", str(folder / "small.py"), "--checkpoint", str(folder / "e.ptm"), "--device", "cpu"]
    return folder, [*options, "--data_path", str(aligned_tree), "--work_path", str(folder), "--dataset", "Synthetic"]


def expected(folder, aligned_tree):
    """One sequence after another, each alone."""
    network = GaitSet(hidden_dim=8)
    network.load_state_dict(torch.load(folder / "e.ptm", weights_only=True))
    store = open_data(aligned_tree, folder / "store", quiet=True)
    cpu = torch.device("cpu")
    rows = [
        embed_sequences(network.eval(), torch.from_numpy(store.sequence(i)), [int(n)], cpu)[0]
        for i, n in enumerate(store.index.frames)
    ]
    return store.index, torch.stack(rows).numpy()


def test_netcdf_opens_in_xarray_with_every_label(made, aligned_tree, capsys):
    import xarray

    folder, options = made
    embed.main([*options, "--output", str(folder / "all.nc"), "--batch_size", "7"])
    assert "wrote" in capsys.readouterr().out
    index, embeddings = expected(folder, aligned_tree)
    with xarray.open_dataset(folder / "all.nc") as file:
        assert file.embeddings.dims == ("sequence", "bin", "embedding")
        np.testing.assert_allclose(file.embeddings, embeddings, rtol=1e-4, atol=1e-5)
        for name in ("subject", "seq_type", "view", "frames"):
            np.testing.assert_array_equal(file[name], getattr(index, name))
        assert {"subject", "seq_type", "view", "branch", "strips", "strip"} <= set(file.embeddings.coords)
        facts = json.loads(file.attrs["details"])
        assert facts["checkpoint"] == str(folder / "e.ptm") and facts["part"] == "all"


def test_parquet_is_a_row_a_sequence(made, aligned_tree):
    import pyarrow.parquet

    folder, options = made
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


def test_part_chooses_subjects(made):
    import pyarrow.parquet

    folder, options = made
    for part, subjects in (("train", {"001", "002", "003"}), ("test", {"004"})):
        embed.main([*options, "--output", str(folder / f"{part}.parquet"), "--part", part, "--quiet"])
        assert set(pyarrow.parquet.read_table(folder / f"{part}.parquet")["subject"].to_pylist()) == subjects


class Thousand(torch.nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.full((len(maps), 128, 16, 11), 1000.0)


def test_bins_are_labelled_as_the_network_orders_them():
    """Where maps hold their row, and 1000 more in the global branch, the vector of a strip says whose it is."""
    network = GaitSet(hidden_dim=128)
    network.gl_layer4 = Thousand()
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


def test_a_job_that_fails_leaves_what_was_there(tmp_path):
    index = SequenceIndex.from_lengths(["a", "b"], ["nm-01"] * 2, ["000"] * 2, [3, 3])
    path = tmp_path / "e.nc"
    path.write_text("an earlier run's")

    def batches():
        yield np.array([0]), np.zeros((1, 62, 4), np.float32)
        raise UserError("the disk is gone")

    with pytest.raises(UserError, match="the disk is gone"):
        write_embeddings(path, index, batches(), {}, 4)
    assert path.read_text() == "an earlier run's" and [p.name for p in tmp_path.iterdir()] == ["e.nc"]


def test_unknown_suffix_and_missing_package(made, monkeypatch):
    _, options = made
    assert "the suffix must be one of .nc, .parquet" in one_line_error(
        run_module("model.embed", *options, "--output", "e.csv"), 2
    )
    assert "--output" in one_line_error(run_module("model.embed"), 2)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UserError, match="needs the package pyarrow"):
        embed.main([*options, "--output", "e.parquet"])


@pytest.mark.parametrize("suffix", [".nc", ".parquet"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_not_written(tmp_path, suffix, value):
    index = SequenceIndex.from_lengths(["a", "b"], ["nm-01"] * 2, ["000"] * 2, [3, 4])
    embeddings = np.zeros((2, 62, 4), np.float32)
    embeddings[1, 7, 2] = value
    with pytest.raises(UserError, match="the embedding of b/nm-01/000 contains values that are not finite"):
        write_embeddings(tmp_path / f"e{suffix}", index, [(np.arange(2), embeddings)], {}, 4)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".nc", ".parquet"])
def test_on_a_full_disk_what_was_there_stays(tmp_path, suffix):
    """HDF5 raises no error of the system's, and may find out only when the file is closed."""
    count = 200
    index = SequenceIndex.from_lengths([f"{i}" for i in range(count)], ["nm-01"] * count, ["000"] * count, [3] * count)
    path = tmp_path / f"e{suffix}"
    path.write_bytes(b"before")
    for size in (0, 3000, 20_000, 100_000):
        batches = [(np.arange(i, i + 50), np.ones((50, 62, 4), np.float32)) for i in range(0, count, 50)]
        with pytest.raises(UserError, match="cannot be written"), no_file_larger_than(size):
            write_embeddings(path, index, batches, {}, 4)
        assert path.read_bytes() == b"before" and [p.name for p in tmp_path.iterdir()] == [path.name]
