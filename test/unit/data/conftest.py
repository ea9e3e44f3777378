import pytest
from walkers import write_aligned_tree

from model.data.store import open_data


@pytest.fixture
def tree(tmp_path):
    return write_aligned_tree(tmp_path / "tree", subjects=2, seq_types=("nm-01", "bg-01"), frames=3)


@pytest.fixture
def store(tree, tmp_path):
    return open_data(tree, tmp_path / "stores")
