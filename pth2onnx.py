"""Export a checkpoint as ONNX: for ATC with static shapes, for ONNX Runtime on a processor with open ones.

For ATC (opset 11), linted and compared with torch before it is kept:
  python pth2onnx.py --input_path work/checkpoint/GaitSet/...-80000-encoder.ptm
  python pth2onnx.py --iters 80000                                    the config's experiment at that iteration
  python pth2onnx.py --input_path some-encoder.ptm --batch_size 16    writes gaitset_submit_bs16.onnx
  python pth2onnx.py --frame_num 30 50 100 150                        gaitset_submit_f30.onnx and so on
For a processor, sequences of any length, each frame computed once:
  python pth2onnx.py --whole                                          gaitset_submit_whole.onnx
  python pth2onnx.py --int8 --data_path work/CASIA-B-pre              gaitset_submit_int8.onnx
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from model.common.command_line import CommandParser, positive
from model.common.errors import UsageError, run_command
from model.common.messages import set_up_logging

ROOT = Path(__file__).resolve().parent


def options_parser() -> CommandParser:
    parser = CommandParser(prog="pth2onnx.py", description=__doc__)
    parser.add_argument("--input_path", type=Path, metavar="FILE", help="encoder to export (.ptm)")
    parser.add_argument(
        "--iters",
        type=int,
        default=-1,
        metavar="N",
        help="iteration of the checkpoint; -1: total_iter of the config, else the last (default: -1)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=ROOT / "config_1p.py",
        metavar="FILE",
        help="configuration (default: config_1p.py)",
    )
    parser.add_argument("--work_path", metavar="DIR", help="folder of the checkpoints (default: that of the config)")
    parser.add_argument(
        "--output_path",
        type=Path,
        metavar="FILE",
        help="(gaitset_submit.onnx; _bs<N> for batch N, _f<N> for each of several --frame_num)",
    )
    parser.add_argument("--batch_size", type=positive, default=1, metavar="N", help="sequences a run, fixed (1)")
    parser.add_argument(
        "--frame_num", type=positive, nargs="+", default=[100], metavar="N",
        help="frames a sequence, fixed (100); several: a model each, of which test.py takes one by a sequence's length",
    )  # fmt: skip
    group = parser.add_argument_group("for ONNX Runtime on a processor (not for ATC)")
    group.add_argument("--whole", action="store_true", help="sequences of any length, in float32")
    group.add_argument("--int8", action="store_true", help="the same, set layers in 8 bit whole numbers")
    group = parser.add_argument_group("training sequences that 8 bit ranges are taken from")
    group.add_argument("--calibration_bins", type=Path, metavar="DIR", help="write them for Ascend's AMCT, too")
    group.add_argument("--data_path", metavar="DIR", help="aligned tree or store (the config's)")
    group.add_argument("--dataset", metavar="NAME", help="(the config's)")
    group.add_argument("--partition", metavar="FILE", help="who trains: only those are taken (the config's)")
    group.add_argument("--pid_num", type=positive, metavar="N", help="subjects that train (the config's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the facts of the export")
    parser.add_argument("--quiet", action="store_true", help="only warnings and results")
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = options_parser().parse_args(arguments)
    check(options)
    import torch

    from model.common.files import write_json
    from model.config import load_config
    from model.initialization import load_network

    set_up_logging(options.quiet)
    # Exported in float32, in whatever precision it was trained.
    config = load_config(options.config, {**calibration_overrides(options), "amp": "off"})
    loaded = load_network(config, options.input_path, options.iters, torch.device("cpu"))
    network, checkpoint = loaded.network, loaded.checkpoint
    if options.whole or options.int8:
        facts = export_for_processor(options, config, network, checkpoint)
    else:
        facts = export_static(options, config, network, checkpoint)
    if options.json is not None:
        write_json(options.json, {"checkpoint": str(checkpoint), **facts})


def check(options) -> None:
    """Refuse options that say nothing together."""
    if options.whole and options.int8:
        raise UsageError("--whole and --int8: both take whole sequences, give one at a time")
    for name, standard in (("batch_size", 1), ("frame_num", [100]), ("calibration_bins", None)):
        if (options.whole or options.int8) and getattr(options, name) != standard:
            raise UsageError(
                f"--{name}: is for static models; --whole and --int8 take any number of sequences and frames"
            )
    for name in ("data_path", "dataset", "partition", "pid_num"):
        if getattr(options, name) is not None and not (options.int8 or options.calibration_bins):
            raise UsageError(f"--{name}: is for calibration, so give --int8 or --calibration_bins as well")
    if options.partition == "all":
        raise UsageError("--partition all: leaves no training subject to calibrate with; give a partition's file")
    if options.calibration_bins and (options.batch_size > 1 or len(options.frame_num) > 1):
        raise UsageError("--calibration_bins: holds a sequence a file, so give one --frame_num and no --batch_size")


def export_static(options, config, network, checkpoint: Path) -> dict:
    """One model, or one for each --frame_num; with --calibration_bins what AMCT wants beside it."""
    from model.export.onnx_export import export_onnx
    from model.runtime.ort_runtime import OrtRuntime

    suffix = "" if options.batch_size == 1 else f"_bs{options.batch_size}"
    path = options.output_path or Path(f"gaitset_submit{suffix}.onnx")
    models = []
    for frame_num in options.frame_num:
        # The name by which test.py finds a model of its length.
        own = path if len(options.frame_num) == 1 else path.with_name(f"{path.stem}_f{frame_num}{path.suffix}")
        facts = export_onnx(network, own, options.batch_size, frame_num, quiet=options.quiet, runtime=OrtRuntime)
        models.append(facts)
        print(
            f"wrote {own} from {checkpoint}: batch {options.batch_size}, {frame_num} frames, "
            f"{facts['bytes'] / 1e6:.1f} MB, opset {facts['opset']}; suits ATC; differs from torch by "
            f"{facts['largest_difference']:.1g} at most"
        )
    if len(models) > 1:
        print(f"next: python test.py --runtime auto --checkpoint {path.with_suffix('')}")
        return {"models": models}
    if options.calibration_bins is None:
        print(
            f"next: python test.py --pre_process, then python -m model.runtime --model {path} --info <dataset>-bin.info"
        )
        return facts
    return {**facts, **write_calibration_bins(options, config, path)}


def write_calibration_bins(options, config, path: Path) -> dict:
    from model.export.input_files import FixedLength, write_input_files

    train, positions, _, facts = calibration_sequences(options, config)
    folder = options.calibration_bins
    [frame_num] = options.frame_num
    info = folder.with_name(f"{folder.name}.info")
    write_input_files(train, positions, folder, info, FixedLength(frame_num), quiet=options.quiet)
    print(
        f"next, where AMCT is: amct_onnx calibration --model {path} --save_path int8/gaitset --input_shape "
        f'"image_seq:1,{frame_num},64,44" --data_dir {folder} --data_types float32 --batch_num {len(positions)}'
    )
    return facts


def export_for_processor(options, config, network, checkpoint: Path) -> dict:
    """Open shapes for ONNX Runtime, in float32 or with set layers in 8 bit."""
    from model.export.int8 import HELD_OUT_SEQUENCES
    from model.export.variable_length import export_int8, export_variable_length
    from model.runtime.variable_length_runtime import VariableLengthRuntime

    path = options.output_path or Path(f"gaitset_submit_{'int8' if options.int8 else 'whole'}.onnx")
    if options.int8:
        train, positions, held_out, data = calibration_sequences(options, config, HELD_OUT_SEQUENCES)
        sequences, others = ([train.sequence(position) for position in each] for each in (positions, held_out))
        facts = {**export_int8(network, path, sequences, others, partial(VariableLengthRuntime, check=False)), **data}
        told = (
            f"set layers in 8 bit, calibrated with {len(sequences)} training sequences; differs from torch by "
            f"{100 * facts['relative_error']:.1f} % of an embedding's length on {len(others)} others"
        )
    else:
        facts = export_variable_length(network, path, runtime=VariableLengthRuntime)
        told = f"differs from torch by {facts['largest_difference']:.1g} at most"
    print(f"wrote {path} from {checkpoint}: sequences of any length, {facts['bytes'] / 1e6:.1f} MB; {told}")
    print(f"next: python test.py --runtime onnxruntime --checkpoint {path}")
    return facts


def calibration_sequences(options, config, held_out: int = 0):
    """Return the training data, positions to calibrate with, `held_out` others, and facts that name both.

    Both are spread over all subjects. Where there are fewer sequences, about one in five is held out.
    """
    from model.export.int8 import CALIBRATION_SEQUENCES, spread_positions
    from model.initialization import open_dataset

    train = open_dataset(config, options.partition, quiet=options.quiet).train
    positions = spread_positions(train.index.frames, CALIBRATION_SEQUENCES + held_out)
    others = positions[1 :: CALIBRATION_SEQUENCES // held_out + 1] if held_out else []
    positions = [position for position in positions if position not in others]
    facts = {"calibration_data": str(config.data.dataset_path)}
    for key, its in (("calibrated_with", positions), ("checked_with", others)):
        facts[key] = [train.index.name(position) for position in its]
    return train, positions, others, facts


def calibration_overrides(options) -> dict:
    return {
        "work_path": options.work_path,
        "dataset_path": options.data_path,
        "dataset": options.dataset,
        "pid_num": options.pid_num,
    }


if __name__ == "__main__":
    run_command(main)
