from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from walkers import write_aligned_tree

REAL_DATA = "casia-a-10"  # ten subjects of CASIA Gait Dataset A, for research use: never part of this repository


@pytest.fixture(autouse=True)
def environment_as_before():
    """Commands run within a test say in the environment which devices are to be seen; the next test sees all."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session", autouse=True)
def drivers_leave_their_summaries_elsewhere(tmp_path_factory):
    """Each process of tests reads only what its own drivers wrote; see `scripts.summary_of`."""
    os.environ["GAITSET_OUTPUT"] = str(tmp_path_factory.mktemp("output"))


@pytest.fixture(scope="session")
def npu_library(request) -> Path:
    """The compiled part of the stand-in for NPUs, compiled once for all processes of tests and all their runs."""
    from standins.npu_machine import npusim_library

    if not sys.platform.startswith("linux"):
        pytest.skip("the stand-in for an NPU is compiled as it is on Linux")
    try:
        return npusim_library(Path(request.config.cache.mkdir("npusim")))
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real silhouettes: GAITSET_REAL_DATA itself, or `casia-a-10` inside it."""
    given = os.environ.get("GAITSET_REAL_DATA")
    if not given:
        pytest.skip(f"GAITSET_REAL_DATA is not set: it names the folder {REAL_DATA}, or one that holds it")
    for folder in (Path(given) / REAL_DATA, Path(given)):
        if (folder / "fyc" / "nm-01").is_dir():
            return folder
    pytest.skip(f"GAITSET_REAL_DATA={given} does not hold {REAL_DATA}/fyc/nm-01")


@pytest.fixture(scope="session")
def aligned_tree(tmp_path_factory) -> Path:
    """A small aligned tree that tests only read: 4 subjects, CASIA-B's ten takes, two views."""
    return write_aligned_tree(tmp_path_factory.mktemp("aligned") / "walkers")


@pytest.fixture(scope="session")
def deployed(tmp_path_factory):
    """A tiny model as om (of the stand-ins) and ONNX for batch 1 and 4, and bins, which tests only read."""
    from ascend import deploy  # imports torch, which not every test wants

    return deploy(tmp_path_factory.mktemp("deployed"))
