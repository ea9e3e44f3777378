"""Compare statistics of the segmentation quality of raw trees.

    python test/bench/silhouettes.py CASIA-A synthetic
    python test/bench/silhouettes.py CASIA-A synthetic --views 000,045,090 090,054,000
    python test/bench/silhouettes.py CASIA-A synthetic --views 090 000 --pixels 1.1 1

The body consists of the largest component and all components with at least a twentieth of its pixels. Each statistic is
one number per sequence. The table contains its mean, standard deviation and quantiles over the sequences of each tree,
and the Kolmogorov-Smirnov distance of each further tree to the first: 0 for equal distributions, 1 for distributions
that do not overlap. `pooled` is the mean of these distances. Frames without a figure are ignored. For each tenth of the
height, from the head to the feet, the table contains the median of the width, in heights, and the distance.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from model.data.raw.tree import scan_tree

SMALLEST = 200  # least number of pixels of a figure
SMOOTH = 0.02  # standard deviation of the blur that makes an outline smooth, in heights of the figure
TORSO = 0.15, 0.5  # of the height; gaps there come from noise (or arms)
DECILES = 10  # of the height, in the profile of missing rows
QUANTILES = 0.1, 0.25, 0.5, 0.75, 0.9

STATISTICS = {
    "area_ratio": "white pixels of the body / its bounding box",
    "roughness": "length of the outline / length of the smoothed outline of the figure without holes",
    "holes": "holes per frame",
    "hole_area": "% of the figure's pixels, holes",
    "components": "connected components per frame",
    "outside": "% of the pixels outside the largest component",
    "high": "% of the frames whose box is more than 5 % higher than the body's: the aligner makes the body too small",
    "wide": "% of the frames whose box is more than 50 % wider than the body's",
    "missing_rows": "% of the rows between first and last without a white pixel",
    "torn": "% of the torso's rows that are less than half as wide as their median over the sequence",
    "torso_gaps": "% of the torso's pixels between the left and right end of its rows that are black",
    "aspect": "width / height of the body",
    "aspect_change": "standard deviation of the aspect over time",
    "area_change": "median of |log of area / area before|",
    "height_change": "median of |log of height / height before|, of the box of all pixels",
    "wrong": "% of the frames whose area is more than 15 % off the mean of its neighbours'",
    "torso_change": "% of the torso's pixels that differ from those of the frame before, both scaled to one height",
    "gaps_lag1": "correlation of torso gaps with those one frame before",
    "gaps_lag5": "correlation of torso gaps with those five frames before",
}


def outline_length(mask: np.ndarray) -> int:
    """Return the number of edges between a white and a black pixel."""
    padded = np.pad(mask, 1)
    return int((padded[1:] != padded[:-1]).sum() + (padded[:, 1:] != padded[:, :-1]).sum())


def filled(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the mask without its holes, and the number of holes."""
    outside = np.pad((~mask).astype(np.uint8), 1, constant_values=1)
    count, labels = cv2.connectedComponents(outside, connectivity=4)
    return (labels != labels[0, 0])[1:-1, 1:-1], count - 2


def frame_statistics(image: np.ndarray) -> dict[str, float] | None:
    """Return the statistics of one silhouette [h, w] (white is above 0), or None if it has too few pixels.

    `torso` is the torso, resized to 32 rows and columns.
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
    extents = (body.shape[1] - body.argmax(1) - body[:, ::-1].argmax(1)) * rows / tall  # of each row
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
    """Return `STATISTICS` of one sequence, `missing` and `extents` [DECILES], or None.

    missing: fractions of empty rows. extents: widths in heights, from the first to the last white pixel.
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
    """Return the image as if its pixels, which are `pixels` times as high as wide, were square."""
    return image if pixels == 1 else cv2.resize(image, None, fx=1 / pixels, fy=1, interpolation=cv2.INTER_NEAREST)


def tree_statistics(root: Path, views: list[str] | None, pixels: float = 1.0) -> list[dict[str, float]]:
    found = []
    for sequence in scan_tree(root):
        if sequence.files and (views is None or sequence.view in views):
            images = (cv2.imread(str(sequence.path / name), cv2.IMREAD_GRAYSCALE) for name in sequence.files)
            found.append(sequence_statistics(square_pixels(image, pixels) for image in images))
    if not found:
        sys.exit(f"{root}: no sequence of the views {', '.join(views or [])}; give other --views")
    return [one for one in found if one is not None]


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Kolmogorov-Smirnov distance: the largest difference of the two distribution functions."""
    points = np.concatenate([first, second])
    below = [np.searchsorted(np.sort(x), points, side="right") / len(x) for x in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


def summary(values: np.ndarray) -> dict[str, float | list[float]]:
    quantiles = [round(float(x), 4) for x in np.quantile(values, QUANTILES)]
    return {"mean": round(float(values.mean()), 4), "sd": round(float(values.std()), 4), "quantiles": quantiles}


def compare(trees: dict[str, list[dict[str, float]]]) -> dict:
    """Return summaries by tree and statistic, and distances of the further trees to the first."""
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
    views, pixels = "comma-separated views (default: all)", "height / width of pixels (default: 1)"
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
