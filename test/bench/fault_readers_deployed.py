"""Fuzz targets for lists, manifests, results and ONNX files."""

import math
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import fault_mutations as mutate
import numpy as np
import torch
from deployed_chain import COUNT, SHAPE, Chain
from fault_mutations import Target, file_target, make, sealed_target

from model.export.lint import lint_onnx
from model.export.manifest import Manifest, read_manifest
from model.export.onnx_export import export_onnx
from model.network import GaitSet
from model.runtime.bin_list import check_bins
from model.runtime.ort_runtime import OrtRuntime
from model.runtime.result_files import read_results
from model.runtime.result_record import read_record


def _chain(folder: Path) -> Chain:
    chain = Chain(folder / "chain")
    chain.run()
    return chain


def lists(folder: Path) -> Target:
    """A modified list names only input files of the chain's folder, or is rejected."""
    chain = _chain(folder)

    def read(path: Path) -> None:
        for file in check_bins(path, (3, 64, 44)):
            assert chain.folder in Path(os.path.normpath(file)).parents

    return file_target(chain.info, [chain.info.read_text()], read)


def manifests(folder: Path) -> Target:
    path = _chain(folder).folder / "bins.json"

    def read() -> Manifest:
        found = read_manifest(path)
        assert len(found.labels) == len(found.entries) == len(found.digests)
        return found

    return sealed_target([path], read)


def results(folder: Path) -> Target:
    """Result files that are missing, copied, exchanged or damaged, with and without their metadata file."""
    chain = _chain(folder)
    files = {path.name: path.read_bytes() for path in sorted(chain.results.iterdir())}
    values = np.frombuffer(files["0000_1.bin"], "<f4")
    wrong = [values.astype(kind).tobytes() for kind in ("<f2", "<f8", ">f4", "<i4", "<u1")]
    wrong += [np.append(values[:-1], np.float32(last)).tobytes() for last in (np.nan, np.inf, -np.inf, 1e38, 0)]
    names = ("0099_1.bin", "0000_0.bin", "x.bin", "filler_0000_1.bin", "notes.txt")
    record = chain.folder / "results_record.json"
    good = record.read_bytes()
    right, index = read_results(chain.results, read_manifest(chain.folder / "bins.json"), SHAPE)

    def read(draw: random.Random) -> None:
        shutil.rmtree(chain.results)
        name, content = draw.choice(list(files.items()))
        changed = files | {name: mutate.bytes_of(content, list(files.values()), draw)} if draw.random() < 0.2 else files
        make(chain.results, mutate.structure_of(changed, draw, [*wrong, *files.values()], names))
        by_hand = draw.random() < 0.3
        record.write_bytes(good if draw.random() < 0.9 else mutate.bytes_of(good, [good], draw))
        if by_hand:
            record.unlink()
        found, labels = read_results(chain.results, read_manifest(chain.folder / "bins.json"), SHAPE)
        assert labels.subject.tolist() == index.subject.tolist() and np.isfinite(found).all() and len(found) == COUNT
        assert by_hand or np.array_equal(found, right), "different results under these names"

    return read


def records(folder: Path) -> Target:
    chain = _chain(folder)
    return sealed_target([chain.folder / "results_record.json"], lambda: read_record(chain.results))


def _onnx(folder: Path, read: Callable[[Path], object]) -> Target:
    torch.manual_seed(0)
    export_onnx(GaitSet(2), folder / "good.onnx", 1, 2, runtime=OrtRuntime)
    return file_target(folder / "m.onnx", [(folder / "good.onnx").read_bytes()], read)


def onnx_files(folder: Path) -> Target:
    return _onnx(folder, lint_onnx)


def deployed_onnx_files(folder: Path) -> Target:
    def run(path: Path) -> None:
        runtime = OrtRuntime(path, threads=1)
        if math.prod(runtime.input_shape) < 1 << 20:
            runtime.run(np.zeros(runtime.input_shape, np.float32))

    return _onnx(folder, run)
