"""Compare statistics of the segmentation quality of raw trees.

    python test/bench/silhouettes.py CASIA-A synthetic
    python test/bench/silhouettes.py CASIA-A synthetic --views 000,045,090 090,054,000
    python test/bench/silhouettes.py CASIA-A synthetic --views 090 000 --pixels 1.1 1

Each statistic is one number per sequence. The table contains the mean, the standard deviation and the quantiles of each
statistic over the sequences of each tree. It also contains the Kolmogorov-Smirnov distance between the first tree and
each further tree: 0 for equal distributions, 1 for distributions that do not overlap. `pooled` is the mean distance
over all statistics. For each tenth of the height, from the head to the feet, the table contains the median of the
width, in heights, and the distance.

The figure consists of all white pixels of a frame. The body consists of the largest connected component of the figure
and of all components with at least a twentieth of the pixels of the largest one. Frames without a figure are ignored.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from scipy import ndimage, stats

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from model.data.raw.tree import scan_tree

SMALLEST = 200  # least number of pixels of a figure
SMOOTH = 0.02  # standard deviation of the blur that makes an outline smooth, in heights of the figure
TORSO = 0.15, 0.5  # first and last height of the torso, from the top; gaps there come from noise or from the arms
DECILES = 10  # parts of the height in the profiles of missing rows and widths
QUANTILES = 0.1, 0.25, 0.5, 0.75, 0.9

STATISTICS = {
    "area_ratio": "white pixels of the body / pixels of its bounding box",
    "roughness": "length of the outline / length of the smoothed outline of the figure without holes",
    "holes": "holes per frame",
    "hole_area": "pixels of holes, in % of the pixels of the figure",
    "components": "connected components per frame",
    "outside": "% of the white pixels that are outside the largest component",
    "high": "% of the frames in which the box of the figure is more than 5 % higher than the box of the body, so that "
            "alignment makes the body too small",
    "wide": "% of the frames in which the box of the figure is more than 50 % wider than the box of the body",
    "missing_rows": "% of the rows without a white pixel, from the first to the last row of the figure",
    "torn": "% of the torso's rows that have less than half as many white pixels as in the median of the sequence",
    "torso_gaps": "% of black pixels between the left and the right end of the torso's rows",
    "aspect": "width / height of the body",
    "aspect_change": "standard deviation of the aspect over time",
    "area_change": "median of |log(area / area in the frame before)|",
    "height_change": "median of |log(height / height in the frame before)| of the box of the figure",
    "wrong": "% of the frames whose area differs by more than 15 % from the mean area of both neighbouring frames",
    "torso_change": "pixels of the torso that differ from the frame before, at equal height, in % of its white pixels",
    "gaps_lag1": "correlation of torso_gaps with torso_gaps one frame before",
    "gaps_lag5": "correlation of torso_gaps with torso_gaps five frames before",
}  # fmt: skip


def outline_length(mask: np.ndarray) -> int:
    """Return the number of edges between a white and a black pixel."""
    padded = np.pad(mask, 1)
    return int((padded[1:] != padded[:-1]).sum() + (padded[:, 1:] != padded[:, :-1]).sum())


def filled(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the mask without its holes, and the number of holes."""
    whole = ndimage.binary_fill_holes(mask)
    return whole, ndimage.label(whole & ~mask)[1]


def frame_statistics(image: np.ndarray) -> dict[str, float] | None:
    """Return the statistics of one silhouette [h, w], whose white pixels are above 0. None if it has too few pixels.

    The entry `torso` is the image of the torso, resized to 32 rows and columns.
    """
    mask = image > 0
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    area = int(mask.sum())
    if area < SMALLEST:
        return None
    mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = mask.shape
    count, _, table, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    largest = 1 + int(table[1:, cv2.CC_STAT_AREA].argmax())
    whole, holes = filled(mask)

    parts = table[1:][table[1:, cv2.CC_STAT_AREA] >= 0.05 * table[largest, cv2.CC_STAT_AREA]]
    top = parts[:, cv2.CC_STAT_TOP].min()
    tall = (parts[:, cv2.CC_STAT_TOP] + parts[:, cv2.CC_STAT_HEIGHT]).max() - top
    left = parts[:, cv2.CC_STAT_LEFT].min()
    body = mask[top : top + tall, left : (parts[:, cv2.CC_STAT_LEFT] + parts[:, cv2.CC_STAT_WIDTH]).max()]

    smooth = np.pad(whole, 8).astype(np.float32)
    smooth = cv2.GaussianBlur(smooth, (0, 0), SMOOTH * tall) > 0.5
    first, last = (round(share * tall) for share in TORSO)
    rows = body.any(1)
    extents = (body.shape[1] - body.argmax(1) - body[:, ::-1].argmax(1)) * rows / tall  # width of each row
    tenths = np.arange(DECILES) * tall // DECILES
    torso = body[first:last]
    between = np.maximum.accumulate(torso, 1) & np.maximum.accumulate(torso[:, ::-1], 1)[:, ::-1]
    middle = int(np.median(body.nonzero()[1]))
    reach = round(0.25 * tall)
    square = np.pad(body, ((0, 0), (reach, reach)))[first:last, middle : middle + 2 * reach]
    return {
        "area": area,
        "height": height,
        "area_ratio": body.mean(),
        "roughness": outline_length(whole) / max(outline_length(smooth), 1),
        "holes": holes,
        "hole_area": 100 * (int(whole.sum()) - area) / area,
        "components": count - 1,
        "outside": 100 * (1 - table[largest, cv2.CC_STAT_AREA] / area),
        "high": 100.0 * (height > 1.05 * tall),
        "wide": 100.0 * (width > 1.5 * body.shape[1]),
        "missing_rows": 100 * (1 - mask.any(1).mean()),
        "torso_gaps": 100 * (1 - torso.sum() / max(between.sum(), 1)),
        "aspect": body.shape[1] / tall,
        "widths": cv2.resize(torso.sum(1, dtype=np.float32)[:, None] / tall, (1, 32))[:, 0],
        "torso": cv2.resize(square.astype(np.uint8), (32, 32), interpolation=cv2.INTER_AREA),
        "missing": np.add.reduceat(~rows, tenths) / tall * DECILES,
        "extents": np.add.reduceat(extents, tenths) / tall * DECILES,
    }


def sequence_statistics(frames: Iterable[np.ndarray]) -> dict[str, float] | None:
    """Return the statistics of one sequence, or None if fewer than 10 frames show a figure.

    In addition to `STATISTICS`, `missing` [DECILES] is the fraction of empty rows, and `extents` [DECILES] is the
    distance from the first to the last white pixel of a row, in heights.
    """
    seen = [one for one in map(frame_statistics, frames) if one is not None]
    if len(seen) < 10:
        return None
    of = {name: np.array([one[name] for one in seen], np.float64) for name in seen[0]}
    means = {name: of[name].mean() for name in STATISTICS if name in of}
    torso = of["torso"] > 0
    usual = np.median(of["widths"], 0)
    gaps, area = of["torso_gaps"], of["area"]

    def lagged(by: int) -> float:
        if gaps.std() < 1e-9:
            return 0.0
        return float(((gaps[by:] - gaps.mean()) * (gaps[:-by] - gaps.mean())).mean() / gaps.var())

    return means | {
        "torn": 100 * (of["widths"] < usual / 2).mean(),
        "aspect_change": of["aspect"].std(),
        "area_change": np.median(np.abs(np.diff(np.log(area)))),
        "height_change": np.median(np.abs(np.diff(np.log(of["height"])))),
        "wrong": 100 * (np.abs(2 * area[1:-1] / (area[:-2] + area[2:]) - 1) > 0.15).mean(),
        "torso_change": 100 * (torso[1:] != torso[:-1]).sum() / max(torso.sum(), 1),
        "gaps_lag1": lagged(1),
        "gaps_lag5": lagged(5),
        "missing": of["missing"].mean(0),
        "extents": of["extents"].mean(0),
    }


def square_pixels(image: np.ndarray, pixels: float) -> np.ndarray:
    """Return the image with square pixels. The pixels of the given image are `pixels` times as high as wide."""
    return image if pixels == 1 else cv2.resize(image, None, fx=1 / pixels, fy=1, interpolation=cv2.INTER_NEAREST)


def tree_statistics(root: Path, views: list[str] | None, pixels: float = 1.0) -> list[dict[str, float]]:
    found = []
    for sequence in scan_tree(root):
        if sequence.files and (views is None or sequence.view in views):
            images = (cv2.imread(str(sequence.path / name), cv2.IMREAD_GRAYSCALE) for name in sequence.files)
            found.append(sequence_statistics(square_pixels(image, pixels) for image in images))
    if not found:
        wanted = f" of the views {', '.join(views)}" if views else ""
        sys.exit(f"{root}: no sequence{wanted} with images; give other trees or --views")
    return [one for one in found if one is not None]


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Kolmogorov-Smirnov distance: the largest difference between the two distribution functions."""
    return float(stats.ks_2samp(first, second, method="asymp").statistic)


def summary(values: np.ndarray) -> dict[str, float | list[float]]:
    quantiles = [round(float(x), 4) for x in np.quantile(values, QUANTILES)]
    return {"mean": round(float(values.mean()), 4), "sd": round(float(values.std()), 4), "quantiles": quantiles}


def compare(trees: dict[str, list[dict[str, float]]]) -> dict:
    """Return summaries by tree and statistic, and the distances between the first tree and the further trees."""
    result: dict = {"trees": {}, "distance": {}}
    names, extents = list(trees), {}
    for tree, sequences in trees.items():
        of = {name: np.array([one[name] for one in sequences]) for name in STATISTICS}
        profile = np.mean([one["missing"] for one in sequences], 0)
        extents[tree] = np.array([one["extents"] for one in sequences]).T
        result["trees"][tree] = {"sequences": len(sequences)} | {name: summary(of[name]) for name in STATISTICS}
        result["trees"][tree]["missing_by_decile"] = [round(100 * float(x), 2) for x in profile]
        result["trees"][tree]["width_by_decile"] = [round(float(np.median(x)), 3) for x in extents[tree]]
        if tree != names[0]:
            first = {name: np.array([one[name] for one in trees[names[0]]]) for name in STATISTICS}
            far = {name: round(distance(first[name], of[name]), 3) for name in STATISTICS}
            wide = [round(distance(*pair), 3) for pair in zip(extents[names[0]], extents[tree], strict=True)]
            pooled = round(float(np.mean(list(far.values()))), 3)
            result["distance"][tree] = far | {"pooled": pooled, "width_by_decile": wide}
    return result


def print_table(result: dict) -> None:
    for name, meaning in STATISTICS.items():
        print(f"{name}: {meaning}")
        for tree, figures in result["trees"].items():
            one = figures[name]
            quantiles = " ".join(f"{x:8.3f}" for x in one["quantiles"])
            far = f"  distance {result['distance'][tree][name]:.3f}" if tree in result["distance"] else ""
            print(f"  {tree:20s} mean {one['mean']:8.3f}  sd {one['sd']:8.3f}  10 25 50 75 90 %: {quantiles}{far}")
    print("width_by_decile: median width / height of the body in each tenth of the height")
    for name, of in (*result["trees"].items(), *((f"distance {k}", v) for k, v in result["distance"].items())):
        print(f"  {name:20s} " + " ".join(f"{x:.3f}" for x in of["width_by_decile"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", type=Path, nargs="+", help="raw trees of images; the first is the reference")
    views = "comma-separated views, for each tree or once for all trees (default: all views)"
    pixels = "height / width of the pixels, for each tree or once for all trees (default: 1)"
    parser.add_argument("--views", type=lambda text: text.split(","), nargs="+", default=[None], help=views)
    parser.add_argument("--pixels", type=float, nargs="+", default=[1.0], help=pixels)
    options = parser.parse_args()
    settings = []
    for name in ("views", "pixels"):
        values = getattr(options, name)
        if len(values) not in (1, len(options.trees)):
            parser.error(
                f"--{name}: {len(values)} values for {len(options.trees)} trees; give one per tree or one for all"
            )
        settings.append(values * (len(options.trees) // len(values)))
    trees = {str(root): tree_statistics(root, *how) for root, *how in zip(options.trees, *settings, strict=True)}
    result = compare(trees)
    print_table(result)
    print(json.dumps({"benchmark": "silhouettes"} | result))


if __name__ == "__main__":
    main()
