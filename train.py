"""Train GaitSet.

  python train.py --data_path work/CASIA-B-pre                         one device, config_1p.py
  python train.py --device_num 8 --data_path work/CASIA-B-pre          eight, config_8p.py; torchrun does it, too
  python train.py --device cpu --dataset Synthetic --data_path work/walkers-pre --pid_num 20 \\
      --batch_size_p 4 --batch_size_m 4 --frame_num 10 --iters 500     CPU, synthetic walkers
  python train.py --data_path work/CASIA-B-pre --restore_iter auto     go on where training stopped, or start
  python train.py --data_path work/CASIA-B-pre --performance --iters 100 --profiling    where the time goes

Stop it with Ctrl-C or SIGTERM: it ends the iteration, writes a checkpoint and says how to go on.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from model.common.command_line import (
    EXIT_STATUS,
    CommandParser,
    add_common_options,
    add_precision_options,
    check_precision_options,
    positive,
)
from model.common.errors import UsageError, run_command
from model.common.messages import set_up_logging

ROOT = Path(__file__).resolve().parent


def options_parser() -> CommandParser:
    status = f"{EXIT_STATUS}, 130 or 143 stopped by Ctrl-C or SIGTERM (a checkpoint was written)"
    parser = CommandParser(prog="train.py", description=__doc__, epilog=status)
    add_common_options(parser)
    group = parser.add_argument_group("recipe (defaults: the config's)")
    group.add_argument("--iters", type=positive, metavar="N", help="total iterations")
    group.add_argument("--batch_size_p", type=positive, metavar="P", help="subjects in a batch, per process")
    group.add_argument("--batch_size_m", type=positive, metavar="K", help="sequences of each subject")
    group.add_argument("--frame_num", type=positive, metavar="N", help="frames drawn from each sequence")
    group.add_argument("--lr", type=float, metavar="RATE", help="learning rate of Adam")
    group.add_argument("--hard_or_full_trip", choices=("full", "hard"), help="batch-all or batch-hard loss")
    group.add_argument(
        "--augment", action="store_const", const=True,
        help="flip, turn, stretch and erase sequences on their way to the network (not in the published recipe)",
    )  # fmt: skip
    group.add_argument("--restore_iter", type=restore_wanted, metavar="N", help="go on from iteration N; -1: from the "
                       "last; auto: from the last, if there is one")  # fmt: skip
    group = parser.add_argument_group("what to write, and when")
    group.add_argument("--log_iter", type=positive, metavar="N", help="iterations between log lines (100)")
    group.add_argument("--save_iter", type=positive, metavar="N", help="iterations between checkpoints (1000)")
    group.add_argument("--eval_iter", type=int, metavar="N", help="iterations between evaluations (0: none)")
    group.add_argument("--keep", type=int, metavar="N", help="checkpoints kept beside the last and the best (0)")
    group.add_argument("--json", type=Path, metavar="FILE", help="write a summary of the run")
    group.add_argument("--performance", action="store_true", help="measure throughput only: write no checkpoint")
    group = parser.add_argument_group("where the time goes: a record of some iterations, under work/profile")
    group.add_argument(
        "--profiling", nargs="?", const=True, type=profiling_wanted, metavar="KIND",
        help="record them (CANN and GE, the NPU port's kinds, are the same)",
    )  # fmt: skip
    group.add_argument("--start_step", type=int, default=-1, metavar="N", help="the first, counted in this run (11)")
    group.add_argument("--stop_step", type=int, default=-1, metavar="N", help="the last (four after the first)")
    group = add_precision_options(parser, ("off", "torch", "apex"))
    group.add_argument(
        "--loss_scale", metavar="dynamic|NUMBER", help="of --amp torch or apex; 32 is the NPU port's (dynamic)"
    )
    group = parser.add_argument_group("several processes (torchrun sets the first five by itself)")
    group.add_argument("--local_rank", "--local-rank", type=int, metavar="N", help="of this process on its machine")
    group.add_argument("--rank", type=int, metavar="N", help="of this process among all")
    group.add_argument("--world_size", type=positive, metavar="N", help="how many processes there are")
    group.add_argument("--addr", metavar="HOST", help="of the first process (127.0.0.1)")
    group.add_argument("--port", type=positive, metavar="N", help="of the first process (29500)")
    group.add_argument("--dist_backend", choices=("gloo", "nccl", "hccl"), help="(the device's own)")
    group.add_argument("--device_num", type=positive, metavar="N", help="start N processes, through torchrun; if one "
                       "is killed, all again from the last checkpoint")  # fmt: skip
    parser.add_argument_group("data").add_argument(
        "--num_workers", type=int, metavar="N", help="threads that read ahead"
    )
    return parser


def profiling_wanted(text: str) -> bool:
    """The kinds of the NPU port, whose profilers are one by now, and True or False."""
    if text in ("True", "true", "CANN", "GE"):
        return True
    if text in ("", "None", "NONE", "none", "False", "false"):
        return False
    raise argparse.ArgumentTypeError(f"must be CANN, GE, None or left away, not {text!r}")


def restore_wanted(text: str) -> int:
    if text == "auto":
        return -2
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number or auto, not {text!r}") from None


def set_environment(options) -> None:
    """What a launcher other than torchrun gives as arguments goes where torchrun's goes."""

    processes = options.world_size or 1
    if "WORLD_SIZE" not in os.environ and (processes > 1 or options.local_rank):
        rank = options.rank
        if rank is None and processes > 1:
            raise UsageError("--world_size without --rank: give the number of this process, or start with torchrun")
        local_rank = rank if options.local_rank is None else options.local_rank
        if processes == 1:  # the NPU port's way to name the device
            rank = 0
        elif rank == 0:  # or the number of the machine, as there: process 0 is always the first of its machine
            rank = local_rank
        os.environ |= {"WORLD_SIZE": str(processes), "RANK": str(rank), "LOCAL_RANK": str(local_rank)}
        os.environ.setdefault("MASTER_ADDR", options.addr or "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", str(options.port or 29500))


def start_processes(options) -> int | None:
    """With --device_num: train in so many processes, this one being none of them; returns their exit status."""
    from model.commands.launch import MAX_RESTARTS, launch
    from model.devices.distributed import world_from_environment

    launched = world_from_environment().size
    if options.device_num in (None, launched):
        return None
    if launched > 1:
        raise UsageError(f"--device_num {options.device_num}, but {launched} processes were started")
    return launch(options.device_num, MAX_RESTARTS, [str(ROOT / "train.py"), *sys.argv[1:]], options.port)


def main(arguments: list[str] | None = None) -> int:
    options = options_parser().parse_args(arguments)
    set_environment(options)
    status = start_processes(options)
    if status is not None:
        return status
    from model.config import load_config, overrides_of
    from model.devices import distributed
    from model.devices.device import resolve_device, set_compile_mode, set_precision, set_visible_devices
    from model.initialization import lock_of
    from model.training.profiling import Profiling

    world = distributed.world_from_environment()
    set_up_logging(options.quiet, world.is_main)
    standard = ROOT / ("config_8p.py" if world.size > 1 else "config_1p.py")
    config = load_config(options.config or standard, overrides_of(options))
    check_precision_options(options, config.model.amp)
    if world.size > 1 or not world.local_rank:  # else the one process has been given a device by its number
        set_visible_devices(config.visible_devices, options.device)
    device = resolve_device(options.device, world.local_rank)
    set_precision(device)
    if options.rt2:
        set_compile_mode(device, jit_compile=False)
    profiling = None
    if options.profiling:
        folder = config.work_path / "profile" / config.experiment
        profiling = Profiling(folder, device, world.rank, options.start_step, options.stop_step)
    with ExitStack() as held:
        distributed.start(world, device, options.dist_backend)
        held.callback(distributed.finish)
        if not options.performance:
            distributed.run_on_rank0(lambda: held.enter_context(lock_of(config)))
        return train(options, config, device, world, profiling)


def train(options, config, device, world, profiling) -> int:
    """The exit status. With this call's end the trainer is gone, so that `distributed.finish` finds nothing that uses
    the processes' group."""
    from model.initialization import build_trainer, open_dataset

    data = open_dataset(
        config, options.partition, cache=bool(options.cache), skip_bad=options.skip_bad, quiet=options.quiet
    )
    trainer = build_trainer(
        config, data, device, world,
        resident=options.cache is not False, quiet=options.quiet, writing=not options.performance,
    )  # fmt: skip
    trainer.profiling = profiling
    stopped_by = trainer.run(config.model.total_iter)
    status = trainer.report(stopped_by, options.json)
    if profiling is not None:
        profiling.report()
    return status


if __name__ == "__main__":
    run_command(main)
