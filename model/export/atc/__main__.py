"""Convert ONNX files to om files with atc, one after the other.

    python -m model.export.atc gaitset_submit.onnx gaitset_submit_bs16.onnx
    python -m model.export.atc --soc_version=Ascend310P3 --atc_options="--op_select_implmode=high_precision" m.onnx
    python -m model.export.atc --precision=fp32 m.onnx     computes in float32; finds the option of this atc version
    python -m model.export.atc m.onnx --aoe                tunes the operators first, on a machine with the NPU (hours)
    python -m model.export.atc m.onnx --aoe=both           tunes the subgraphs (--aoe=1), then the operators (--aoe=2)
    python -m model.export.atc --input_shape=image_seq:16,100,64,44 m.onnx    sets the sizes of a symbolic batch axis
    python -m model.export.atc --check m.onnx           checks options and atc, prints the SoC version, converts nothing

atc must be on the PATH: source CANN's set_env.sh first. The om NAME.om is written next to NAME.onnx. If --input_shape
gives a batch size N above 1, the om is NAME_bs<N>.om.
"""

import sys
from pathlib import Path
from typing import Any

from model.common.command_line import CommandParser
from model.common.errors import UsageError, run_command
from model.common.json_files import write_json
from model.common.messages import set_up_logging
from model.export.atc import arguments
from model.export.atc.convert import convert
from model.export.atc.soc_version import choose_soc_version
from model.export.atc.tuning import CHOICES, JOBS, tune


def main() -> None:
    options = _parser().parse_args()
    set_up_logging(quiet=True)
    shape = arguments.parse_input_shape(options.input_shape)
    batch = f"_bs{shape[0]}" if shape and shape[0] > 1 else ""
    oms = [model.with_name(f"{model.stem.removesuffix(batch)}{batch}.om") for model in options.models]
    for model, om in zip(options.models, oms, strict=True):
        if model.suffix != ".onnx":
            raise UsageError(f"{model}: is not named like an ONNX file; give a file whose name ends in .onnx")
        arguments.check_path(model)
        arguments.check_path(om)
    if len(options.models) > 1 and (options.json or options.log_file):
        raise UsageError(
            f"--json and --log_file: are for a single model, found {len(options.models)}; omit them or give one model"
        )
    more = arguments.check_options(options.atc_options, options.relative_to)
    arguments.check_precision(options.precision, more)
    atc = arguments.find_atc()
    soc_version, why = choose_soc_version(options.soc_version)
    if not options.soc_version:
        print(f"SoC version {soc_version}: {why}", file=sys.stderr)
    if options.check:
        print(soc_version)
        return
    from model.export.atc.source import source_of

    more += arguments.precision_option(atc, options.precision)
    for model, om in zip(options.models, oms, strict=True):
        source, tuned = source_of(model, shape, not options.no_lint), []
        if options.aoe:
            jobs, aoe_log = CHOICES[options.aoe], options.log_file and options.log_file.with_suffix(".aoe.log")
            named = " and ".join(JOBS[job] for job in jobs)
            print(f"aoe tunes the {named} of {model.name}; this can take hours", flush=True)
            tuned = tune(source, om, jobs, arguments.precision_option_of_aoe(options.precision), aoe_log)
        print(f"atc compiles {model.name} for {soc_version}; this can take minutes", flush=True)
        facts = convert(source, om, soc_version, more, options.log_file)
        facts["aoe"] = tuned
        if options.json:
            write_json(options.json, facts)
        print(f"wrote {om}: {facts['bytes']:,} bytes in {facts['seconds']:.0f} s; atc's output is in {facts['log']}")
        for job in tuned:
            print(_tuning_report(job))


def _tuning_report(tuned: dict[str, Any]) -> str:
    before, after = tuned["milliseconds_before"], tuned["milliseconds_after"]
    change = f"from {before:.3f} to {after:.3f} ms per batch, " if before and after else ""
    report = tuned["report"] or "none, because nothing was improved"
    return f"aoe, {tuned['tuned']}: {change}in {tuned['seconds']:.0f} s; report: {report}"


def _parser() -> CommandParser:
    usage = "%(prog)s FILE.onnx ... [OPTION ...]"
    parser = CommandParser(mixed=True, prog="python -m model.export.atc", description=__doc__, usage=usage)
    add = parser.add_argument
    add("models", nargs="+", type=Path, metavar="FILE.onnx", help="ONNX model written by pth2onnx.py")
    add("--soc_version", default="", metavar="NAME", help="SoC that will run the om (default: the NPU of this "
        "machine, or Ascend310 without an NPU)")  # fmt: skip
    add("--atc_options", default="", metavar="TEXT", help="more options for atc, written as on its command line")
    add("--relative_to", type=Path, metavar="DIR", help="folder in which relative paths in --atc_options start "
        "(default: the current folder)")  # fmt: skip
    add("--precision", default="", metavar="NAME", help="precision of the om: fp16, fp32 or mixed (default: atc's "
        "default, which is fp16)")  # fmt: skip
    add("--aoe", nargs="?", const="2", choices=CHOICES, metavar="JOB", help="tune the model with CANN's aoe before atc "
        "runs: 1 (subgraphs), 2 (operators; also if JOB is missing) or both (default: no tuning)")  # fmt: skip
    add("--input_shape", default="", metavar="TEXT", help="shape of the input of a model with a symbolic batch size, "
        "such as image_seq:16,100,64,44 (default: the shape in the model)")  # fmt: skip
    add("--log_file", type=Path, metavar="FILE", help="write atc's output to this file (default: NAME.atc.log next to "
        "the om)")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write a summary of the conversion to this JSON file")
    add("--no_lint", action="store_true", help="convert the model without a check of its graph")
    add("--check", action="store_true", help="check the options and atc, print the SoC version, and "
        "convert nothing")  # fmt: skip
    return parser


if __name__ == "__main__":
    run_command(main)
