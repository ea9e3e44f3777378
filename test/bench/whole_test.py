"""Measure the seconds of a complete cross-view test with `test.py`, and the frames per second of embedding alone.

  python test/bench/whole_test.py --device cuda                      133,780 sequences of 70 frames, the size of
                                                                     OU-MVLP's test set (needs 27 GB in --folder)
  python test/bench/whole_test.py --device cpu --subjects 3 --frames 5 --sequences 60          a short run

Sequences have different lengths. The time of embedding alone is the median of --rounds runs and includes reading the
frames from the page cache. The time of the command is measured from start to exit. The last line is JSON.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from made_store import make_store
from measuring import median_seconds, parser_of, report, run_python

from model.config import Config, ModelConfig
from model.data.index import SequenceIndex
from model.data.store import SilhouetteStore, open_store
from model.devices.device import describe, synchronize
from model.devices.opening import open_device
from model.embeddings.extract import extract
from model.initialization import load_network
from model.network import GaitSet


def embedding_rate(store: SilhouetteStore, checkpoint: Path, options: argparse.Namespace) -> dict:
    """Return frames per second of `extract` over the first sequences of the store."""
    device = open_device(options.device)
    config = Config(model=ModelConfig(amp=options.amp, kernels=options.kernels))
    network = load_network(config, checkpoint, None, device).network
    count = int(np.searchsorted(np.cumsum(store.index.frames), options.embed_frames)) + 1
    index: SequenceIndex = store.index.take(np.arange(min(count, len(store.index))))
    part = SilhouetteStore(store.path, index, store.frames)
    frames = int(index.frames.sum())

    def embed() -> None:
        extract(network, part, device)
        synchronize(device)

    embed()  # in the first call, libraries choose their kernels
    (median,) = median_seconds([embed], options.rounds)
    rates = {"frames_per_second": round(frames / median), "sequences_per_second": round(len(index) / median, 1)}
    return {"device": describe(device), "frames": frames, **rates}


def main() -> None:
    parser = parser_of(__doc__, device="auto", subjects=5154, sequences=133_780, frames=70, rounds=3)
    parser.add_argument("--amp", default="torch", choices=("off", "torch"))
    parser.add_argument("--kernels", default="auto", choices=("auto", "plain"))
    parser.add_argument("--dataset", default="OUMVLP", choices=("OUMVLP", "CASIA-B"))
    parser.add_argument("--embed_frames", type=int, default=2_000_000, help="number of frames for embedding alone")
    parser.add_argument("--folder", type=Path, help="folder of the store, which is kept (default: a temporary folder)")
    parser.add_argument("--checkpoint", type=Path, help="encoder (default: random weights)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gaitset-bench-") as temporary:
        folder = options.folder or Path(temporary)
        start = time.perf_counter()
        if not (folder / "store").exists():
            make_store(folder / "store", options.dataset, options.subjects, options.frames, options.sequences)
        seconds_for_data = time.perf_counter() - start
        checkpoint = options.checkpoint or folder / "random-encoder.ptm"
        if options.checkpoint is None:
            torch.manual_seed(0)
            torch.save(GaitSet().state_dict(), checkpoint)
        store = open_store(folder / "store")
        embedding = embedding_rate(store, checkpoint, options)
        start = time.perf_counter()
        run_python(
            "test.py", "--device", options.device, "--data_path", folder / "store", "--dataset",
            options.dataset, "--partition", "all", "--checkpoint", checkpoint, "--amp", options.amp, "--kernels",
            options.kernels, "--work_path", folder / "work", "--quiet",
        )  # fmt: skip
        elapsed = time.perf_counter() - start
    report(
        "a whole cross-view test, and embedding alone",
        dataset=options.dataset, sequences=len(store.index), frames=int(store.index.frames.sum()), amp=options.amp,
        kernels=options.kernels, seconds_to_make_the_data=round(seconds_for_data, 1),
        seconds_of_the_command=round(elapsed, 1), embedding=embedding,
    )  # fmt: skip


if __name__ == "__main__":
    main()
