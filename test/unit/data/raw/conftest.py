from pathlib import Path

import pytest
from raw_trees import make_tree, pretreat


@pytest.fixture
def raw(tmp_path) -> Path:
    """A tree of four sequences with six frames each."""
    return make_tree(tmp_path / "raw")


@pytest.fixture
def aligned(tmp_path) -> Path:
    return tmp_path / "new" / "aligned"


@pytest.fixture
def pretreated(raw, aligned) -> tuple[Path, Path]:
    """The folders of a run that has finished."""
    pretreat(raw, aligned)
    return raw, aligned
