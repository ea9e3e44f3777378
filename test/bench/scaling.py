"""Measure training with several processes: throughput, cost of the gradient all-reduce, and equality of the weights.

  python test/bench/scaling.py --device cuda --processes 1 2              the full recipe's batch on one and two GPUs
  python test/bench/scaling.py --device cpu --processes 1 2 --p 2 --k 2 --frame_num 4 --iters 3 --agree 2 \\
      --subjects 8 --frames 5                                             a short run

For each number of processes, the benchmark measures train.py as train_performance_8p.sh starts it, with sampling and
logging, and the median time of one all-reduce of all gradients. It also trains for --agree iterations in one process
that computes the batches of all processes in turn and averages the gradients. The weights of both runs should be equal,
except for rounding. The last line is JSON.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import torch
from made_store import make_store
from measuring import median_seconds, parser_of, report, run_python, train

from model.checkpoints.loading import load_tensors
from model.config import Config, DataConfig, ModelConfig
from model.devices import distributed
from model.devices.device import synchronize
from model.devices.opening import open_device
from model.devices.world import World, world_from_environment
from model.initialization import open_dataset
from model.network import GaitSet
from model.training.builder import build_trainer


def launch_in(processes: int) -> dict:
    """Return the launcher and the environment of several processes, as arguments of `run_python` and `train`."""
    return {
        "launcher": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes],
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(processes))),
    }


def trained(processes: int, options: argparse.Namespace, folder: Path, *more) -> dict:
    precision = ["--amp", options.amp, "--lr", options.lr]
    return train(folder / "store", folder / f"train-{processes}", options, *precision, *more, **launch_in(processes))


def exchange_worker(device_name: str, exchanges: int, result: Path) -> None:
    """Measure the all-reduce of all gradients of the network, in one of several processes."""
    world = world_from_environment()
    device = open_device(device_name, local_rank=world.local_rank)
    distributed.start(world, device)
    gradients = distributed.flatten_gradients(GaitSet().to(device).parameters())

    def exchange() -> None:
        distributed.average_in_place(gradients)
        synchronize(device)

    synchronize(device)
    (seconds,) = median_seconds([exchange], exchanges)
    if world.is_main:
        result.write_text(json.dumps(1000 * seconds), encoding="utf-8")
    distributed.finish()


def exchange_ms(processes: int, options: argparse.Namespace, folder: Path) -> float:
    result, launch = folder / f"exchange-{processes}.json", launch_in(processes)
    more = ["--device", options.device, "--exchanges", options.exchanges, "--exchange_worker", result]
    run_python(*launch.pop("launcher"), __file__, *more, **launch)
    return json.loads(result.read_text(encoding="utf-8"))


def weights_of_one_process(processes: int, options: argparse.Namespace, folder: Path) -> dict[str, torch.Tensor]:
    """Run `--agree` iterations in one process that averages the gradients of the batches of all processes."""
    device = open_device(options.device)
    model = ModelConfig(
        batch_size=(options.p, options.k), frame_num=options.frame_num, amp=options.amp, lr=options.lr,
        total_iter=options.agree,
    )  # fmt: skip
    data_config = DataConfig(dataset_path=folder / "store", dataset="CASIA-B", pid_num=options.subjects)
    config = Config(work_path=folder / "one", data=data_config, model=model)
    data = open_dataset(config)
    trainers = [
        build_trainer(config, data, device, World(rank, 0, processes), writing=False) for rank in range(processes)
    ]
    step = getattr(trainers[0].step, "step", trainers[0].step)  # the iteration without its CUDA graph
    parameters = list(trainers[0].state.network.parameters())
    batches = [trainer.loader.batches(0, options.agree) for trainer in trainers]
    for of_all in zip(*batches, strict=True):
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        for batch in of_all:
            step.gradients(*batch)
            torch._foreach_add_(sums, [parameter.grad for parameter in parameters])
        for parameter, gradient in zip(parameters, sums, strict=True):
            parameter.grad.copy_(gradient / processes)
        step.update()
    return {name: value.float().cpu() for name, value in trainers[0].state.network.state_dict().items()}


def disagreement(processes: int, options: argparse.Namespace, folder: Path) -> dict:
    """Return the largest and the median difference between the weights of the two runs, in learning rates."""
    theirs = load_tensors(Path(trained(processes, options, folder, "--iters", options.agree)["checkpoint"]))
    ours = weights_of_one_process(processes, options, folder)
    differences = torch.cat([(theirs[name] - ours[name]).abs().flatten() for name in ours]) / options.lr
    return {"largest": differences.max().item(), "median": differences.median().item(), "unit": "learning rates"}


def main() -> None:
    parser = parser_of(__doc__, device="auto", p=8, k=16, frame_num=30, lr=1e-4, iters=1000, subjects=30)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--amp", choices=("off", "torch"), default="off")
    parser.add_argument("--agree", type=int, default=40, help="number of iterations before the weights are compared")
    parser.add_argument("--exchanges", type=int, default=50, help="number of measured all-reduces")
    parser.add_argument("--frames", type=int, default=80, help="mean number of frames per sequence")
    parser.add_argument("--exchange_worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.exchange_worker:
        exchange_worker(options.device, options.exchanges, options.exchange_worker)
        return
    with tempfile.TemporaryDirectory(prefix="gaitset-bench-") as temporary:
        folder = Path(temporary)
        make_store(folder / "store", "CASIA-B", options.subjects, options.frames)
        runs = {}
        for processes in options.processes:
            summary = trained(processes, options, folder, "--iters", options.iters, "--performance")
            shown = ("device", "iterations_per_second", "sequences_per_second")
            runs[processes] = {key: summary[key] for key in shown}
            if processes > 1:
                runs[processes]["exchange_ms"] = exchange_ms(processes, options, folder)
                runs[processes]["disagreement"] = disagreement(processes, options, folder)
    alone = runs[options.processes[0]]["sequences_per_second"] / options.processes[0]
    for processes, run in runs.items():
        run["efficiency"] = run["sequences_per_second"] / processes / alone
        run["exchange_share"] = run.get("exchange_ms", 0.0) * run["iterations_per_second"] / 1000
    batch = [options.p, options.k, options.frame_num]
    report("training by several processes", batch_per_process=batch, amp=options.amp, runs=runs)


if __name__ == "__main__":
    main()
