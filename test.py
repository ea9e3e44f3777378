"""Test GaitSet: cross-view recognition of the test subjects.

  python test.py --data_path work/CASIA-B-pre                              the experiment's last checkpoint
  python test.py --data_path work/CASIA-B-pre --report                     and a page with figures to look at
  python test.py --data_path work/CASIA-B-pre --checkpoint some-encoder.ptm --json rank1.json
  torchrun --nproc_per_node 8 test.py --use_8p_model True                  embeddings by all devices
  python test.py --dataset CASIA-A --partition all --data_path people-pre --checkpoint some-encoder.ptm

Is one result better than the other, or is that chance? (of files that --json wrote)
  python test.py --compare a.json b.json --report comparison.html

The deployed model, in three steps:
  python test.py --pre_process                                             bins, .info list and manifest
  python -m model.runtime --model gaitset_submit --info CASIA-B-bin.info --output result
  python test.py --post_process                                            the same tables from its results
or in one, without files between:
  python test.py --runtime onnxruntime --checkpoint gaitset_submit.onnx
  python test.py --runtime onnxruntime --checkpoint gaitset_submit_int8.onnx    whole sequences, on a processor
  python test.py --runtime auto --checkpoint gaitset_submit                gaitset_submit_f30.onnx, ... by length
  python test.py --runtime acl --checkpoint gaitset_submit.om              an om on an Ascend chip

Prints rank-1 including and excluding identical views, rank-5 and mAP; writes them to work/results/<name> as .json,
.csv, .nc and .html. With --report the page also has figures, mistakes that move, and whom the model confuses.
"""

from __future__ import annotations

from pathlib import Path

from model.common.command_line import (
    CommandParser,
    add_common_options,
    add_precision_options,
    check_precision_options,
    positive,
    true_or_false,
)
from model.common.errors import UsageError, run_command
from model.common.files import is_plain_name
from model.common.messages import set_up_logging

ROOT = Path(__file__).resolve().parent
DEFAULT_REPORT = Path()  # stands for a name that is known later
RUNTIMES = ("torch", "auto", "benchmark", "ais_bench", "acl", "onnxruntime")


def options_parser() -> CommandParser:
    parser = CommandParser(prog="test.py", description=__doc__)
    add_common_options(parser)
    group = parser.add_argument_group("what to test")
    group.add_argument("--iter", type=int, metavar="N",
                       help="checkpoint of this iteration (the config's total_iter, else the last)")  # fmt: skip
    group.add_argument("--checkpoint", type=Path, metavar="FILE", help="any encoder; with --runtime its model")
    group.add_argument("--use_8p_model", type=true_or_false, default=False, metavar="True|False",
                       help="take config_8p.py")  # fmt: skip
    group.add_argument("--batch_size", type=positive, default=0, metavar="N",
                       help="sequences at once (default: as many as keep the device busy)")  # fmt: skip
    group.add_argument("--runtime", default="torch", choices=RUNTIMES, help="what embeds (torch); auto: what the "
                       "file given with --checkpoint needs")  # fmt: skip
    group.add_argument("--threads", type=positive, metavar="N", help="of --runtime onnxruntime (one a core)")
    group.add_argument("--name", metavar="NAME", help="of the files in work/results (default: the checkpoint's)")
    group.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    group = parser.add_argument_group("report")
    group.add_argument("--report", type=Path, nargs="?", const=DEFAULT_REPORT, metavar="FILE",
                       help="a page with figures, also written as PNG (work/results/<name>.html)")  # fmt: skip
    group.add_argument("--throughput", type=Path, nargs="+", default=(), metavar="FILE",
                       help="for the report: what python -m model.runtime or a benchmark tool measured")  # fmt: skip
    group.add_argument("--train_log", type=Path, metavar="FILE",
                       help="for the report: a train.jsonl (the one of the checkpoint's run, if there)")  # fmt: skip
    group.add_argument("--compare", type=Path, nargs=2, metavar=("A.json", "B.json"),
                       help="test nothing: does B differ from A by more than chance? (of --json)")  # fmt: skip
    add_precision_options(parser, ("off", "torch"))
    group = parser.add_argument_group("for the deployed model")
    group.add_argument("--pre_process", action="store_true", help="write bins, list and manifest")
    group.add_argument("--post_process", action="store_true", help="evaluate result files")
    group.add_argument("--bin_path", type=Path, metavar="DIR", help="folder of the bins (<dataset>-bin)")
    group.add_argument("--result_path", type=Path, default=Path("result/dumpOutput_device0"), metavar="DIR",
                       help="folder of the result files (%(default)s)")  # fmt: skip
    group.add_argument("--bin_frames", type=positive, default=100, metavar="N", help="frames of each bin (100)")
    group.add_argument("--padding", choices=("repeat", "zero"), default="repeat",
                       help="shorter sequences: repeat is exact, zero is what the published 95.512 had")  # fmt: skip
    group.add_argument("--truncate", choices=("first", "even"), default="first",
                       help="longer sequences: the first frames, or as many spread evenly")  # fmt: skip
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = options_parser().parse_args(arguments)
    if options.compare:
        return compare(options)
    for name in ("throughput", "train_log"):
        if getattr(options, name) and options.report is None:
            raise UsageError(f"--{name}: is for the report, so give --report as well")
    if options.pre_process and options.post_process:
        raise UsageError("--pre_process and --post_process: the model runs between them, so give one at a time")
    if options.name is not None and not is_plain_name(options.name):
        raise UsageError(f"--name {options.name}: is the name of files in work/results, without / or a dot in front")
    if options.runtime != "torch" and options.checkpoint is None:
        raise UsageError(f"--runtime {options.runtime}: give its model with --checkpoint (pth2onnx.py writes one)")
    from model.config import load_config, overrides_of
    from model.devices import distributed
    from model.evaluation.protocols import protocol_of

    world = distributed.world_from_environment()
    set_up_logging(options.quiet, world.is_main)
    if world.size > 1 and (options.pre_process or options.post_process or options.runtime != "torch"):
        raise UsageError("only embedding with torch can be shared by processes: start this once, without torchrun")
    standard = ROOT / ("config_8p.py" if options.use_8p_model or world.size > 1 else "config_1p.py")
    config = load_config(options.config or standard, overrides_of(options))
    check_precision_options(options, config.model.amp)
    protocol_of(config.data.dataset)  # a name without a protocol should be told of before the work, not after
    report = wanted_report(options)
    if report is not None and not options.pre_process:
        report.check()
    if options.pre_process:
        pre_process(options, config)
    elif options.post_process:
        post_process(options, config)
    else:
        test(options, config, world)


def test(options, config, world) -> None:
    """Embed the test sequences with a checkpoint or a deployed model, and evaluate."""
    from model.devices import distributed
    from model.devices.device import describe, resolve_device, set_compile_mode, set_precision, set_visible_devices
    from model.embeddings.extract import extract
    from model.initialization import load_network, open_dataset
    from model.report.report_inputs import EmbeddedSequences

    choice = choose_deployed(options)
    set_visible_devices(config.visible_devices, options.device)
    # A deployed model brings its own device: only the distances are computed here, and not where pyACL works.
    device = resolve_device("cpu" if choice and options.device == "auto" else options.device, world.local_rank)
    set_precision(device)
    if options.rt2:
        set_compile_mode(device, jit_compile=False)
    distributed.start(world, device)
    try:
        data = open_dataset(
            config,
            options.partition,
            cache=bool(options.cache),
            skip_bad=options.skip_bad,
            quiet=options.quiet,
        )
        if choice is None:
            network, model = load_network(config, options.checkpoint, options.iter, device)
            embeddings = extract(network, data.test, device, options.batch_size, world, options.quiet)
        else:
            embeddings, model = embed_deployed(options, config, choice, data.test), choice.model
        if embeddings is not None:
            embedded = EmbeddedSequences(data.test.index, embeddings, data.test.sequence)
            show(options, config, embedded, model, {"device": describe(device), "processes": world.size}, device)
    finally:
        distributed.finish()


def choose_deployed(options):
    """Runtime and file of a deployed model; None for a checkpoint, which torch runs."""
    from model.runtime.choice import choose

    if options.runtime == "torch" or (options.runtime == "auto" and options.checkpoint.suffix == ".ptm"):
        return None
    choice = choose(options.runtime, options.checkpoint, direct=True)
    print(choice.why)
    return choice


def embed_deployed(options, config, choice, store):
    from model.runtime.runners import embed

    length = (options.padding, options.truncate, options.bin_frames)
    return embed(choice, store, *length, config.work_path, options.threads, options.quiet)


def pre_process(options, config) -> None:
    """Write the test sequences as bins of fixed length, with list and manifest."""
    from model.common.files import write_json
    from model.export.input_files import FixedLength, write_input_files
    from model.initialization import open_dataset

    data = open_dataset(config, options.partition, skip_bad=options.skip_bad, quiet=options.quiet)
    folder = bins_of(options, config)
    listed = folder.with_name(folder.name + ".info")
    length = FixedLength(options.bin_frames, options.padding, options.truncate)
    partition = {"TEST_SET": list(data.partition.test)}
    manifest = write_input_files(
        data.test, None, folder, listed, length, dataset=config.data.dataset, partition=partition, quiet=options.quiet
    )
    if options.json is not None:
        write_json(options.json, {"bins": len(manifest.entries), "list": str(listed), **manifest.settings})
    print(f"wrote {len(manifest.entries)} bins to {folder}, the list {listed} and the manifest {manifest.path}")
    print("next: run the model over the list (python -m model.runtime), then test.py --post_process")


def post_process(options, config) -> None:
    """Evaluate what the deployed model wrote; the manifest says whose results they are."""
    from model.export.manifest import manifest_path, read_manifest
    from model.report.report_inputs import EmbeddedSequences
    from model.runtime.result_files import read_results

    manifest = read_manifest(manifest_path(bins_of(options, config)))
    made_for = manifest.settings["dataset"]
    if made_for and made_for != config.data.dataset:
        raise UsageError(
            f"{manifest.path}: bins of {made_for}, but the dataset is {config.data.dataset}: pass --dataset {made_for}"
        )
    shape = (62, config.model.hidden_dim)
    embeddings, index = read_results(options.result_path, manifest, shape, options.quiet)
    options.name = options.name or f"{config.data.dataset}-deployed"
    embedded = EmbeddedSequences(index, embeddings, manifest.sequence)
    show(options, config, embedded, options.result_path, {"padding": manifest.settings["padding"]})


def compare(options) -> None:
    """Two results of test.py --json side by side; with --report as a page, too."""
    from model.common.files import write_json
    from model.report.comparison import compare_files, comparison_text
    from model.report.comparison_page import write_comparison

    found = compare_files(*options.compare)
    print(comparison_text(found))
    if options.json is not None:
        write_json(options.json, found.to_json())
    if options.report is not None:
        page = Path("comparison.html") if options.report == DEFAULT_REPORT else options.report
        print(f"figures: {write_comparison(found, page, options.quiet)}/*.png\nreport: {page}")


def bins_of(options, config) -> Path:
    return options.bin_path or Path(f"{config.data.dataset}-bin")


def show(options, config, embedded, model: Path, details: dict, device=None) -> None:
    """Print the tables and write them under work/results; with --report also the page with figures."""
    from model.checkpoints.checkpoint import record_beside
    from model.report.publish import Output, publish

    # How an encoder was trained is in the record beside it; the config may be of another training.
    record = record_beside(model) or {}
    made = {"recipe": record["model"], "trained_on": record.get("data")} if "model" in record else {}
    details = {**details, **made, "data": vars(config.data)}
    folder = config.work_path / "results"
    output = Output(folder, options.name, options.json, wanted_report(options), options.quiet)
    publish(embedded, config.data.dataset, model, details, output, device)


def wanted_report(options):
    from model.report.publish import ReportOptions

    if options.report is None:
        return None
    page = None if options.report == DEFAULT_REPORT else options.report
    return ReportOptions(page, options.throughput, options.train_log)


if __name__ == "__main__":
    run_command(main)
