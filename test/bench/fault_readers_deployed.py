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

from model.export.lint import lint_onnx
from model.export.manifest import read_manifest
from model.export.onnx_export import export_onnx
from model.network import GaitSet
from model.runtime.bin_list import check_bins
from model.runtime.ort_runtime import OrtRuntime
from model.runtime.result_files import read_results
from model.runtime.result_record import read_record

Read = Callable[[random.Random], None]
NO_RESULTS = ("0099_1.bin", "0000_0.bin", "x.bin", "filler_0000_1.bin", "notes.txt")


def _chain(folder: Path) -> Chain:
    chain = Chain(folder / "chain")
    chain.run()
    return chain


def lists(folder: Path) -> Read:
    """A modified list gives the correct table or an error."""
    chain = _chain(folder)
    good = chain.info.read_text()

    def read(draw: random.Random) -> None:
        mutate.write_lines(chain.info, good, draw)
        for file in check_bins(chain.info, (3, 64, 44)):
            assert chain.folder in Path(os.path.normpath(file)).parents

    return read


def manifests(folder: Path) -> Read:
    file = mutate.SealedFile(_chain(folder).folder / "bins.json")
    right = read_manifest(file.path)

    def read(draw: random.Random) -> None:
        sealed = file.write(draw)
        found = read_manifest(file.path)
        assert sealed or found == right, "different labels from a modified manifest"
        assert len(found.labels) == len(found.entries) == len(found.digests)

    return read


def results(folder: Path) -> Read:
    """Results that are missing, copied, exchanged or damaged, with and without their metadata."""
    chain = _chain(folder)
    whole = {path.name: path.read_bytes() for path in sorted(chain.results.iterdir())}
    record = chain.folder / "results_record.json"
    good = record.read_bytes()
    right, index = read_results(chain.results, chain.folder / "bins.json", SHAPE)

    def read(draw: random.Random) -> None:
        shutil.rmtree(chain.results)
        chain.results.mkdir()
        for name, content in whole.items():
            (chain.results / name).write_bytes(content)
        for _ in range(draw.choice((1, 1, 2))):
            _disturb(chain.results, whole, draw)
        by_hand = draw.random() < 0.3
        record.write_bytes(good if draw.random() < 0.9 else mutate.bytes_of(good, [good], draw))
        if by_hand:
            record.unlink()
        found, labels = read_results(chain.results, chain.folder / "bins.json", SHAPE)
        assert labels.subject.tolist() == index.subject.tolist() and np.isfinite(found).all() and len(found) == COUNT
        assert by_hand or np.array_equal(found, right), "different results under these names"

    return read


def _disturb(place: Path, whole: dict[str, bytes], draw: random.Random) -> None:
    one, other = place / draw.choice(list(whole)), place / draw.choice(list(whole))
    values = np.frombuffer(whole[one.name], "<f4").copy()
    kind = draw.randrange(8)
    if kind == 0:
        one.unlink(missing_ok=True)
    elif kind == 1 and one.exists() and other.exists():
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
    elif kind == 2:
        one.write_bytes(whole[other.name])
    elif kind == 3:
        one.write_bytes(mutate.bytes_of(whole[one.name], list(whole.values()), draw))
    elif kind == 4:
        one.write_bytes(values.astype(draw.choice(("<f2", "<f8", ">f4", "<i4", "<u1"))).tobytes())
    elif kind == 5:
        values[draw.randrange(len(values))] = draw.choice((np.nan, np.inf, -np.inf, 1e38, 0))
        one.write_bytes(values.tobytes())
    elif kind == 6:
        (place / draw.choice(NO_RESULTS)).write_bytes(b"x")
    elif kind == 7 and one.exists():
        one.rename(place / draw.choice(("0099_1.bin", other.name)))


def records(folder: Path) -> Read:
    chain = _chain(folder)
    file, right = mutate.SealedFile(chain.folder / "results_record.json"), read_record(chain.results)

    def read(draw: random.Random) -> None:
        sealed = file.write(draw)
        found = read_record(chain.results)
        assert sealed or found == right

    return read


def _onnx(folder: Path, read_file: Callable[[Path], None]) -> Read:
    torch.manual_seed(0)
    export_onnx(GaitSet(2), folder / "good.onnx", 1, 2, runtime=OrtRuntime)
    whole = (folder / "good.onnx").read_bytes()

    def read(draw: random.Random) -> None:
        mutate.write_bytes(folder / "m.onnx", whole, draw)
        read_file(folder / "m.onnx")

    return read


def onnx_files(folder: Path) -> Read:
    return _onnx(folder, lint_onnx)


def deployed_onnx_files(folder: Path) -> Read:
    def run(path: Path) -> None:
        runtime = OrtRuntime(path, threads=1)
        if math.prod(runtime.input_shape) < 1 << 20:
            runtime.run(np.zeros(runtime.input_shape, np.float32))

    return _onnx(folder, run)
