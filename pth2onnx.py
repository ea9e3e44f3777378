"""Export a checkpoint as ONNX (opset 11, static shapes), linted for ATC and compared with torch before it is kept.

python pth2onnx.py --input_path work/checkpoint/GaitSet/...-80000-encoder.ptm
python pth2onnx.py --iters 80000                                 the config's experiment at that iteration
python pth2onnx.py --input_path some-encoder.ptm --batch_size 16    writes gaitset_submit_bs16.onnx
python pth2onnx.py --int8 --data_path work/CASIA-B-pre              for ONNX Runtime on a processor
"""

from __future__ import annotations

from pathlib import Path

from model.command_line import CommandParser, positive
from model.errors import UsageError, run_command
from model.messages import set_up_logging

ROOT = Path(__file__).resolve().parent


def options_parser() -> CommandParser:
    parser = CommandParser(prog="pth2onnx.py", description=__doc__)
    parser.add_argument("--input_path", type=Path, metavar="FILE", help="an encoder (.ptm)")
    parser.add_argument(
        "--iters", type=int, default=-1, metavar="N", help="iteration; -1: the config's total_iter, else the last (-1)"
    )
    parser.add_argument("--config", type=Path, default=ROOT / "config_1p.py", metavar="FILE", help="(config_1p.py)")
    parser.add_argument("--work_path", metavar="DIR", help="where checkpoints are kept (the config's)")
    parser.add_argument(
        "--output_path", type=Path, metavar="FILE", help="(gaitset_submit.onnx, with _bs<N> for batch N)"
    )
    parser.add_argument("--batch_size", type=positive, default=1, metavar="N", help="sequences a run, fixed (1)")
    parser.add_argument("--frame_num", type=positive, default=100, metavar="N", help="frames a sequence, fixed (100)")
    group = parser.add_argument_group("8 bit, for ONNX Runtime on a processor (not for ATC)")
    group.add_argument("--int8", action="store_true", help="set layers in whole numbers, ranges from training subjects")
    group.add_argument("--data_path", metavar="DIR", help="aligned tree or store to calibrate with (the config's)")
    group.add_argument("--dataset", metavar="NAME", help="(the config's)")
    group.add_argument("--partition", metavar="FILE", help="who trains: only those are calibrated with (the config's)")
    group.add_argument("--pid_num", type=positive, metavar="N", help="subjects that train (the config's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the facts of the export")
    parser.add_argument("--quiet", action="store_true", help="only warnings and results")
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = options_parser().parse_args(arguments)
    for name in ("data_path", "dataset", "partition", "pid_num"):
        if getattr(options, name) is not None and not options.int8:
            raise UsageError(f"--{name}: is for calibration, so give --int8 as well")
    if options.partition == "all":
        raise UsageError("--partition all: leaves no training subject to calibrate with; give a partition's file")
    import torch

    from model.config import load_config
    from model.export.onnx_export import export_onnx
    from model.files import write_json
    from model.initialization import load_network

    set_up_logging(options.quiet)
    # Exported in float32, in whatever precision it was trained.
    config = load_config(options.config, {**calibration_overrides(options), "amp": "off"})
    network, checkpoint = load_network(config, options.input_path, options.iters, torch.device("cpu"))
    suffix = "" if options.batch_size == 1 else f"_bs{options.batch_size}"
    if options.int8:
        return export_whole_numbers(options, config, network, checkpoint, suffix)
    path = options.output_path or Path(f"gaitset_submit{suffix}.onnx")
    facts = export_onnx(network, path, options.batch_size, options.frame_num, quiet=options.quiet)
    if options.json is not None:
        write_json(options.json, {"checkpoint": str(checkpoint), **facts})
    size = path.stat().st_size / 1e6
    print(
        f"wrote {path} from {checkpoint}: batch {options.batch_size}, {options.frame_num} frames, {size:.1f} MB, opset "
        f"{facts['opset']}; suits ATC; differs from torch by {facts['largest_difference']:.1g} at most"
    )
    print(f"next: python test.py --pre_process, then python -m model.runtime --model {path} --info <dataset>-bin.info")


def calibration_overrides(options) -> dict:
    return {
        "work_path": options.work_path,
        "dataset_path": options.data_path,
        "dataset": options.dataset,
        "pid_num": options.pid_num,
    }


def export_whole_numbers(options, config, network, checkpoint: Path, suffix: str) -> None:
    """The 8 bit model, calibrated with sequences spread over all training subjects."""
    from model.export.int8 import SEQUENCES, export_int8, spread_positions
    from model.files import write_json
    from model.initialization import open_dataset

    train = open_dataset(config, options.partition, quiet=options.quiet).train
    positions = spread_positions(train.index.frames, SEQUENCES)
    used = [train.index.name(position) for position in positions]
    path = options.output_path or Path(f"gaitset_submit_int8{suffix}.onnx")
    sequences = [train.sequence(position) for position in positions]
    facts = export_int8(network, path, sequences, options.batch_size, options.frame_num)
    if options.json is not None:
        data = {"calibration_data": str(config.data.dataset_path), "calibrated_with": used}
        write_json(options.json, {"checkpoint": str(checkpoint), **data, **facts})
    print(
        f"wrote {path} from {checkpoint}: set layers in 8 bit, {facts['bytes'] / 1e6:.1f} MB; calibrated with "
        f"{len(used)} training sequences; differs from torch by {100 * facts['relative_error']:.1f} %"
    )
    print(f"next: python test.py --runtime onnxruntime --checkpoint {path}")


if __name__ == "__main__":
    run_command(main)
