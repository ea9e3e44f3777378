"""Tests of the statistics of test/bench/silhouettes.py on drawn images, and a comparison of walkers and real people."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from model.data.raw.tree import scan_tree
from model.synthetic.settings import WalkerSettings
from model.synthetic.walkers import Takes, pose_figures, render_views

bench = SimpleNamespace(**runpy.run_path(str(Path(__file__).resolve().parents[2] / "bench" / "silhouettes.py")))


def block(height: int = 100, width: int = 30) -> np.ndarray:
    """Return a white block in the middle of an image of 240 x 320 pixels."""
    image = np.zeros((240, 320), np.uint8)
    image[100 : 100 + height, 140 : 140 + width] = 255
    return image


def test_a_block_has_no_noise():
    of = bench.frame_statistics(block())
    none = "holes", "hole_area", "outside", "high", "wide", "missing_rows", "torso_gaps"
    assert {name: of[name] for name in none} == dict.fromkeys(none, 0)
    assert (of["area"], of["height"], of["components"], of["area_ratio"], of["aspect"]) == (3000, 100, 1, 1.0, 0.3)
    assert of["roughness"] == pytest.approx(1.0, abs=0.05)


def test_holes_tears_and_specks_are_counted():
    image = block()
    image[120:124, 150:155] = 0  # a hole of 20 pixels, in the torso
    image[140:150] = 0  # a gap over the whole width
    image[85:88, 160:164] = 255  # a speck of 12 pixels above
    of = bench.frame_statistics(image)
    area = 3000 - 20 - 300 + 12
    assert (of["area"], of["holes"], of["components"], of["high"]) == (area, 1, 3, 100.0)
    assert of["hole_area"] == pytest.approx(100 * 20 / area)
    assert of["outside"] == pytest.approx(100 * (1200 - 20 + 12) / area)  # the lower part is the largest component
    assert of["missing_rows"] == pytest.approx(100 * (12 + 10) / 115)
    assert of["torso_gaps"] == pytest.approx(100 * 20 / (30 * 25))  # of the torso's 35 rows 10 are empty
    assert of["missing"] == pytest.approx([0, 0, 0, 0, 1, 0, 0, 0, 0, 0])


def test_a_ragged_outline_is_rough():
    image = block()
    image[100:200:6, 140:144] = image[101:200:6, 140:144] = image[102:200:6, 140:144] = 0
    assert bench.frame_statistics(image)["roughness"] > 1.3


def test_an_empty_frame_is_ignored():
    frames = [block(height) for height in range(90, 102)]
    assert bench.frame_statistics(0 * frames[0]) is None
    whole = bench.sequence_statistics(frames)
    assert bench.sequence_statistics([0 * frames[0], *frames])["area_ratio"] == whole["area_ratio"]
    assert bench.sequence_statistics(frames[:3]) is None
    assert whole["area_change"] == pytest.approx(np.median(np.diff(np.log(np.arange(90, 102)))))
    assert whole["wrong"] == 0 and set(whole) == {*bench.STATISTICS, "missing", "extents"}


def test_widths_are_those_of_each_tenth_of_the_height_in_square_pixels():
    image = block(width=40)
    image[110:120, 140:170] = 0  # the second tenth is 10 pixels wide
    image[150:160, 150:170] = 0  # a gap does not count
    expected = [0.4, 0.1] + [0.4] * 8
    assert bench.frame_statistics(image)["extents"] == pytest.approx(expected)
    widened = image.repeat(2, axis=1)
    assert bench.frame_statistics(bench.square_pixels(widened, 2.0))["extents"] == pytest.approx(expected)


def test_one_wrong_frame_is_found():
    frames = [block() for _ in range(12)]
    frames[5][130:170] = 0
    # The frame differs from its neighbours, and each of the two neighbours differs from the mean around it.
    assert bench.sequence_statistics(frames)["wrong"] == pytest.approx(100 * 3 / 10)


@pytest.mark.slow
def test_walkers_have_the_noise_statistics_of_real_people(real_data):
    """Compare the statistics that depend on noise. Views 000, 045 and 090 of CASIA-A correspond to 090, 054 and 000."""
    names = "roughness", "hole_area", "components", "outside", "missing_rows", "torn", "torso_gaps", "torso_change"
    sequences = [one for one in scan_tree(real_data) if one.seq_type in ("nm-01", "nm-02")]
    real = [
        bench.sequence_statistics(cv2.imread(str(one.path / name), cv2.IMREAD_GRAYSCALE) for name in one.files)
        for one in sequences
    ]
    takes, views, walkers = Takes.of(range(1, 16), ["nm-01"]), ("090", "054", "000"), {}
    figure = pose_figures(WalkerSettings(frames=60), takes)
    for noise in (0.0, 1.0):
        settings = WalkerSettings(frames=60, noise=noise)
        frames = render_views(settings, takes, figure, views).frames().view(45, 60, 240, 320).numpy()
        walkers[noise] = [bench.sequence_statistics(sequence) for sequence in frames]
    clean, degraded = (
        [bench.distance(*(np.array([one[name] for one in some]) for some in (real, walkers[noise]))) for name in names]
        for noise in (0.0, 1.0)
    )
    # The distance between two samples of this size from one distribution is 0.16. The distance between five of the real
    # people and the other five people is 0.28.
    assert max(degraded) < 0.35
    assert np.mean(degraded) < 0.25 < 0.45 < np.mean(clean)
