"""Run short trainings, change their behaviour, and compare their checkpoints."""

import itertools
import json
import os

import small_network
import torch
from forking import python_command
from scripts import ROOT, load_script, run_quietly

from model.checkpoints.checkpoint import CheckpointFiles
from model.checkpoints.loading import load_tensors
from model.network import GaitSet
from model.training.trainer import Trainer

TOTAL = 8


def arguments(tree, work, *more) -> list[str]:
    settings = {
        "--config": small_network.__file__, "--device": "cpu", "--dataset": "Synthetic", "--data_path": tree,
        "--pid_num": 3, "--work_path": work,
        "--batch_size_p": 2, "--batch_size_m": 2, "--frame_num": 2, "--iters": TOTAL, "--save_iter": 3, "--log_iter": 2,
    }  # fmt: skip
    return [str(part) for pair in settings.items() for part in pair] + [str(part) for part in more]


def train(tree, work, *more) -> int:
    return load_script("train").main(arguments(tree, work, *more))


def run_test(tree, work, *more) -> int:
    options = ["--device", "cpu", "--dataset", "Synthetic", "--data_path", tree, "--work_path", work, *more]
    return load_script("test").main([str(option) for option in options])


def files_of(work) -> CheckpointFiles:
    return CheckpointFiles(work / "checkpoint" / "GaitSet", "GaitSet_Synthetic_3_False_8_0.2_4_full_2")


def log_points(work) -> list[dict]:
    """Return the lines of train.jsonl, which contain log points and scores."""
    return [json.loads(line) for line in next(work.glob("log/*/train.jsonl")).open()]


def weights(work, iteration=TOTAL) -> dict[str, torch.Tensor]:
    return load_tensors(files_of(work).part(iteration, "encoder"))


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


FP16 = ("--amp", "torch", "--amp_dtype", "fp16")


def quick_network(overflow):
    """Return a fast `forward` for GaitSet without convolutions, because fp16 convolutions are slow on a CPU.

    The embeddings depend on the brightness of the sequences and on one number of each weight.

    Args:
        overflow: iterations with infinite gradients. The first iteration is 1.
    """
    calls = itertools.count(1)

    def forward(self, sils, ends=None):
        sequences = sils if ends is None else [sils[a:b] for a, b in itertools.pairwise(ends)]
        brightness = torch.stack([sequence.float().mean() for sequence in sequences])
        # The sine makes the brightness useless for identification. Otherwise, the loss would become 0.
        brightness = brightness.mul(100).sin().to(self.fc_bin[0].dtype)
        weight = torch.stack([parameter.flatten()[0] + 1 for parameter in self.parameters()])
        embeddings = brightness[:, None, None] * weight.expand(62, -1)
        if next(calls) in overflow:
            embeddings.register_hook(lambda gradient: gradient * torch.inf)
        return embeddings

    return forward


def overflow_at(monkeypatch, iterations) -> None:
    monkeypatch.setattr(GaitSet, "forward", quick_network(iterations))


def stop_at(monkeypatch, iteration, number) -> None:
    """Patch the trainer to send the signal `number` to this process after an iteration."""
    step = Trainer._step

    def step_and_stop(self, batch):
        step(self, batch)
        if self.state.iteration == iteration:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Trainer, "_step", step_and_stop)


def torchrun(processes: int, script: str, *options, python: str | None = None, **environment):
    """Run a script in several processes with torchrun. The processes are forks, or run the interpreter `python`."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [python or python_command(), *torchrun, str(ROOT / script), *map(str, options)]
    return run_quietly(command, None, {"OMP_NUM_THREADS": "1", **environment})
