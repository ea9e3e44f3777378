"""Write labelled embeddings for other programs, as NetCDF (xarray, Matlab, R) or Parquet (pandas, DuckDB).

examples:
  # all sequences of a tree with a checkpoint
  python -m model.embed --data_path work/CASIA-B-pre --checkpoint some-encoder.ptm --output embeddings.nc

  # a table with one row per sequence: subject, seq_type, view, frames, embedding
  python -m model.embed --data_path work/CASIA-B-pre --checkpoint some-encoder.ptm --output embeddings.parquet

  # the test subjects, with the checkpoint of the config
  python -m model.embed --part test --output test.nc

  # an OpenGait pickle tree, on the first GPU, in half precision
  python -m model.embed --data_path GREW-pkl --checkpoint some-encoder.ptm --device cuda --amp torch --output grew.nc

The file is written batch by batch, so it can be larger than the memory. An incomplete file is never left behind.
Read the file in Python:
  xarray.open_dataset("embeddings.nc").embeddings.sel(bin=0)
  pandas.read_parquet("embeddings.parquet", columns=["subject", "view", "embedding"])
"""

from pathlib import Path

from model.common.command_line import CommandParser
from model.common.errors import run_command
from model.common.messages import set_up_logging
from model.settings.config_options import add_common_options, add_options, add_precision_options


def options_parser() -> CommandParser:
    parser = CommandParser(prog="python -m model.embed", description=__doc__)
    add_common_options(parser)
    add_precision_options(parser, "off", "torch")
    group = parser.add_argument_group("embeddings")
    group.add_argument("--output", type=Path, required=True, help="output file, .nc or .parquet")
    add_options(group, "checkpoint", "batch_size")
    group.add_argument("--iter", type=int, help="iteration of the checkpoint (default: total_iter of the config, or "
                       "the last checkpoint if total_iter has no checkpoint)")  # fmt: skip
    group.add_argument("--part", choices=("all", "train", "test"), default="all", help="subjects to embed")
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = options_parser().parse_args(arguments)
    set_up_logging(options.quiet)
    from model.common.provenance import provenance
    from model.devices.device import describe
    from model.embeddings.files import check_format, write_embeddings
    from model.initialization import open_embedder

    check_format(options.output)
    config, device, loaded, store, batches = open_embedder(options)
    facts = {
        "checkpoint": str(loaded.checkpoint), "data": str(config.data.dataset_path), "dataset": config.data.dataset,
        "part": options.part, "device": describe(device), "amp": config.model.amp, **provenance(),
    }  # fmt: skip
    write_embeddings(options.output, store.index, batches, facts, loaded.network.hidden_dim)
    print(
        f"wrote {options.output}: {len(store.index):,} embeddings of {len(store.index.subjects):,} subjects, "
        f"{options.output.stat().st_size / 1e6:,.0f} MB"
    )


if __name__ == "__main__":
    run_command(main)
