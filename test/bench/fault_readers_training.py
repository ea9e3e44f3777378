"""Fuzz targets for configurations, checkpoints and their metadata, logs and locks."""

import json
import logging
import math
import random
import time
from dataclasses import asdict
from pathlib import Path

import fault_mutations as mutate
import payloads
import torch
from fault_mutations import VALUES, Target, file_target, sealed_target
from opengait_network import TheirGaitSet
from tiny_checkpoints import saved, saved_sets

from model.checkpoints.loading import load_encoder, load_optimizer
from model.common import lock
from model.config import DataConfig, ModelConfig
from model.network import GaitSet
from model.settings.config_file import build_config, load_config
from model.training.log_book import LogBook

INT8 = [torch.zeros(shape, dtype=torch.int8) for shape in ((2, 3), (62, 128, 2))]
TENSORS = [torch.tensor(1.0), torch.zeros(62), torch.full((2, 3), math.nan), *INT8]


def checkpoints(folder: Path) -> Target:
    """Damaged checkpoints give the same weights or an error. Old files have no checksums, so other weights may pass."""
    torch.manual_seed(0)
    state = GaitSet(2).state_dict()
    path, good = folder / "x-encoder.ptm", []
    for new in (True, False):
        torch.save(state, path, _use_new_zipfile_serialization=new)
        good.append(path.read_bytes())
    programs = list(payloads.programs().values())[::7]
    bad = [content for program in programs for _, content in payloads.checkpoints(program)]
    network = GaitSet(2)

    def read(draw: random.Random) -> None:
        data = good[0] if draw.random() < 0.6 else good[1]
        if draw.random() < 0.7:  # change both ends of the file, which contain its structure
            head, tail = (mutate.bytes_of(part, good, draw) for part in (data[:3000], data[-3000:]))
            data = head + data[3000:-3000] + tail
        else:
            data = mutate.bytes_of(draw.choice((data, draw.choice(bad))), good, draw)
        path.write_bytes(data)
        load_encoder(network, path)
        assert all(value.isfinite().all() for value in network.state_dict().values())
        same = all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
        assert same or not data.startswith(b"PK"), "different weights from a damaged checkpoint"

    return read


def opengait_checkpoints(folder: Path) -> Target:
    """OpenGait checkpoints with wrong keys, and with values of wrong types."""
    good = {"model": TheirGaitSet(2).state_dict(), "iteration": 5}
    keys = ("foreign", 5, "set_block9.0.conv.weight")

    def read(draw: random.Random) -> None:
        path = saved(folder / "g.pt", mutate.structure_of(good, draw, [*VALUES, *TENSORS], keys))
        load_encoder(GaitSet(2), path)

    return read


def optimizers(folder: Path) -> Target:
    def adam() -> torch.optim.Adam:
        return torch.optim.Adam([torch.zeros(shape, requires_grad=True) for shape in ((2, 3), (4,))])

    def step(optimizer: torch.optim.Adam) -> None:
        for weight in optimizer.param_groups[0]["params"]:
            weight.grad = torch.ones_like(weight)
        optimizer.step()

    one = adam()
    step(one)
    good = one.state_dict()

    def read(draw: random.Random) -> None:
        path = saved(folder / "o.ptm", mutate.structure_of(good, draw, [*VALUES, *TENSORS]))
        if draw.random() < 0.3:
            mutate.write(path, path.read_bytes(), draw)
        target = adam()
        load_optimizer(target, path)
        step(target)
        assert all(weight.isfinite().all() for weight in target.param_groups[0]["params"])

    return read


def checkpoint_records(folder: Path) -> Target:
    logging.getLogger("model.checkpoints").setLevel(logging.ERROR)
    files = saved_sets(folder, 1, 2, run="r", best=None)

    def read() -> None:
        assert files.last_complete() in (1, 2)
        files.complete_metadata(2)
        files.run_of(2)

    return sealed_target([files.metadata(2)], read)


def training_logs(folder: Path) -> Target:
    good = "".join(json.dumps({"iteration": i, "hard_loss_metric": 0.1}) + "\n" for i in range(1, 6))
    book = LogBook.__new__(LogBook)  # without TensorBoard
    book.path = folder / "train.jsonl"

    def read(draw: random.Random) -> None:
        mutate.write(book.path, good.encode(), draw)
        book._keep_until(3, draw.random() < 0.5)
        for line in book.path.read_text().splitlines():
            assert json.loads(line)["iteration"] <= 3

    return read


def lock_files(folder: Path) -> Target:
    good = {"host": "h", "pid": 5, "since": time.time(), "command": "train.py"}

    def read(path: Path) -> None:
        assert lock._describe(lock._read(path))
        with lock.locked(path, "o"):
            pass

    return file_target(folder / "lock", [good], read)


def configs(folder: Path) -> Target:
    parts = {"data": asdict(DataConfig(dataset_path="d")), "model": asdict(ModelConfig())}
    good = {"WORK_PATH": "work", "CUDA_VISIBLE_DEVICES": "0", **json.loads(json.dumps(parts))}

    def read(draw: random.Random) -> None:
        given = {"batch_size": (draw.choice((None, 4)), 2)} if draw.random() < 0.2 else {}
        config = build_config(mutate.structure_of(good, draw), folder, given)
        assert config.model.lr > 0 and math.isfinite(config.model.lr) and config.model.margin > 0
        assert config.checkpoint_folder.parent.parent in (config.work_path, *config.work_path.parents)
        assert "/" not in config.experiment and 0 < config.model.hidden_dim <= 65536

    return read


def config_files(folder: Path) -> Target:
    good = b"conf = {'WORK_PATH': './w', 'data': {'pid_num': 3}, 'model': {'lr': 1e-3, 'batch_size': (8, 16)}}\n"

    def read(draw: random.Random) -> None:
        text = mutate.bytes_of(good, [good], draw)
        if any(word in text for word in (b"(", b"import")) and not text.startswith(b"conf"):
            return  # the changes made a program of the dict, and running a program is not tested
        (folder / "c.py").write_bytes(text)
        load_config(folder / "c.py")

    return read
