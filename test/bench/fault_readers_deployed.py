"""Fuzz targets for lists, manifests, results and ONNX files."""

import math
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fault_mutations as mutate
import numpy as np

Read = Callable[[random.Random], None]


def _chain(folder: Path) -> Any:
    from deployed_chain import Chain

    chain = Chain(folder / "chain")
    chain.run()
    return chain


def lists(folder: Path) -> Read:
    """A modified list gives the correct table or an error."""
    from model.runtime.bin_list import check_bins

    chain = _chain(folder)
    good = chain.info.read_text()

    def read(draw: random.Random) -> None:
        chain.info.write_text(mutate.lines_of(good, draw), errors="surrogatepass")
        for entry in check_bins(chain.info, (3, 64, 44)):
            assert chain.folder in Path(os.path.normpath(entry.path)).parents

    return read


def manifests(folder: Path) -> Read:
    from model.common.json_files import read_json, write_json
    from model.export.manifest import read_manifest

    chain = _chain(folder)
    path = chain.folder / "bins.json"
    whole, right = path.read_bytes(), read_manifest(path)
    content = read_json(path, sealed=True)

    def read(draw: random.Random) -> None:
        sealed = draw.random() < 0.5
        if sealed:  # with a valid checksum, only the structure can be checked
            write_json(path, mutate.json_of(content, draw), sealed=True)
        else:
            path.write_bytes(mutate.bytes_of(whole, [whole], draw))
        found = read_manifest(path)
        assert sealed or found == right, "different labels from a modified manifest"
        assert len(found.labels) == len(found.entries) == len(found.digests)

    return read


def results(folder: Path) -> Read:
    """Results that are missing, copied, exmodified or damaged, with and without their metadata."""
    from deployed_chain import COUNT, SHAPE

    from model.runtime.result_files import read_results

    chain = _chain(folder)
    names = sorted(path.name for path in chain.results.iterdir())
    whole = {name: (chain.results / name).read_bytes() for name in names}
    record_path = chain.folder / "results_record.json"
    record = record_path.read_bytes()
    right, index = read_results(chain.results, chain.folder / "bins.json", SHAPE)

    def read(draw: random.Random) -> None:
        shutil.rmtree(chain.results)
        chain.results.mkdir()
        for name, content in whole.items():
            (chain.results / name).write_bytes(content)
        for _ in range(draw.choice((1, 1, 2))):
            _disturb(chain.results, names, whole, draw)
        by_hand = draw.random() < 0.3
        record_path.write_bytes(record if draw.random() < 0.9 else mutate.bytes_of(record, [record], draw))
        if by_hand:
            record_path.unlink()
        found, labels = read_results(chain.results, chain.folder / "bins.json", SHAPE)
        assert labels.subject.tolist() == index.subject.tolist() and np.isfinite(found).all() and len(found) == COUNT
        assert by_hand or np.array_equal(found, right), "different results under these names"

    return read


def _disturb(place: Path, names: list[str], whole: dict[str, bytes], draw: random.Random) -> None:
    one, other = place / draw.choice(names), place / draw.choice(names)
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
        values = np.frombuffer(whole[one.name], "<f4").astype(draw.choice(("<f2", "<f8", ">f4", "<i4", "<u1")))
        one.write_bytes(values.tobytes())
    elif kind == 5:
        values = np.frombuffer(whole[one.name], "<f4").copy()
        values[draw.randrange(len(values))] = draw.choice((np.nan, np.inf, -np.inf, 1e38, 0))
        one.write_bytes(values.tobytes())
    elif kind == 6:
        (place / draw.choice(("0099_1.bin", "0000_0.bin", "x.bin", "filler_0000_1.bin", "notes.txt"))).write_bytes(b"x")
    elif kind == 7 and one.exists():
        one.rename(place / draw.choice(("0099_1.bin", other.name)))


def records(folder: Path) -> Read:
    from model.common.json_files import read_json, write_json
    from model.runtime.result_record import read_record

    chain = _chain(folder)
    path = chain.folder / "results_record.json"
    whole, content, right = path.read_bytes(), read_json(path, sealed=True), read_record(chain.results)

    def read(draw: random.Random) -> None:
        sealed = draw.random() < 0.5
        if sealed:
            write_json(path, mutate.json_of(content, draw), sealed=True)
        else:
            path.write_bytes(mutate.bytes_of(whole, [whole], draw))
        assert sealed or read_record(chain.results) == right
        read_record(chain.results)

    return read


def _onnx(folder: Path) -> bytes:
    import torch

    from model.export.onnx_export import export_onnx
    from model.network import GaitSet
    from model.runtime.ort_runtime import OrtRuntime

    torch.manual_seed(0)
    export_onnx(GaitSet(2), folder / "good.onnx", 1, 2, runtime=OrtRuntime)
    return (folder / "good.onnx").read_bytes()


def onnx_files(folder: Path) -> Read:
    from model.export.lint import lint_onnx

    whole = _onnx(folder)

    def read(draw: random.Random) -> None:
        (folder / "m.onnx").write_bytes(mutate.bytes_of(whole, [whole], draw))
        lint_onnx(folder / "m.onnx")

    return read


def deployed_onnx_files(folder: Path) -> Read:
    from model.runtime.ort_runtime import OrtRuntime

    whole = _onnx(folder)

    def read(draw: random.Random) -> None:
        (folder / "m.onnx").write_bytes(mutate.bytes_of(whole, [whole], draw))
        runtime = OrtRuntime(folder / "m.onnx", threads=1)
        if math.prod(runtime.input_shape) < 1 << 20:
            runtime.run(np.zeros(runtime.input_shape, np.float32))

    return read
