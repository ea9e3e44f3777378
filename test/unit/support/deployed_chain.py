"""Run the deployment chain on a few sequences: input files, results and accuracy."""

import json
from pathlib import Path

import numpy as np
from tiny_store import TinyStore

from model.evaluation.cross_view import evaluate_index
from model.export.input_files import FixedLength, write_input_files
from model.export.manifest import digest_of, manifest_path, read_manifest
from model.runtime.info_list import run_info_list
from model.runtime.result_files import read_results
from model.runtime.static_runtime import StaticRuntime
from model.runtime.task import Task

COUNT, SHAPE = 6, (62, 4)


class Store(TinyStore):
    """Random sequences of three subjects. Each subject has a gallery sequence and a probe sequence."""

    def __init__(self, seed=0):
        super().__init__([3] * COUNT)
        draw = np.random.default_rng(seed)
        self.sequences = [draw.integers(0, 256, (3, 64, 44), dtype=np.uint8) for _ in range(COUNT)]
        self.index = type(self.index).from_lengths(
            [f"00{i // 2 + 1}" for i in range(COUNT)], ["nm-01", "nm-05"] * 3, ["090"] * COUNT, [3] * COUNT
        )


class Model(StaticRuntime):
    """A runtime that computes a different embedding for every different input."""

    input_shape = (2, 3, 64, 44)

    def _run(self, image_seq):
        seeds = [int(digest_of(one.astype("<f4").tobytes())[:8], 16) for one in image_seq]
        return np.stack([np.random.default_rng(seed).standard_normal(SHAPE).astype("<f4") for seed in seeds])

    def facts(self):
        return {"runtime": "model", "version": "", "provider": "", "model": ""}


class Chain:
    """A folder with the files between --pre_process and --post_process. The input files are written at once."""

    def __init__(self, folder):
        self.folder = folder
        self.bins, self.info, self.results = folder / "bins", folder / "bins.info", folder / "results"
        self.write()

    def write(self, seed=0):
        write_input_files(Store(seed), None, self.bins, self.info, FixedLength(3), dataset="CASIA-B", quiet=True)

    def run(self):
        run_info_list(Model(), Task("onnxruntime", Path("model"), self.info, self.results, quiet=True))

    def table(self):
        embeddings, index = read_results(self.results, read_manifest(manifest_path(self.bins)), SHAPE)
        return json.dumps(evaluate_index(embeddings, index, "CASIA-B").to_json(), sort_keys=True), embeddings

    def bin(self, number):
        return self.bins / f"{number:04d}.bin"

    def result(self, number):
        return self.results / f"{number:04d}_1.bin"
