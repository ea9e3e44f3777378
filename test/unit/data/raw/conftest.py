from pathlib import Path

import pytest
from raw_trees import changed_tree, images, make_tree, pretreat


@pytest.fixture
def raw(tmp_path) -> Path:
    """A tree of four sequences with six frames each."""
    return make_tree(tmp_path / "raw")


@pytest.fixture
def aligned(tmp_path) -> Path:
    return tmp_path / "new" / "aligned"


@pytest.fixture
def pretreated(raw, aligned) -> tuple[Path, Path]:
    """The input and output folders of a finished run."""
    pretreat(raw, aligned)
    return raw, aligned


@pytest.fixture(scope="session")
def expected(tmp_path_factory) -> dict[str, bytes]:
    """The aligned frames of a `changed_tree` of masks of 0 and 255."""
    root = tmp_path_factory.mktemp("expected")
    pretreat(changed_tree(root / "raw", lambda mask: mask), root / "aligned")
    return images(root / "aligned")
