"""Export a checkpoint as ONNX (opset 11, static shapes), linted for ATC and compared with torch before it is kept.

python pth2onnx.py --input_path work/checkpoint/GaitSet/...-80000-encoder.ptm
python pth2onnx.py --iters 80000                                 the config's experiment at that iteration
python pth2onnx.py --input_path some-encoder.ptm --batch_size 16    writes gaitset_submit_bs16.onnx
"""

from __future__ import annotations

from pathlib import Path

from model.command_line import CommandParser, positive
from model.errors import run_command
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
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the facts of the export")
    parser.add_argument("--quiet", action="store_true", help="only warnings and results")
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = options_parser().parse_args(arguments)
    import torch

    from model.config import load_config
    from model.export.onnx_export import export_onnx
    from model.files import write_json
    from model.initialization import load_network

    set_up_logging(options.quiet)
    # Exported in float32, in whatever precision it was trained.
    config = load_config(options.config, {"work_path": options.work_path, "amp": "off"})
    network, checkpoint = load_network(config, options.input_path, options.iters, torch.device("cpu"))
    suffix = "" if options.batch_size == 1 else f"_bs{options.batch_size}"
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


if __name__ == "__main__":
    run_command(main)
