"""A small model for the tests of all runtimes, and functions that install the stand-ins for Ascend's tools."""

import importlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from standins.om_file import write_om
from tiny_store import TinyStore

from model.common.json_files import read_json
from model.export.input_files import FixedLength, write_input_files
from model.export.manifest import Manifest, manifest_path, read_manifest
from model.export.onnx_export import export_onnx
from model.network import GaitSet
from model.runtime.benchmark_tool import tool_name
from model.runtime.ort_runtime import OrtRuntime
from model.runtime.result_files import read_results

STANDINS = Path(__file__).resolve().parent / "standins"
FRAMES = 4
DIM = 8


class Deployed(NamedTuple):
    """A folder with five input files, and the models gaitset_submit and gaitset_submit_bs4 as om and ONNX files."""

    folder: Path
    store: TinyStore
    embeddings: np.ndarray  # computed by torch from the sequences, whose frames are repeated up to FRAMES frames

    @property
    def info(self) -> Path:
        return self.folder / "bins.info"

    @property
    def manifest(self) -> Manifest:
        return read_manifest(manifest_path(self.folder / "bins"))

    def om(self, batch_size: int) -> Path:
        return self.folder / ("gaitset_submit.om" if batch_size == 1 else f"gaitset_submit_bs{batch_size}.om")


def deploy(folder: Path) -> Deployed:
    torch.manual_seed(0)
    network = GaitSet(hidden_dim=DIM)
    store = TinyStore([3, 4, 1, 2, 4])
    result = Deployed(folder, store, embeddings_by_torch(network, store))
    for batch_size in (1, 4):
        onnx = result.om(batch_size).with_suffix(".onnx")
        export_onnx(network, onnx, batch_size, frame_num=FRAMES, runtime=OrtRuntime)
        make_om(onnx, result.om(batch_size), batch_size)
    write_input_files(store, None, folder / "bins", result.info, FixedLength(FRAMES), quiet=True)
    return result


def make_om(onnx: Path, om: Path, batch_size: int, frames: int = FRAMES, soc_version: str = "Ascend310") -> Path:
    write_om(om, onnx.read_bytes(), soc_version=soc_version, input_shape=[batch_size, frames, 64, 44])
    return om


def embeddings_by_torch(network: GaitSet, store: TinyStore) -> np.ndarray:
    """Compute the embedding of each sequence. The frames of a sequence are repeated up to FRAMES frames."""
    rows = []
    for sequence in store.sequences:
        repeated = np.concatenate([sequence] * FRAMES)[:FRAMES]
        with torch.inference_mode():
            rows.append(network(torch.from_numpy(repeated[None] / np.float32(255))).numpy())
    return np.concatenate(rows)


def assert_embeddings(found: np.ndarray, deployed: Deployed) -> None:
    scale = np.abs(deployed.embeddings).max()
    np.testing.assert_allclose(found, deployed.embeddings, rtol=0, atol=1e-5 * scale)


def assert_results(folder: Path, deployed: Deployed) -> None:
    """Check the embeddings in the result files of the list, and the labels that belong to them."""
    embeddings, labels = read_results(folder, deployed.manifest, (62, DIM))
    assert_embeddings(embeddings, deployed)
    assert labels.subject.tolist() == ["075", "075", "076", "076", "077"]


def executable(path: Path, content: str) -> Path:
    path.write_text(content)
    path.chmod(0o755)
    return path


def place_benchmark(folder: Path) -> Path:
    """Install the stand-in for benchmark in `folder`, with the name that the tool has on this machine."""
    return executable(folder / tool_name(), f'#!/bin/sh\nexec "{sys.executable}" "{STANDINS}/benchmark.x86_64" "$@"\n')


def replace_ais_bench_by_msit(monkeypatch, folder: Path) -> None:
    executable(folder / "msit", f'#!/bin/sh\nexec "{sys.executable}" "{STANDINS}/msit" "$@"\n')
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def bare_machine(monkeypatch, here: Path) -> None:
    """Simulate a machine without Ascend's tools, whose working directory is `here`."""
    for name in ("BENCHMARK_TOOL", "AIS_BENCH_PYTHON", "PYTHONPATH", "PYTHONSAFEPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(here)


def machine_with_all_tools(monkeypatch, here: Path) -> Path:
    """Simulate a machine with all of Ascend's tools, whose working directory `here` contains benchmark."""
    bare_machine(monkeypatch, here)
    place_benchmark(here)
    install_ais_bench(monkeypatch)
    install_acl(monkeypatch)
    return here


def install_ais_bench(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(STANDINS / "python"))


def install_acl(monkeypatch):
    """Add the module acl to the import path, as CANN's set_env.sh does. Return the module in its initial state."""
    monkeypatch.delitem(sys.modules, "acl", raising=False)
    monkeypatch.syspath_prepend(STANDINS / "python")
    module = importlib.import_module("acl")
    monkeypatch.setitem(sys.modules, "acl", module)
    return module


def run_command_line(monkeypatch, command, *arguments) -> dict[str, Any]:
    """Run the main function of a command in this process, and return the facts that it writes with --json."""
    facts = Path("facts.json").absolute()
    monkeypatch.setattr(sys, "argv", ["x", *map(str, arguments), "--json", str(facts)])
    command.main()
    return read_json(facts)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
