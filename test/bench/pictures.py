"""Make the pictures of the README from the output of `bash test/quickstart.sh`.

  python test/bench/pictures.py --work_path work/quickstart --output_path model/docs/pictures
  python test/bench/pictures.py --work_path work/quickstart --output_path pictures --subject 030 --seq_type cl-01

The command writes pipeline.png (one sequence from raw frames to its embedding), walkers.png (frames of four subjects)
and video.png (preview and silhouettes of a video). If Chromium is on the PATH, it also writes report.png and
mistakes.png (parts of the report) and who.png (part of the page of `python -m model.identify who`).
"""

import itertools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from model.checkpoints.bundled import bundled_encoder
from model.checkpoints.loading import load_encoder, load_tensors
from model.checkpoints.metadata import encoders_in
from model.common.command_line import CommandParser
from model.common.errors import UserError, run_command
from model.data.raw.silhouette import align, cut_sides, read_image
from model.data.raw.video import Video
from model.identify import __main__ as identify
from model.network import GaitSet
from model.report.palette import LIGHT
from model.silhouettes.background import BackgroundSegmenter
from model.silhouettes.extraction import Settings, extract
from model.silhouettes.preview import draw
from model.synthetic.settings import WalkerSettings
from model.synthetic.video import write_video

VIEWS_SHOWN = ("000", "036", "090", "144", "180")
TAKES_SHOWN = ("nm-01", "bg-01", "cl-01")
SUBJECTS_SHOWN = 4
# In who.png, subjects 1 to 6 are enrolled. Subjects 3 to 8 are identified, and two of these subjects are unknown.
ENROLLED = slice(0, 6), ("nm-01", "nm-02"), ("000", "090", "126")
IDENTIFIED = slice(2, 8), ("nm-03",), ("090",)
# The page of the bundled encoder is preferred: this encoder is trained longer, so its page is closer to a real result.
PAGES = ("bundled.html", "quickstart.html")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    raw, aligned, results = (options.work_path / name for name in ("walkers", "walkers-pre", "results"))
    sequence = Path(options.subject, options.seq_type, options.view)
    for folder in (raw / sequence, aligned / sequence, results):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; run bash test/quickstart.sh first, or see --help")
    options.output_path.mkdir(parents=True, exist_ok=True)
    checkpoints = encoders_in(options.work_path / "checkpoint" / "GaitSet")
    written = [
        _save(_pipeline(raw / sequence, aligned / sequence, checkpoints[-1]), options.output_path / "pipeline.png"),
        _save(_walkers(aligned), options.output_path / "walkers.png"),
        _save(video_figure(), options.output_path / "video.png"),
    ]
    page = next((path for name in PAGES if (path := results / name).is_file()), None)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser and page:
        html = page.read_text(encoding="utf-8")
        only_mistakes = html.replace("</head>", "<style>main > :not(#mistakes) { display: none; }</style></head>", 1)
        for name, text, height in (("report.png", html, 1560), ("mistakes.png", only_mistakes, 780)):
            written.append(_screenshot(browser, text, options.output_path / name, height))
    if browser and bundled_encoder():
        hidden = "main > :not(#people), #people > :not(.mistakes) { display: none; }"
        html = _identification(aligned).replace("</head>", f"<style>{hidden}</style></head>", 1)
        written.append(_screenshot(browser, html, options.output_path / "who.png", 970))
    for path in written:
        print(f"wrote {path}: {path.stat().st_size / 1e3:.0f} kB")


def _identification(aligned: Path) -> str:
    """Enrol the subjects ENROLLED and identify the subjects IDENTIFIED with the bundled encoder. Return the page."""
    subjects = sorted(path.name for path in aligned.iterdir() if path.is_dir())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for tree, (part, *names) in (("gallery", ENROLLED), ("probes", IDENTIFIED)):
            for sequence in itertools.product(subjects[part], *names):
                shutil.copytree(aligned.joinpath(*sequence), folder.joinpath(tree, *sequence))
        common = ["--gallery", str(folder / "people.parquet"), "--checkpoint", str(bundled_encoder()),
                  "--work_path", name, "--device", "cpu", "--quiet"]  # fmt: skip
        identify.main(["enroll", *common, "--data_path", str(folder / "gallery")])
        identify.main(["who", *common, "--data_path", str(folder / "probes"), "--report", str(folder / "who.html")])
        return (folder / "who.html").read_text(encoding="utf-8")


def _pipeline(raw: Path, aligned: Path, checkpoint: Path) -> Figure:
    """Draw the stages of one sequence: raw frames, aligned frames, maps after set pooling, embedding."""
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
        _show(axes, picture, title, colours, aspect="auto" if picture.shape == embedding.shape else "equal")
    return figure


def _walkers(aligned: Path) -> Figure:
    """Draw the middle frame of each of the first subjects, for TAKES_SHOWN (rows) and VIEWS_SHOWN (columns)."""
    subjects = sorted(path.name for path in aligned.iterdir() if path.is_dir())[:SUBJECTS_SHOWN]
    rows = []
    for take in TAKES_SHOWN:
        folders = [aligned / subject / take / view for subject in subjects for view in VIEWS_SHOWN]
        frames = [sorted(folder.glob("*.png")) for folder in folders]
        rows.append(np.concatenate([cut_sides(read_image(paths[len(paths) // 2])) for paths in frames], axis=1))
    height, width = len(rows[0]), rows[0].shape[1] // len(subjects)
    figure = Figure(figsize=(11, 2.75), facecolor=LIGHT["page"])
    axes = figure.add_axes((0.055, 0, 0.945, 0.91))
    axes.imshow(np.concatenate(rows), cmap="gray", aspect="equal")
    for number, take in enumerate(TAKES_SHOWN):
        axes.text(-6, height * (number + 0.5), take, ha="right", va="center", fontsize=10, color=LIGHT["text"])
    for number, subject in enumerate(subjects):
        title = f"{subject}, seen from 0° to 180°"
        axes.text(width * (number + 0.5), -6, title, ha="center", fontsize=10, color=LIGHT["text"])
        axes.axvline(width * number - 0.5, color=LIGHT["page"], linewidth=2)
    axes.set_axis_off()
    return figure


def video_figure() -> Figure:
    """Draw a frame of the preview of a synthetic video, and the aligned silhouettes of all tracks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "walk.mp4")
        write_video(path, WalkerSettings(subjects=3))
        video = Video.open(path)
        tracks = extract(video, Path(folder, "tree"), Settings(), BackgroundSegmenter).tracks
        sils = [[read_image(file) for file in sorted(Path(folder, "tree", track).rglob("*.png"))] for track in tracks]
        number = len(sils[0]) // 2
        frame = next(itertools.islice(video.frames(), number, None))
    preview = draw(frame, [(track, masks[number]) for track, masks in enumerate(sils, 1)])
    cropped = [np.stack([align(mask) for mask in masks]) for masks in sils]
    figure = Figure(figsize=(11, 3.4), layout="constrained", facecolor=LIGHT["page"])
    panels = figure.subplots(1, 2, width_ratios=(1.0, 1.4))
    rows = [_tiled(list(cut_sides(masks)), 1, 9) for masks in cropped]
    _show(panels[0], preview[..., ::-1], "preview")
    _show(panels[1], np.concatenate(rows), "aligned silhouettes of tracks 1 to 3")
    return figure


def _show(axes: Axes, picture: np.ndarray, title: str, colours: str = "gray", **options) -> None:
    axes.imshow(picture, cmap=colours, **options)
    axes.set_title(title, fontsize=11, color=LIGHT["text"])
    axes.set_axis_off()


def _tiled(frames: list[np.ndarray], rows: int, columns: int) -> np.ndarray:
    """Arrange evenly spaced frames of a sequence in a grid with grey borders."""
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, rows * columns).round().astype(int)]
    framed = [np.pad(frame, 2, constant_values=110) for frame in chosen]
    return np.concatenate([np.concatenate(framed[i : i + columns], axis=1) for i in range(0, len(framed), columns)])


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=110)
    with Image.open(path) as image:
        image.convert("RGB").quantize(128).save(path, optimize=True)
    return path


def _screenshot(browser: str, text: str, path: Path, height: int) -> Path:
    """Write a picture of the top of a page, 1100 pixels wide and `height` pixels high, to `path`."""
    with tempfile.TemporaryDirectory() as profile:
        page = Path(profile, "page.html")
        page.write_text(text, encoding="utf-8")
        command = [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
            f"--user-data-dir={profile}", f"--window-size=1100,{height}", f"--screenshot={path.resolve()}",
            page.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode or not path.exists():
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise UserError(f"{path}: not written, because {browser} made no screenshot: {last[0]}; check the browser")
    with Image.open(path) as image:
        image.convert("RGB").save(path, optimize=True)  # RGB, because a palette would lose the colours of thin lines
    return path


def _parser() -> CommandParser:
    parser = CommandParser(prog="python test/bench/pictures.py", description=__doc__)
    parser.add_argument("--work_path", type=Path, required=True, metavar="DIR", help="output folder of "
                        "test/quickstart.sh")  # fmt: skip
    parser.add_argument("--output_path", type=Path, required=True, metavar="DIR", help="folder for the pictures")
    parser.add_argument("--subject", default="021", metavar="NAME", help="subject in pipeline.png (default: 021)")
    parser.add_argument("--seq_type", default="nm-05", metavar="TAKE", help="take in pipeline.png (default: nm-05)")
    parser.add_argument("--view", default="090", metavar="VIEW", help="view in pipeline.png (default: 090)")
    return parser


if __name__ == "__main__":
    run_command(main)
