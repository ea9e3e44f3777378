"""Fuzz targets for configurations, checkpoints and their metadata, logs and locks."""

import copy
import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import fault_mutations as mutate

Read = Callable[[random.Random], None]


def checkpoints(folder: Path) -> Read:
    """A checkpoint with checksums gives the same weights or an error, an old one finite weights of correct shapes."""
    import torch
    from payloads import checkpoints as hostile
    from payloads import programs

    from model.checkpoints.loading import load_encoder
    from model.network import GaitSet

    torch.manual_seed(0)
    state = GaitSet(2).state_dict()
    good = []
    for new in (True, False):
        torch.save(state, folder / "good.ptm", _use_new_zipfile_serialization=new)
        good.append((folder / "good.ptm").read_bytes())
    bad = [content for program in list(programs().values())[::7] for _, content in hostile(program)]
    network = GaitSet(2)

    def read(draw: random.Random) -> None:
        new = draw.random() < 0.6
        data = good[0] if new else good[1]
        ends = draw.random() < 0.7  # the structure is at both ends of the file
        if ends:
            head, tail = data[:3000], data[-3000:]
            data = mutate.bytes_of(head, good, draw) + data[3000:-3000] + mutate.bytes_of(tail, good, draw)
        else:
            data = mutate.bytes_of(draw.choice((data, draw.choice(bad))), good, draw)
        (folder / "x-encoder.ptm").write_bytes(data)
        load_encoder(network, folder / "x-encoder.ptm")
        assert all(value.isfinite().all() for value in network.state_dict().values())
        same = all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
        assert same or not data.startswith(b"PK"), "different weights from a damaged checkpoint"

    return read


def opengait_checkpoints(folder: Path) -> Read:
    """Checkpoints with keys and values of other types."""
    import torch
    from opengait_network import TheirGaitSet

    from model.checkpoints.loading import load_encoder
    from model.network import GaitSet

    theirs = TheirGaitSet(2).state_dict()
    values = [None, 3, "x" * 62, torch.tensor(1.0), torch.zeros(62), torch.zeros(62, 128, 2, dtype=torch.int8), [], {}]

    def read(draw: random.Random) -> None:
        content: dict = {"model": dict(theirs), "iteration": 5}
        place = draw.choice((content, content["model"]))
        place[draw.choice([*place, "foreign", 5, "set_block9.0.conv.weight"])] = draw.choice(values)
        torch.save(content, folder / "g.pt")
        load_encoder(GaitSet(2), folder / "g.pt")

    return read


def optimizers(folder: Path) -> Read:
    import torch

    from model.checkpoints.loading import load_optimizer

    def adam() -> torch.optim.Adam:
        return torch.optim.Adam([torch.zeros(shape, requires_grad=True) for shape in ((2, 3), (4,))])

    one = adam()
    for weight in one.param_groups[0]["params"]:
        weight.grad = torch.ones_like(weight)
    one.step()
    values = [None, 3, "x", torch.zeros(1), torch.full((2, 3), math.nan), torch.zeros(2, 3, dtype=torch.int8), [], {}]

    def read(draw: random.Random) -> None:
        state = copy.deepcopy(one.state_dict())
        for _ in range(draw.choice((1, 2))):
            place = draw.choice((state, state["state"], state["state"].get(0, {}), state["param_groups"][0]))
            if isinstance(place, dict) and place:
                place[draw.choice([*place, "foreign"])] = draw.choice(values)
            if not all(isinstance(state.get(key), dict | list) and state[key] for key in ("state", "param_groups")):
                break
        torch.save(state, folder / "o.ptm")
        if draw.random() < 0.3:
            data = (folder / "o.ptm").read_bytes()
            (folder / "o.ptm").write_bytes(mutate.bytes_of(data, [data], draw))
        target = adam()
        load_optimizer(target, folder / "o.ptm")
        for weight in target.param_groups[0]["params"]:
            weight.grad = torch.ones_like(weight)
        target.step()
        assert all(weight.isfinite().all() for weight in target.param_groups[0]["params"])

    return read


def checkpoint_records(folder: Path) -> Read:
    import logging

    from model.checkpoints.checkpoint import CheckpointFiles
    from model.common.json_files import read_json, write_json

    logging.getLogger("model.checkpoints").setLevel(logging.ERROR)
    files = CheckpointFiles(folder, "x")
    for iteration in (1, 2):
        files.save(iteration, {part: {} for part in ("encoder", "optimizer", "state")}, {"run": "r", "best": None})
    path = files.metadata(2)
    whole, content = path.read_bytes(), read_json(path, sealed=True)

    def read(draw: random.Random) -> None:
        if draw.random() < 0.5:
            write_json(path, mutate.json_of(content, draw), sealed=True)
        else:
            path.write_bytes(mutate.bytes_of(whole, [whole], draw))
        assert files.last_complete() in (1, 2)
        files.complete_metadata(2)
        files.run_of(2)

    return read


def training_logs(folder: Path) -> Read:
    from model.training.log_book import LogBook

    good = "".join(json.dumps({"iteration": i, "hard_loss_metric": 0.1}) + "\n" for i in range(1, 6))

    class Quiet(LogBook):
        def __init__(self, path: Path):
            self.path = path

    def read(draw: random.Random) -> None:
        path = folder / "train.jsonl"
        path.write_bytes(mutate.bytes_of(good.encode(), [good.encode()], draw))
        Quiet(path)._keep_until(3, draw.random() < 0.5)
        for line in path.read_text().splitlines():
            assert json.loads(line)["iteration"] <= 3

    return read


def lock_files(folder: Path) -> Read:
    import time

    from model.common import lock

    good = {"host": "h", "pid": 5, "since": time.time(), "command": "train.py"}

    def read(draw: random.Random) -> None:
        (folder / "lock").write_text(mutate.json_text(mutate.json_of(good, draw), draw), errors="surrogatepass")
        assert lock._describe(lock._read(folder / "lock"))
        with lock.locked(folder / "lock", "o"):
            pass

    return read


def configs(folder: Path) -> Read:
    from model.config import build_config

    data = {"dataset_path": "d", "dataset": "CASIA-B", "pid_num": 73, "pid_shuffle": False, "resolution": "64"}
    settings = {
        "hidden_dim": 8, "lr": 1e-4, "margin": 0.2, "batch_size": [8, 16], "total_iter": 10, "seed": 0, "frame_num": 30,
        "loss_scale": "dynamic", "model_name": "GaitSet", "restore_iter": 0,
    }  # fmt: skip
    good = {"WORK_PATH": "work", "CUDA_VISIBLE_DEVICES": "0", "data": data, "model": settings}

    def read(draw: random.Random) -> None:
        given = {"batch_size": (draw.choice((None, 4)), 2)} if draw.random() < 0.2 else {}
        content = mutate.json_of(good, draw)
        if not isinstance(content, dict):
            return
        config = build_config(content, folder, given)
        assert config.model.lr > 0 and math.isfinite(config.model.lr) and config.model.margin > 0
        assert config.checkpoint_folder.parent.parent in (config.work_path, *config.work_path.parents)
        assert "/" not in config.experiment and 0 < config.model.hidden_dim <= 65536

    return read


def config_files(folder: Path) -> Read:
    from model.config import load_config

    good = "conf = {'WORK_PATH': './w', 'data': {'pid_num': 3}, 'model': {'lr': 1e-3, 'batch_size': (8, 16)}}\n"

    def read(draw: random.Random) -> None:
        text = mutate.bytes_of(good.encode(), [good.encode()], draw)
        if any(word in text for word in (b"(", b"import")) and not text.startswith(b"conf"):
            return  # this is a program, not a damaged dict
        (folder / "c.py").write_bytes(text)
        load_config(folder / "c.py")

    return read
