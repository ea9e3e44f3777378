import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from walkers import write_aligned_tree

import model  # noqa: F401  sets the variable that disables ONNX Runtime's telemetry, before fixtures save the environment

REAL_DATA = "casia-a-10"  # ten subjects of CASIA Gait Dataset A, for research use: never part of this repository


@pytest.fixture(autouse=True)
def environment_of_the_test() -> Iterator[None]:
    """Restore the environment after each test, because commands in this process set the visible devices in it."""
    with patch.dict(os.environ):
        yield


@pytest.fixture(scope="module", autouse=True)
def environment_of_the_module() -> Iterator[None]:
    """Restore the environment after each module, because module fixtures also run commands, before the first test."""
    with patch.dict(os.environ):
        yield


@pytest.fixture(scope="session", autouse=True)
def separate_output_folder(tmp_path_factory):
    """Give each test process its own folder for the output of drivers, see `scripts.summary_of`."""
    os.environ["GAITSET_OUTPUT"] = str(tmp_path_factory.mktemp("output"))


@pytest.fixture(scope="session")
def npu_library(request, tmp_path_factory) -> Path:
    """The compiled library of the NPU stand-in. Pytest's cache, if enabled, keeps the library for later runs."""
    from standins.npu_machine import npusim_library

    if not sys.platform.startswith("linux"):
        pytest.skip("the NPU stand-in supports only Linux")
    cache = getattr(request.config, "cache", None)
    try:
        return npusim_library(cache.mkdir("npusim") if cache else tmp_path_factory.mktemp("npusim"))
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real silhouettes: GAITSET_REAL_DATA itself, or `casia-a-10` inside it."""
    given = os.environ.get("GAITSET_REAL_DATA")
    if not given:
        pytest.skip(f"GAITSET_REAL_DATA is not set to the folder {REAL_DATA} or its parent folder")
    for folder in (Path(given) / REAL_DATA, Path(given)):
        if (folder / "fyc" / "nm-01").is_dir():
            return folder
    pytest.skip(f"GAITSET_REAL_DATA={given} does not contain {REAL_DATA}/fyc/nm-01")


@pytest.fixture(scope="session")
def aligned_tree(tmp_path_factory) -> Path:
    """A small aligned tree, which tests only read: 4 subjects, the ten takes of CASIA-B, two views."""
    return write_aligned_tree(tmp_path_factory.mktemp("aligned") / "walkers")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory) -> Path:
    """An encoder with random weights and few channels."""
    import torch

    from model.network import GaitSet

    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("encoder") / "some-encoder.ptm"
    torch.save(GaitSet(channels=(8, 16, 32)).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def deployed(tmp_path_factory):
    """A tiny model as ONNX and as om of the stand-ins, for batch 1 and 4, and input files. Tests only read them."""
    from ascend import deploy  # a local import, because it imports torch, which not every test needs

    return deploy(tmp_path_factory.mktemp("deployed"))
