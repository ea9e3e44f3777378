"""Train GaitSet.

  python train.py --data_path work/CASIA-B-pre                         one device, config_1p.py
  python train.py --device_num 8 --data_path work/CASIA-B-pre          8 devices, config_8p.py (or use torchrun)
  python train.py --device cpu --dataset Synthetic --data_path work/walkers-pre --pid_num 20 \\
      --batch_size_p 4 --batch_size_m 4 --frame_num 10 --iters 500     CPU, synthetic walkers
  python train.py --data_path work/CASIA-B-pre --restore_iter auto     resume if there is a checkpoint
  python train.py --dataset mygait --gallery walk1 --probe walk2 --data_path work/mygait-pre    your own takes
  python train.py --data_path work/own-pre --checkpoint some-encoder.ptm --iters 2000    fine-tune an encoder
  python train.py --data_path work/CASIA-B-pre --performance --iters 100 --profiling    trace some iterations

After Ctrl-C or SIGTERM, the current iteration is completed, a checkpoint is written, and the command that resumes the
training is printed.
"""

import argparse
import logging
from contextlib import ExitStack
from pathlib import Path

from model.commands.launch import start_processes
from model.common.command_line import EXIT_STATUS, CommandParser, parsed_as, positive
from model.common.errors import UsageError, run_command
from model.common.messages import set_up_logging
from model.config import PROFILING, PROFILING_KINDS, RestoreFrom
from model.devices.world import set_environment, world_from_environment
from model.settings.config_file import load_config, overrides_of
from model.settings.config_options import (
    add_common_options,
    add_options,
    add_precision_options,
    check_precision_options,
)

# Modules that import torch are imported inside functions, so that --help and argument errors answer at once.

log = logging.getLogger(__name__)


def options_parser() -> CommandParser:
    status = f"{EXIT_STATUS}, 130 stopped by Ctrl-C, 143 stopped by SIGTERM (with a checkpoint)"
    parser = CommandParser(prog="train.py", description=__doc__, epilog=status)
    add_common_options(parser)
    add_options(parser.add_argument_group("protocol"), "gallery", "probe")
    recipe = parser.add_argument_group("recipe")
    add_options(recipe, "total_iter", "frame_num", "lr", "schedule", "cross_entropy", "sampler", "hard_or_full_trip")
    add_options(recipe, "unit_strips", "augment", "num_workers")
    add_options(recipe, "restore_iter", type=restore_iter, metavar="N")
    for name, meaning in (("p", "subjects per batch and process"), ("m", "sequences per subject in a batch")):
        recipe.add_argument(f"--batch_size_{name}", type=positive, help=f"{meaning} (default: from the config)")
    recipe.add_argument("--checkpoint", type=Path, help="start a new run from the weights of this encoder, at "
                        "iteration 0 and with a new optimizer (default: start from random weights)")  # fmt: skip
    add_output_options(parser)
    add_options(add_precision_options(parser, "off", "torch", "apex"), "loss_scale", metavar="dynamic|NUMBER")
    add_process_options(parser)
    return parser


def add_output_options(parser: CommandParser) -> None:
    group = parser.add_argument_group("output")
    add_options(group, "log_iter", "save_iter", "eval_iter", "keep")
    group.add_argument("--json", type=Path, help="write a summary of the run to FILE")
    group.add_argument("--performance", action="store_true", help="only measure throughput; write no checkpoint")
    group.add_argument("--zoo_log", action="store_true", help="end the log with the lines of the Ascend model zoo's "
                       "training scripts, such as ActualFPS")  # fmt: skip
    group.add_argument("--zoo_path", type=Path, metavar="DIR", help="with --zoo_log, also write the zoo's "
                       "<CaseName>.log to this folder")  # fmt: skip
    group = parser.add_argument_group("profiling")
    group.add_argument("--profiling", nargs="?", const=True, type=profiling_kind, metavar="KIND", help="trace a few "
                       "iterations and write the trace to work/profile; the kinds CANN and GE of the NPU port have the "
                       "same effect as no KIND (default: off)")  # fmt: skip
    group.add_argument("--start_step", type=int, help="first traced iteration of this run (default: 11)")
    group.add_argument("--stop_step", type=int, help="last traced iteration (default: start_step + 4)")


def add_process_options(parser: CommandParser) -> None:
    group = parser.add_argument_group("several processes (torchrun sets the first five options itself)")
    group.add_argument("--local_rank", "--local-rank", type=int, help="rank of the process on its machine")
    group.add_argument("--rank", type=int, help="rank of this process among all processes")
    group.add_argument("--world_size", type=positive, help="number of processes")
    group.add_argument("--addr", metavar="HOST", help="address of the machine of rank 0 (default: 127.0.0.1)")
    group.add_argument("--port", type=positive, help="port on the machine of rank 0 (default: 29500)")
    group.add_argument("--dist_backend", choices=("gloo", "nccl", "hccl"), help="backend of the process group "
                       "(default: depends on the device)")  # fmt: skip
    group.add_argument("--device_num", type=positive, help="start N processes with torchrun; if a process is killed, "
                       "all processes restart from the last checkpoint (default: from the config)")  # fmt: skip


profiling_kind = parsed_as(lambda text: PROFILING[text.lower()], PROFILING_KINDS)
restore_iter = parsed_as(lambda text: RestoreFrom.LAST_OR_START if text == "auto" else int(text), "an integer or auto")


def main(arguments: list[str] | None = None) -> int:
    options = options_parser().parse_args(arguments)
    set_environment(options)
    world = world_from_environment()
    processes = max(world.size, options.device_num or 1)
    config = load_config(options.config, overrides_of(options), processes)
    check_precision_options(options, config.model.amp)
    status = start_processes(options, config, world.size)
    if status is not None:
        return status
    set_up_logging(options.quiet, world.is_main)
    check_protocol(config)
    from model.devices import distributed
    from model.devices.opening import open_device
    from model.initialization import experiment_lock
    from model.training.profiling import Profiling

    # In a single process, --local_rank selects one of the devices that are visible in the environment.
    visible = config.visible_devices if world.size > 1 or not world.local_rank else {}
    device = open_device(options.device, visible, world.local_rank, jit_compile=not options.rt2)
    profiling = None
    if config.profiling:
        folder = config.work_path / "profile" / config.experiment
        profiling = Profiling(folder, device, world.rank, config.start_step, config.stop_step)
    with ExitStack() as held:
        distributed.start(world, device, options.dist_backend)
        held.callback(distributed.finish)
        if not options.performance:
            distributed.run_on_rank0(lambda: held.enter_context(experiment_lock(config)))
        return train(options, config, device, world, profiling)


def check_protocol(config) -> None:
    """Warn if there is no protocol with which test.py can evaluate the training.

    Raises UsageError instead if the options or the config ask for an evaluation.
    """
    try:
        config.data.protocol  # noqa: B018
    except UsageError as error:
        if config.model.eval_iter or config.data.gallery or config.data.probe:
            raise
        log.warning("test.py will not be able to evaluate this training: %s", error)


def train(options: argparse.Namespace, config, device, world, profiling) -> int:
    """Train and return the exit status.

    When this function returns, the trainer is freed, so that `distributed.finish` can destroy the process group.
    """
    from model.checkpoints.loading import read_encoder
    from model.checkpoints.state_dicts import Sizes
    from model.initialization import open_dataset
    from model.training.builder import build_trainer

    initial = None
    if options.checkpoint is not None:  # checked now rather than after a large data set has been packed
        initial = read_encoder(options.checkpoint)
        settings = config.model
        initial.require_sizes(Sizes(settings.hidden_dim, settings.channels, settings.unit_strips))
    data = open_dataset(config, options.partition, cache=options.cache, skip_bad=options.skip_bad)
    writing = not options.performance
    trainer = build_trainer(config, data, device, world, initial=initial, writing=writing, profiling=profiling)
    stopped_by = trainer.run(config.model.total_iter)
    return trainer.report(stopped_by, options.json, options.zoo_log, options.zoo_path)


if __name__ == "__main__":
    run_command(main)
