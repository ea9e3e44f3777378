"""Export a checkpoint to ONNX, for Ascend's converter ATC or for ONNX Runtime on the CPU.

Models for ATC have static shapes and opset 11. Each model is checked and compared with PyTorch before it is written:
  python pth2onnx.py --input_path work/checkpoint/GaitSet/...-80000-encoder.ptm
  python pth2onnx.py --iters 80000                                    exports iteration 80000 of the config's training
  python pth2onnx.py --input_path some-encoder.ptm --batch_size 16    writes gaitset_submit_bs16.onnx
  python pth2onnx.py --frame_num 30 50                                writes gaitset_submit_f30.onnx and ..._f50.onnx
Models for the CPU take sequences of any length and use each frame once:
  python pth2onnx.py --whole                                          writes gaitset_submit_whole.onnx
  python pth2onnx.py --int8 --data_path work/CASIA-B-pre              writes gaitset_submit_int8.onnx
"""

from functools import partial
from pathlib import Path
from shlex import quote

from model.common.command_line import CommandParser, positive
from model.common.errors import UsageError, run_command
from model.common.messages import set_up_logging
from model.settings.config_options import add_options

CALIBRATION_DATA = ("data_path", "pickle", "dataset", "partition", "pid_num")


def options_parser() -> CommandParser:
    parser = CommandParser(prog="pth2onnx.py", description=__doc__)
    parser.add_argument("--input_path", "--checkpoint", type=Path, help="encoder checkpoint to export (default: "
                        "the checkpoint of the config and --iters)")  # fmt: skip
    parser.add_argument("--iters", type=int, default=-1, help="iteration of the checkpoint (default: -1, which means "
                        "total_iter of the config, or the last iteration if total_iter is not saved)")  # fmt: skip
    add_options(parser, "config", "work_path")
    parser.add_argument("--output_path", type=Path, help="ONNX file to write (default: gaitset_submit.onnx, with a "
                        "suffix for --batch_size, --whole and --int8)")  # fmt: skip
    parser.add_argument("--batch_size", type=positive, default=1, help="number of sequences per batch of the model")
    parser.add_argument("--frame_num", type=positive, nargs="+", default=[100], help="number of frames per sequence "
                        "(default: 100); several values write one model each with the suffix _f<N>, of which test.py "
                        "takes the one that fits a sequence")  # fmt: skip
    group = parser.add_argument_group("models for ONNX Runtime on the CPU (not for ATC)")
    group.add_argument("--whole", action="store_true", help="export a float32 model for sequences of any length")
    group.add_argument("--int8", action="store_true", help="export a model for sequences of any length, with 8-bit "
                       "integers in the set layers (the convolutions that run on each frame)")  # fmt: skip
    group = parser.add_argument_group("training sequences for 8-bit calibration")
    group.add_argument("--calibration_bins", type=Path, metavar="DIR", help="also write the calibration sequences to "
                       "DIR, as input files for Ascend's quantization tool AMCT")  # fmt: skip
    add_options(group, "dataset_path", *CALIBRATION_DATA[1:])
    parser.add_argument("--json", type=Path, help="write a summary of the export to this JSON file")
    parser.add_argument("--quiet", action="store_true", help="print only warnings and results")
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = options_parser().parse_args(arguments)
    check(options)
    import torch

    from model.common.json_files import write_json
    from model.initialization import load_network
    from model.settings.config_file import load_config, overrides_of

    set_up_logging(options.quiet)
    # The exported model is float32, whichever precision the config trains with.
    overrides = {**overrides_of(options), "total_iter": None, "frame_num": None, "amp": "off"}
    config = load_config(options.config, overrides)
    loaded = load_network(config, options.input_path, options.iters, torch.device("cpu"))
    network, checkpoint = loaded.network, loaded.checkpoint
    if options.whole or options.int8:
        facts = export_variable(options, config, network, checkpoint)
    else:
        facts = export_static(options, config, network, checkpoint)
    if options.json is not None:
        write_json(options.json, {"checkpoint": str(checkpoint), **facts})


def check(options) -> None:
    """Check the combination of options. Raises UsageError."""
    if options.whole and options.int8:
        raise UsageError("--whole and --int8: use only one of them")
    for name, standard in (("batch_size", 1), ("frame_num", [100]), ("calibration_bins", None)):
        if (options.whole or options.int8) and getattr(options, name) != standard:
            raise UsageError(
                f"--{name}: not available with --whole and --int8, because only models for ATC have a fixed number of "
                "sequences and frames; omit it"
            )
    for name in CALIBRATION_DATA:
        if getattr(options, name) is not None and not (options.int8 or options.calibration_bins):
            raise UsageError(f"--{name}: only for calibration; omit it, or add --int8 or --calibration_bins")
    if options.partition == "all":
        raise UsageError("--partition all: has no training subjects for calibration; use a partition file")
    if options.calibration_bins and (options.batch_size > 1 or len(options.frame_num) > 1):
        raise UsageError(
            "--calibration_bins: every file holds one sequence of the same length; use a single --frame_num and omit "
            "--batch_size"
        )


def export_static(options, config, network, checkpoint: Path) -> dict:
    """Export one static model per value of --frame_num. With --calibration_bins, also write input files for AMCT."""
    from model.export.onnx_export import export_onnx
    from model.runtime.ort_runtime import OrtRuntime

    suffix = "" if options.batch_size == 1 else f"_bs{options.batch_size}"
    path = options.output_path or Path(f"gaitset_submit{suffix}.onnx")
    models = []
    for frame_num in options.frame_num:
        # test.py reads the number of frames of a model from the file name.
        model_path = path if len(options.frame_num) == 1 else path.with_name(f"{path.stem}_f{frame_num}{path.suffix}")
        facts = export_onnx(network, model_path, options.batch_size, frame_num, quiet=options.quiet, runtime=OrtRuntime)
        models.append(facts)
        print(
            f"wrote {model_path} from {checkpoint}: batch size {options.batch_size}, {frame_num} frames, "
            f"{facts['bytes'] / 1e6:.1f} MB, opset {facts['opset']}; suitable for ATC; maximum "
            f"difference from PyTorch {facts['largest_difference']:.1g}"
        )
    if len(models) > 1:
        print(f"next: python test.py --runtime auto --checkpoint {quote(str(path.with_suffix('')))}")
        return {"models": models}
    if options.calibration_bins is None:
        command = f"python -m model.runtime --model {quote(str(path))} --info <dataset>-bin.info"
        print(f"next: python test.py --pre_process, then {command}")
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
        f"next, on a machine with AMCT: amct_onnx calibration --model {quote(str(path))} --save_path int8/gaitset "
        f'--input_shape "image_seq:1,{frame_num},64,44" --data_dir {quote(str(folder))} --data_types float32 '
        f"--batch_num {len(positions)}"
    )
    return facts


def export_variable(options, config, network, checkpoint: Path) -> dict:
    """Export a model for sequences of any length for ONNX Runtime, in float32 or with 8-bit set layers."""
    from model.export.int8 import HELD_OUT_SEQUENCES
    from model.export.variable_length import export_int8, export_variable_length
    from model.runtime.variable_length_runtime import VariableLengthRuntime

    path = options.output_path or Path(f"gaitset_submit_{'int8' if options.int8 else 'whole'}.onnx")
    if options.int8:
        train, positions, held_out, data = calibration_sequences(options, config, HELD_OUT_SEQUENCES)
        sequences, others = ([train.sequence(position) for position in each] for each in (positions, held_out))
        facts = {**export_int8(network, path, sequences, others, partial(VariableLengthRuntime, check=False)), **data}
        comparison = (
            f"8-bit set layers, calibrated with {len(sequences)} training sequences; relative difference from PyTorch "
            f"{100 * facts['relative_error']:.1f} % on {len(others)} other sequences"
        )
    else:
        facts = export_variable_length(network, path, runtime=VariableLengthRuntime)
        comparison = f"maximum difference from PyTorch {facts['largest_difference']:.1g}"
    print(f"wrote {path} from {checkpoint}: sequences of any length, {facts['bytes'] / 1e6:.1f} MB; {comparison}")
    print(f"next: python test.py --runtime onnxruntime --checkpoint {quote(str(path))}")
    return facts


def calibration_sequences(options, config, held_out: int = 0):
    """Return the training data, the positions of calibration sequences and of held-out sequences, and a summary.

    The selected sequences are spread over all training subjects. If `held_out` is not 0, one in five of them is held
    out.
    """
    from model.export.int8 import CALIBRATION_SEQUENCES, spread_positions
    from model.initialization import open_dataset

    train = open_dataset(config, options.partition).train
    positions = spread_positions(train.index.frames, CALIBRATION_SEQUENCES + held_out)
    others = positions[1 :: CALIBRATION_SEQUENCES // held_out + 1] if held_out else []
    positions = [position for position in positions if position not in others]
    facts = {"calibration_data": str(config.data.dataset_path)}
    for key, selected in (("calibrated_with", positions), ("checked_with", others)):
        facts[key] = [train.index.name(position) for position in selected]
    return train, positions, others, facts


if __name__ == "__main__":
    run_command(main)
