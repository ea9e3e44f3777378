import pytest

from model.identify import gallery as gallery_file


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Read and write few rows at a time, so that a small gallery has several blocks."""
    monkeypatch.setattr(gallery_file, "ROW_BLOCK", 3)
