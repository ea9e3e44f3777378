"""Convert ONNX files to om files with atc, one after the other.

    python -m model.export.atc gaitset_submit.onnx gaitset_submit_bs16.onnx
    python -m model.export.atc --soc_version=Ascend310P3 --atc_options="--op_select_implmode=high_precision" m.onnx
    python -m model.export.atc --precision=fp32 m.onnx     float32, with the option that this version of atc has
    python -m model.export.atc m.onnx --aoe                tunes the operators first, on a machine with the NPU (hours)
    python -m model.export.atc m.onnx --aoe=both           tunes the subgraphs (--aoe=1), then the operators (--aoe=2)
    python -m model.export.atc --input_shape=image_seq:16,100,64,44 other.onnx    a file with a symbolic batch size
    python -m model.export.atc --check m.onnx           checks all that does not need m.onnx; prints the SoC version

atc must be on the PATH: source CANN's set_env.sh first. NAME.om is written next to NAME.onnx, and with --input_shape
NAME_bs<N>.om for a batch size N above 1.
"""

import sys
from pathlib import Path
from typing import Any

from model.common.command_line import CommandParser
from model.common.errors import UsageError, run_command
from model.common.json_files import write_json
from model.common.messages import set_up_logging
from model.export.atc import arguments
from model.export.atc.convert import convert, source_of
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
            raise UsageError(f"{model}: is not an ONNX file by its name; give a name that ends in .onnx")
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
    parser = CommandParser(prog="python -m model.export.atc", description=__doc__, usage=usage)
    add = parser.add_argument
    add("models", nargs="+", type=Path, metavar="FILE.onnx", help="ONNX model written by pth2onnx.py")
    add("--soc_version", default="", metavar="NAME", help="SoC that will run the om (from npu-smi info, else "
        "Ascend310)")  # fmt: skip
    add("--atc_options", default="", metavar="TEXT", help="more options for atc, as on its command line (none)")
    add("--relative_to", type=Path, metavar="DIR", help="start of relative paths in --atc_options (the current folder)")
    add("--precision", default="", metavar="NAME", help="fp16, fp32 or mixed (atc's default, fp16)")
    add("--aoe", nargs="?", const="2", choices=CHOICES, metavar="JOB", help="tune with aoe before atc runs: 1 "
        "(subgraphs), 2 (operators, also --aoe alone) or both (none)")  # fmt: skip
    add("--input_shape", default="", metavar="TEXT", help="sizes of an input with a symbolic batch size, such as "
        "image_seq:16,100,64,44 (those of the model)")  # fmt: skip
    add("--log_file", type=Path, metavar="FILE", help="write atc's output to this file (NAME.atc.log)")
    add("--json", type=Path, metavar="FILE", help="write facts about the conversion")
    # store_true would take the file name after it as its value.
    add("--no_lint", action="store_const", const=True, help="pass the model to atc without a check")
    add("--check", action="store_const", const=True, help="only check what does not need the model")
    return parser


if __name__ == "__main__":
    run_command(main)
