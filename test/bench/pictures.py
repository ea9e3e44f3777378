"""Make the pictures of the README from the output of `bash test/quickstart.sh`.

  python test/bench/pictures.py --work_path work/quickstart --output_path model/docs/pictures
  python test/bench/pictures.py --work_path work/quickstart --output_path pictures --subject 030 --seq_type cl-01

Writes pipeline.png (one sequence on its whole way), walkers.png (a contact sheet of four subjects) and, with Chromium
on the PATH, report.png and mistakes.png (parts of the page). Small enough to be kept in a repository.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from model.common.command_line import CommandParser
from model.common.errors import UserError, run_command
from model.report.charts import check_matplotlib
from model.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAMES_SHOWN = 9
VIEWS_SHOWN = ("000", "036", "090", "144", "180")
TAKES_SHOWN = ("nm-01", "bg-01", "cl-01")
PAGES = ("shipped.html", "quickstart.html")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    check_matplotlib()
    raw, aligned, results = (options.work_path / name for name in ("walkers", "walkers-pre", "results"))
    sequence = Path(options.subject, options.seq_type, options.view)
    for needed in (raw / sequence, aligned / sequence, results):
        if not needed.is_dir():
            raise UserError(f"{needed}: no such folder; run bash test/quickstart.sh first, or name others (--help)")
    options.output_path.mkdir(parents=True, exist_ok=True)
    checkpoints = sorted((options.work_path / "checkpoint" / "GaitSet").glob("*-encoder.ptm"))
    pipeline = _pipeline(raw / sequence, aligned / sequence, checkpoints[-1])
    written = [
        _save(pipeline, options.output_path / "pipeline.png"),
        _save(_walkers(aligned), options.output_path / "walkers.png"),
    ]
    # The better trained encoder's page, where there is one, is more like what users will see.
    page = next((found for name in PAGES if (found := results / name).is_file()), results / PAGES[-1])
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser and page.is_file():
        only_mistakes = "<style>main > :not(#mistakes) { display: none; }</style></head>"
        for name, style, height in (("report.png", "</head>", 1560), ("mistakes.png", only_mistakes, 780)):
            text = page.read_text(encoding="utf-8").replace("</head>", style, 1)
            written.append(_screenshot(browser, text, options.output_path / name, height))
    for path in written:
        print(f"wrote {path}: {path.stat().st_size / 1e3:.0f} kB")


def _pipeline(raw: Path, aligned: Path, checkpoint: Path) -> Figure:
    """Raw frames, aligned frames, what set pooling keeps of them, the embedding."""
    import torch
    from matplotlib.figure import Figure

    from model.checkpoints.checkpoint import load_encoder, load_tensors
    from model.data.raw.silhouette import cut_sides, read_image
    from model.network import GaitSet

    sils = cut_sides(np.stack([read_image(path) for path in sorted(aligned.glob("*.png"))]))
    network = GaitSet(load_tensors(checkpoint)["fc_bin.0"].shape[2])
    load_encoder(network, checkpoint)
    with torch.inference_mode():
        maps = list(network.eval().pooled_maps(torch.from_numpy(sils), [len(sils)]))
        embedding = network.embed(*maps)[0].numpy()
    figure = Figure(figsize=(11, 2.7), layout="constrained", facecolor=LIGHT["page"])
    panels = figure.subplots(1, 4, width_ratios=(1.5, 1.5, 1.0, 1.5))
    pictures = (
        (_tiled([read_image(path) for path in sorted(raw.glob("*.png"))], 3, 3), "gray", "1  raw silhouettes"),
        (_tiled(list(sils), 3, 6), "gray", "2  aligned to 64 × 44"),
        (maps[0][0].mean(0).numpy(), "viridis", "3  maximum over the frames"),
        (embedding.clip(*np.percentile(embedding, (2, 98))), "viridis", "4  62 strips × 256 numbers"),
    )
    for axes, (picture, colours, title) in zip(panels, pictures, strict=True):
        axes.imshow(picture, cmap=colours, aspect="auto" if picture.shape == embedding.shape else "equal")
        axes.set_title(title, fontsize=11, color=LIGHT["text"])
        axes.set_axis_off()
    return figure


def _walkers(aligned: Path) -> Figure:
    """Four subjects, three takes, five views: one frame each."""
    from matplotlib.figure import Figure

    from model.data.raw.silhouette import read_image

    subjects = sorted(path.name for path in aligned.iterdir() if path.is_dir())[:4]
    rows = []
    for take in TAKES_SHOWN:
        folders = [aligned / subject / take / view for subject in subjects for view in VIEWS_SHOWN]
        frames = [sorted(folder.glob("*.png")) for folder in folders]
        rows.append([read_image(found[len(found) // 2])[:, 10:54] for found in frames])
    figure = Figure(figsize=(11, 2.75), facecolor=LIGHT["page"])
    axes = figure.add_axes((0.055, 0, 0.945, 0.91))
    axes.imshow(np.concatenate([np.concatenate(row, axis=1) for row in rows]), cmap="gray", aspect="equal")
    for number, take in enumerate(TAKES_SHOWN):
        axes.text(-6, 64 * number + 32, take, ha="right", va="center", fontsize=10, color=LIGHT["text"])
    for number, subject in enumerate(subjects):
        middle = 44 * len(VIEWS_SHOWN) * (number + 0.5)
        axes.text(middle, -6, f"{subject}, seen from 0° to 180°", ha="center", fontsize=10, color=LIGHT["text"])
        axes.axvline(44 * len(VIEWS_SHOWN) * number - 0.5, color=LIGHT["page"], linewidth=2)
    axes.set_axis_off()
    return figure


def _tiled(frames: list[np.ndarray], rows: int, columns: int) -> np.ndarray:
    """Frames spread evenly over the sequence, in rows, one pixel apart."""
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, rows * columns).round().astype(int)]
    framed = [np.pad(frame, 2, constant_values=110) for frame in chosen]
    return np.concatenate([np.concatenate(framed[i : i + columns], axis=1) for i in range(0, len(framed), columns)])


def _save(figure: Figure, path: Path) -> Path:
    from PIL import Image

    figure.savefig(path, dpi=110)
    with Image.open(path) as image:
        image.convert("RGB").quantize(128).save(path, optimize=True)
    return path


def _screenshot(browser: str, text: str, path: Path, height: int) -> Path:
    from PIL import Image

    with tempfile.TemporaryDirectory() as profile:
        page = Path(profile, "page.html")
        page.write_text(text, encoding="utf-8")
        command = [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--user-data-dir={profile}", f"--window-size=1100,{height}", f"--screenshot={path.resolve()}",
            page.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode or not path.exists():
        raise UserError(f"{browser} made no picture of the page: {done.stderr.strip().splitlines()[-1:]}")
    with Image.open(path) as image:
        image.convert("RGB").save(path, optimize=True)  # few colours would lose those of thin lines
    return path


def _parser() -> CommandParser:
    parser = CommandParser(prog="python test/bench/pictures.py", description=__doc__)
    parser.add_argument("--work_path", type=Path, required=True, metavar="DIR", help="of a quickstart")
    parser.add_argument("--output_path", type=Path, required=True, metavar="DIR", help="folder of the pictures")
    parser.add_argument("--subject", default="021", metavar="NAME", help="whose sequence is shown on its way (021)")
    parser.add_argument("--seq_type", default="nm-05", metavar="TAKE", help="(nm-05)")
    parser.add_argument("--view", default="090", metavar="VIEW", help="(090)")
    return parser


if __name__ == "__main__":
    run_command(main)
