"""Test GaitSet: cross-view recognition of the test subjects.

  python test.py --data_path work/CASIA-B-pre                              test the checkpoint of the config
  python test.py --data_path work/CASIA-B-pre --report                     also write a page with charts
  python test.py --data_path work/CASIA-B-pre --checkpoint some-encoder.ptm --json rank1.json
  torchrun --nproc_per_node 8 test.py --use_8p_model True                  embed on several devices
  python test.py --dataset CASIA-A --partition all --data_path people-pre --checkpoint some-encoder.ptm
  python test.py --dataset mygait --gallery walk1 --probe walk2 --data_path work/mygait-pre    your own takes

Compare two results that --json wrote, and test whether their difference is significant:
  python test.py --compare a.json b.json --report comparison.html

Test a deployed model in three steps:
  python test.py --pre_process                                             write input files, list and manifest
  python -m model.runtime --model gaitset_submit --info CASIA-B-bin.info --output result
  python test.py --post_process                                            evaluate the results
or in one step:
  python test.py --runtime onnxruntime --checkpoint gaitset_submit.onnx
  python test.py --runtime onnxruntime --checkpoint gaitset_submit_int8.onnx    sequences of any length, on a CPU
  python test.py --runtime auto --checkpoint gaitset_submit                gaitset_submit_f30.onnx, ... by length
  python test.py --runtime acl --checkpoint gaitset_submit.om              an om model on an Ascend chip

The command prints rank-1 including and excluding identical views, rank-5 and mAP, and writes them to
work/results/<name> as .json, .csv, .nc and .html. With --report, the page also shows figures, animations of mistakes,
and the subjects that the model confuses.
"""

import argparse
from pathlib import Path

from model.common.command_line import CommandParser, file_name, positive
from model.common.errors import UsageError, run_command
from model.common.json_files import write_json
from model.common.messages import set_up_logging
from model.data.partition import check_partition_file
from model.devices.world import world_from_environment
from model.evaluation.protocols import plan_of
from model.settings.config_file import load_config, overrides_of
from model.settings.config_options import (
    add_common_options,
    add_options,
    add_precision_options,
    check_precision_options,
)

# Modules that import torch are imported inside functions, so that --help and argument errors answer at once.

DEFAULT_REPORT = Path()  # placeholder of --report without a FILE, whose name is known only after the test
RUNTIMES = ("torch", "auto", "benchmark", "ais_bench", "acl", "onnxruntime")


def options_parser() -> CommandParser:
    parser = CommandParser(prog="test.py", description=__doc__)
    add_common_options(parser)
    add_options(parser.add_argument_group("protocol"), "gallery", "probe")
    group = parser.add_argument_group("what to test")
    group.add_argument("--iter", type=int, help="iteration of the checkpoint (default: total_iter of the config, or "
                       "the last checkpoint if total_iter has no checkpoint)")  # fmt: skip
    group.add_argument("--checkpoint", type=Path, help="encoder to test, or a deployed model for --runtime (default: "
                       "the checkpoint of the config and --iter)")  # fmt: skip
    group.add_argument("--use_8p_model", action="store_true", help="use config_8p.py")
    add_options(group, "batch_size")
    group.add_argument("--runtime", default="torch", choices=RUNTIMES, help="runtime that computes the embeddings; "
                       "auto: the runtime that suits the file of --checkpoint")  # fmt: skip
    group.add_argument("--threads", type=positive, help="threads of --runtime onnxruntime (default: one per core)")
    group.add_argument("--name", type=file_name, metavar="NAME", help="name of the files in work/results "
                       "(default: name of the checkpoint)")  # fmt: skip
    group.add_argument("--json", type=Path, help="also write the results to FILE")
    group.add_argument("--check", action="store_true", help="only check the options, the configuration and the file of "
                       "--partition, then exit")  # fmt: skip
    group = parser.add_argument_group("report")
    group.add_argument("--report", type=Path, nargs="?", const=DEFAULT_REPORT, help="write a page with charts, which "
                       "are also written as PNG (default FILE: work/results/<name>.html)")  # fmt: skip
    group.add_argument("--throughput", type=Path, nargs="+", default=(), help="measurements of python -m model.runtime "
                       "or of a benchmark tool to show in the report")  # fmt: skip
    group.add_argument("--train_log", type=Path, help="a train.jsonl to show in the report (default: the log of the "
                       "run that wrote the checkpoint, if it exists)")  # fmt: skip
    group.add_argument("--compare", type=Path, nargs=2, metavar=("A.json", "B.json"), help="instead of testing a "
                       "model, compare two files that --json wrote, with a test of significance")  # fmt: skip
    add_precision_options(parser, "off", "torch")
    group = parser.add_argument_group("deployed model")
    group.add_argument("--pre_process", action="store_true", help="write the input files of the model, a list of these "
                       "files, and a manifest")  # fmt: skip
    group.add_argument("--post_process", action="store_true", help="evaluate the result files of the model")
    group.add_argument("--bin_path", type=Path, metavar="DIR", help="folder of the input files (default: "
                       "<dataset>-bin)")  # fmt: skip
    group.add_argument("--result_path", type=Path, default=Path("result/dumpOutput_device0"), metavar="DIR",
                       help="folder of the result files")  # fmt: skip
    group.add_argument("--bin_frames", type=positive, default=100, help="frames per input file")
    group.add_argument("--padding", choices=("repeat", "zero"), default="repeat", help="how to pad shorter sequences: "
                       "repeated frames do not change the embedding; zero frames change it, and gave the published "
                       "rank-1 of 95.512")  # fmt: skip
    group.add_argument("--truncate", choices=("first", "even"), default="first", help="how to cut longer sequences: "
                       "first keeps the first frames, even keeps evenly spaced frames")  # fmt: skip
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = options_parser().parse_args(arguments)
    if options.compare:
        compare(*options.compare, options.json, options.report, options.quiet)
        return
    check_options(options)
    world = world_from_environment()
    set_up_logging(options.quiet, world.is_main)
    if world.size > 1 and (options.pre_process or options.post_process or options.runtime != "torch"):
        raise UsageError(
            f"{world.size} processes were started, but only --runtime torch can use several processes; start this "
            "command without torchrun"
        )
    processes = 8 if options.use_8p_model else world.size
    config = load_config(options.config, overrides_of(options), processes)
    check_precision_options(options, config.model.amp)
    config.data.protocol  # noqa: B018, raises if there is no protocol, before the sequences are embedded
    if options.check:
        check_partition_file(options.partition)
        return
    bins = options.bin_path or Path(f"{config.data.dataset}-bin")
    from model.commands.deployed import post_process, pre_process
    from model.report.publish import Output, ReportOptions

    if options.pre_process:
        pre_process(options, config, bins)
        return
    report = None
    if options.report is not None:
        page = None if options.report == DEFAULT_REPORT else options.report
        report = ReportOptions(page, options.throughput, options.train_log)
    output = Output(config.work_path / "results", options.name, options.json, report, options.quiet)
    if options.post_process:
        post_process(bins, options.result_path, config, output)
    else:
        test(options, config, world, output)


def check_options(options: argparse.Namespace) -> None:
    """Raise UsageError if options contradict each other."""
    for name in ("throughput", "train_log"):
        if getattr(options, name) and options.report is None:
            raise UsageError(f"--{name}: only the report uses this option; add --report")
    if options.pre_process and options.post_process:
        raise UsageError("--pre_process and --post_process: the model runs between them; give one at a time")
    if options.runtime != "torch" and options.checkpoint is None:
        raise UsageError(
            f"--runtime {options.runtime}: no model is given; give its model with --checkpoint (pth2onnx.py writes one)"
        )


def test(options: argparse.Namespace, config, world, output) -> None:
    """Embed the test sequences with a checkpoint or a deployed model, and evaluate the embeddings."""
    from model.checkpoints.loading import check_exists
    from model.devices import distributed
    from model.devices.device import describe
    from model.devices.opening import open_device
    from model.embeddings.extract import extract
    from model.export.input_files import FixedLength
    from model.initialization import load_network, open_dataset
    from model.report.publish import publish
    from model.report.report_inputs import EmbeddedSequences
    from model.runtime.runners import embed

    choice = choose_deployed(options.runtime, options.checkpoint)
    if choice is None and options.checkpoint is not None:
        check_exists(options.checkpoint)  # before the store is built, which can take minutes
    # A deployed model runs on the device of its runtime. This process computes only distances, by default on the CPU.
    requested = "cpu" if choice and options.device == "auto" else options.device
    device = open_device(requested, config.visible_devices, world.local_rank, jit_compile=not options.rt2)
    distributed.start(world, device)
    try:
        data = open_dataset(config, options.partition, cache=options.cache, skip_bad=options.skip_bad)
        store, protocol = data.test, config.data.protocol
        # Raises UserError if the gallery or a probe is empty, before the sequences are embedded.
        plan_of(store.index.seq_type, store.index.view, protocol)
        details = {"device": describe(device), "processes": world.size}
        if choice is None:
            loaded = load_network(config, options.checkpoint, options.iter, device)
            embeddings = extract(loaded.network, store, device, options.batch_size, world)
            model, details = loaded.checkpoint, {**details, **training_details(loaded.metadata)}
        else:
            length = FixedLength(options.bin_frames, options.padding, options.truncate)
            embeddings = embed(choice, store, length, config.work_path, options.threads, options.quiet)
            model = choice.model
        if embeddings is not None:  # only the main process has them
            embedded = EmbeddedSequences(store.index, embeddings, store.sequence)
            details["data"] = vars(config.data)
            publish(embedded, protocol, model, details, output, device)
    finally:
        distributed.finish()


def choose_deployed(runtime: str, model: Path | None):
    """Return the runtime and the file of a deployed model, or None if torch is to run a checkpoint."""
    from model.runtime.choice import choose

    if runtime == "torch" or (runtime == "auto" and model.suffix == ".ptm"):
        return None
    choice = choose(runtime, model, direct=True)
    print(choice.why)
    return choice


def training_details(metadata: dict) -> dict:
    """Return how a checkpoint was trained, from its metadata. The config may describe a different training."""
    return {"recipe": metadata["model"], "trained_on": metadata.get("data")} if "model" in metadata else {}


def compare(first: Path, second: Path, json: Path | None, report: Path | None, quiet: bool) -> None:
    """Print the comparison of two files that --json wrote. With `report`, also write it as a page."""
    from model.report.comparison import compare_files, comparison_text
    from model.report.comparison_page import write_comparison

    comparison = compare_files(first, second)
    print(comparison_text(comparison))
    if json is not None:
        write_json(json, comparison.to_json())
    if report is not None:
        page = Path("comparison.html") if report == DEFAULT_REPORT else report
        print(f"figures: {write_comparison(comparison, page, quiet)}/*.png\nreport: {page}")


if __name__ == "__main__":
    run_command(main)
