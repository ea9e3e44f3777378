"""Synthetic walkers: the same bytes however they are asked for, the shape of CASIA-B, and people in them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.data.synthetic import (
    SEQ_TYPES,
    VIEWS,
    Recipe,
    contact_sheet,
    render_sequence,
    write_preview,
    write_tree,
)
from model.data.synthetic.__main__ import main
from model.data.synthetic.camera import HEIGHT, PATH, WIDTH, camera_of, frame_times
from model.data.synthetic.figure import Figure
from model.data.synthetic.gait import angle, draw_gait, walking_speed
from model.data.synthetic.noise import draw_faults
from model.data.synthetic.png import encode_png
from model.data.synthetic.render import silhouettes
from model.data.synthetic.skeleton import SIDES, walk
from model.data.synthetic.walkers import draw_take, walking_figure
from model.data.tree import scan_tree
from model.errors import UsageError, run_command

cv2 = pytest.importorskip("cv2")
REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = Recipe(subjects=2, frames=4, views=("000", "090"), takes=("nm-01", "cl-02"))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in the worker processes; on a busy machine many small operations also take far less time so."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.png")}


def no_faults(frames: int):
    return draw_faults(np.random.default_rng(0), frames, 1, strength=0.0)


def command(monkeypatch, *arguments: str) -> int:
    """The exit status of the command line, run in this process."""
    monkeypatch.setattr(sys, "argv", ["synthetic", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    return ended.value.code


# --- determinism ---------------------------------------------------------------------------------------------


def test_same_arguments_give_the_same_bytes_and_any_other_seed_subject_take_or_view_others():
    arguments = {"seed": 3, "subject": 2, "seq_type": "bg-01", "view": "054", "frames": 5}
    sils = render_sequence(**arguments)
    assert torch.equal(sils, render_sequence(**arguments))
    for change in ({"seed": 4}, {"subject": 1}, {"seq_type": "bg-02"}, {"view": "072"}, {"noise": 0.0}):
        assert not torch.equal(sils, render_sequence(**(arguments | change))), change


def test_a_subject_keeps_the_body_in_all_takes_and_changes_little_else():
    first, second = draw_take(0, 5, "nm-01"), draw_take(0, 5, "nm-02")
    assert first[0] == second[0]
    assert first[1].foot_progression == second[1].foot_progression
    assert first[1].phase != second[1].phase
    assert abs(first[1].cadence / second[1].cadence - 1) < 0.2
    assert first[0] != draw_take(0, 6, "nm-01")[0]


def test_a_part_of_the_tree_is_the_same_as_in_the_whole(tmp_path):
    write_tree(tmp_path / "whole", SMALL, workers=1, quiet=True)
    part = replace(SMALL, subjects=1, first_subject=2, views=("090",), takes=("cl-02",))
    write_tree(tmp_path / "part", part, workers=1, quiet=True)
    whole, alone = contents(tmp_path / "whole"), contents(tmp_path / "part")
    assert len(alone) == 4
    assert alone.items() <= whole.items()


@pytest.mark.slow
def test_two_processes_write_what_one_writes_and_the_command_says_so(tmp_path):
    write_tree(tmp_path / "one", SMALL, workers=1, quiet=True)
    arguments = "--subjects 2 --frames 4 --views 090,000 --takes nm-01,cl-02 --worker_num 2 --quiet"
    done = subprocess.run(
        [sys.executable, "-m", "model.data.synthetic", "--output_path", tmp_path / "two", *arguments.split()],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith("2 subjects, 8 sequences, 32 frames in ")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


# --- what is written -----------------------------------------------------------------------------------------


def test_the_tree_has_the_layout_of_casia_b(tmp_path):
    done = write_tree(tmp_path / "new" / "tree", replace(SMALL, first_subject=9), quiet=True)
    root = tmp_path / "new" / "tree"
    sequences = scan_tree(root)
    assert {sequence.subject for sequence in sequences} == {"009", "010"}
    assert {sequence.seq_type for sequence in sequences} == set(SMALL.takes)
    assert {sequence.view for sequence in sequences} == set(SMALL.views)
    assert (done["sequences"], done["frames"]) == (len(sequences), 32) == (8, 32)
    for sequence in sequences:
        assert sequence.files == tuple(
            f"{sequence.subject}-{sequence.seq_type}-{sequence.view}-{frame:03d}.png" for frame in range(1, 5)
        )
        image = cv2.imread(str(sequence.path / sequence.files[0]), cv2.IMREAD_UNCHANGED)
        assert image.shape == (240, 320)
        assert image.dtype == np.uint8
        assert set(np.unique(image)) == {0, 255}
    assert [path.name for path in root.iterdir() if not path.is_dir()] == ["synthetic.json"]
    assert not list(root.rglob(".*"))
    assert json.loads((root / "synthetic.json").read_text())["complete"] is True


def test_the_files_hold_the_rendered_sequence(tmp_path):
    write_tree(tmp_path, replace(SMALL, subjects=1), quiet=True)
    sils = render_sequence(0, 1, "cl-02", "090", 4).numpy()
    for number, sil in enumerate(sils, 1):
        path = tmp_path / "001" / "cl-02" / "090" / f"001-cl-02-090-{number:03d}.png"
        np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), sil)


def test_writing_again_with_the_same_arguments_restores_the_tree(tmp_path):
    write_tree(tmp_path, SMALL, quiet=True)
    before = contents(tmp_path)
    damaged = tmp_path / "002" / "nm-01" / "090"
    (damaged / "002-nm-01-090-001.png").write_bytes(b"")
    (damaged / "002-nm-01-090-777.png").write_bytes(b"")
    write_tree(tmp_path, SMALL, quiet=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (240, 320)])
def test_png_is_read_back_as_it_was(shape):
    image = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    read = cv2.imdecode(np.frombuffer(encode_png(image), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read, image)


def test_png_refuses_colour_and_floats():
    for wrong in (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.float32)):
        with pytest.raises(ValueError, match="uint8"):
            encode_png(wrong)


def test_preview_is_a_picture_with_a_person_in_every_cell(tmp_path):
    sheet = contact_sheet(0, [1, 2], ["nm-01", "bg-01", "cl-01"], ["000", "090"], 9)
    write_preview(tmp_path / "sheet.png", sheet)
    image = cv2.imread(str(tmp_path / "sheet.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(image, sheet.numpy())
    cells = image.reshape(6, image.shape[0] // 6, 4, image.shape[1] // 4).transpose(0, 2, 1, 3).reshape(24, -1)
    shares = (cells > 127).mean(1)
    assert shares.min() > 0.08
    assert shares.max() < 0.6


# --- the renderer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["000", "054", "090", "162"])
def test_a_hull_of_ellipsoids_is_filled_like_the_hull_of_many_projected_points(view):
    generator = np.random.default_rng(int(view))
    centres = np.array([[0.1, -0.2, 0.6], [-0.3, 0.1, 1.3], [0.2, 0.3, 1.1]], np.float32)
    axes = (0.12 * generator.normal(size=(3, 3, 3))).astype(np.float32)
    figure = Figure(torch.tensor(centres)[None], torch.tensor(axes)[None], torch.tensor([[0, 1, 2, 2]]))
    camera = camera_of(view)
    sil = silhouettes(figure, camera, no_faults(1))[0].numpy()

    sphere = generator.normal(size=(4000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    points = (centres[:, None] + np.einsum("kij,nj->kni", axes, sphere)).reshape(-1, 3)
    points = (points - camera.position) @ np.array(camera.axes).T
    pixels = points[:, :2] / points[:, 2:] * camera.focal + [(WIDTH - 1) / 2, 86]
    fine = np.zeros((HEIGHT * 8, WIDTH * 8), np.uint8)  # cv2 fills outwards by half a pixel: by a sixteenth here
    cv2.fillConvexPoly(fine, cv2.convexHull((pixels * 8).round().astype(np.int32)), 255)
    expected = fine[::8, ::8]
    both, either = ((sil > 0) & (expected > 0)).sum(), ((sil > 0) | (expected > 0)).sum()
    assert expected.sum() > 255 * 300
    assert both / either > 0.96  # perspective is of first order, and corners are cut


def test_what_leaves_the_picture_is_cut_at_its_edge():
    centres = torch.tensor([[[2.3, 0.0, 1.2]], [[0.0, 0.0, 1.2]], [[9.0, 0.0, 1.2]]])
    figure = Figure(centres, (torch.eye(3) * 0.3).expand(3, 1, 3, 3), torch.zeros(1, 4, dtype=torch.long))
    sils = silhouettes(figure, camera_of("090"), no_faults(3)) > 0
    area = sils.sum((1, 2))
    assert sils[0, :, 0].any()
    assert 0 < area[0] < area[1]
    assert area[2] == 0


# --- people --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seq_type", ["nm-03", "bg-02", "cl-01"])
@pytest.mark.parametrize("view", ["000", "036", "090", "180"])
def test_a_frame_shows_one_upright_person(seq_type, view):
    for noise, whole in ((0.0, 0.995), (1.0, 0.9)):
        shares = []
        for subject in (1, 2, 3):
            for sil in render_sequence(1, subject, seq_type, view, 12, noise).numpy()[::4]:
                _, _, boxes, _ = cv2.connectedComponentsWithStats(sil)
                _, _, width, height, area = max(boxes[1:], key=lambda box: box[4])
                shares.append(area / (sil > 0).sum())
                if noise == 0:
                    assert height > 1.2 * width
                    assert 70 < height < 200
                    assert 0.25 < area / (width * height) < 0.95
        assert np.median(shares) > whole


def test_all_cameras_see_the_same_height_once_distance_is_taken_out():
    for subject in (1, 2, 3, 4):
        body, _, _ = draw_take(0, subject, "nm-01")
        heights = []
        for view in VIEWS:
            camera = camera_of(view)
            sil = render_sequence(0, subject, "nm-01", view, frames=1, noise=0.0)[0]
            rows = (sil.amax(1) > 0).sum().item()
            heights.append(rows / camera.focal * math.hypot(*camera.position[:2]))
        assert max(heights) / min(heights) < 1.10
        assert 0.90 < np.mean(heights) / body.stature < 1.06


def test_steps_come_at_the_cadence_of_the_gait():
    for subject in (1, 2, 3, 4):
        _, gait, _ = draw_take(2, subject, "nm-01")
        sils = render_sequence(2, subject, "nm-01", "090", 128, noise=0.0).numpy() > 0
        widths = []
        for sil in sils:
            rows = np.flatnonzero(sil.any(1))
            columns = np.flatnonzero(sil[rows[-1] - 30 :].any(0))  # from the knees down
            widths.append(columns[-1] - columns[0])
        signal = (np.array(widths) - np.mean(widths)) * np.hanning(128)
        spectrum = np.abs(np.fft.rfft(signal, 2048))
        frequencies = np.fft.rfftfreq(2048, 1 / 25)
        found = frequencies[1 + spectrum[1:].argmax()]
        assert abs(found - gait.cadence / 60) < 0.12


def test_one_foot_stands_on_the_ground_and_does_not_slide():
    for subject in range(1, 9):
        body, gait, _ = draw_take(0, subject, "nm-01")
        times = (torch.arange(100) / 100 - gait.phase) * 120 / gait.cadence  # one stride from heel contact
        skeleton = walk(body, gait, times, path=1e6)
        soles = torch.stack(
            [
                skeleton.joints[f"{side}_{part}"][:, 2] - body.radii[part]
                for side in SIDES
                for part in ("heel", "ball", "toe")
            ]
        )
        torch.testing.assert_close(soles.amin(0), torch.zeros(100), atol=1e-5, rtol=0)
        phase = (gait.phase + times * gait.cadence / 120) % 1
        standing = (phase > 0.12) & (phase < 0.35)
        ankle = skeleton.joints["left_ankle"][standing]
        moved = skeleton.joints["pelvis"][standing]
        slid, travelled = (float(x[:, 0].max() - x[:, 0].min()) for x in (ankle, moved))
        assert slid < 0.35 * travelled
        assert 0.6 < walking_speed(body, gait) < 2.2


def test_pelvis_and_shoulders_turn_against_each_other():
    body, gait, _ = draw_take(0, 1, "nm-01")
    skeleton = walk(body, replace(gait, heading=0.0), frame_times(60), PATH)
    pelvis, thorax = (skeleton.trunk_frames[:, level, 1, 0] for level in (0, -1))
    assert torch.corrcoef(torch.stack([pelvis, thorax]))[0, 1] < -0.5


def test_a_long_walk_starts_over_within_the_picture():
    sils = render_sequence(0, 1, "bg-01", "090", 130, noise=0.0)
    area = (sils > 0).sum((1, 2)).float()
    assert area.min() > 0.6 * area.median()


def test_joint_curves_are_the_fourier_series_of_their_samples():
    body, _, _ = draw_take(0, 1, "nm-01")
    series = draw_gait(np.random.default_rng(0), body).curves["knee"]
    phase = torch.linspace(0, 1, 7)
    slow = [
        math.radians(sum((c * np.exp(2j * math.pi * k * t)).real for k, c in enumerate(series))) for t in phase.tolist()
    ]
    torch.testing.assert_close(angle(series, phase), torch.tensor(slow), atol=1e-5, rtol=1e-4)


# --- conditions and faults -----------------------------------------------------------------------------------


def test_coats_and_bags_add_area():
    area = {}
    for seq_type in ("nm-01", "bg-01", "cl-01"):
        area[seq_type] = np.array(
            [(render_sequence(0, subject, seq_type, "072", 4, noise=0.0) > 0).sum().item() for subject in range(1, 11)]
        )
    assert (area["cl-01"] > area["nm-01"]).mean() >= 0.9
    assert (area["cl-01"] / area["nm-01"]).mean() > 1.1
    assert 1.01 < (area["bg-01"] / area["nm-01"]).mean() < (area["cl-01"] / area["nm-01"]).mean()


def test_a_coat_hides_the_gap_between_the_thighs():
    plain, coat = draw_take(0, 1, "nm-01")[2], draw_take(0, 1, "cl-01")[2]
    assert coat.trunk > plain.trunk + 0.01
    assert coat.hem >= 0.35
    assert {draw_take(0, s, f"bg-0{t}")[2].bag.kind for s in range(1, 9) for t in (1, 2)} == {
        "shoulder",
        "hand",
        "backpack",
    }


def test_noise_zero_leaves_the_outline_and_stronger_noise_changes_more_of_it():
    clean = render_sequence(0, 1, "nm-01", "090", 20, noise=0.0)
    figure = walking_figure(0, 1, "nm-01", 20)
    assert torch.equal(clean, silhouettes(figure, camera_of("090"), no_faults(20)))
    changed = [
        (render_sequence(0, 1, "nm-01", "090", 20, noise=noise) != clean).sum().item() for noise in (0.3, 1.0, 3.0)
    ]
    assert 0 < changed[0] < changed[1] < changed[2] < 0.5 * (clean > 0).sum()


def test_faults_last_longer_than_a_frame():
    faults = [draw_faults(np.random.default_rng(seed), 60, 40, 1.0) for seed in range(30)]
    neighbours = torch.cat([f.ragged_left[1:].flatten() for f in faults])
    before = torch.cat([f.ragged_left[:-1].flatten() for f in faults])
    assert torch.corrcoef(torch.stack([before, neighbours]))[0, 1] > 0.4
    lengths = torch.cat([f.active.sum(0) for f in faults])
    assert lengths[lengths > 0].float().mean() > 4


# --- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, named",
    [
        ("--subjects 0", "--subjects"),
        ("--frames -3", "--frames"),
        ("--worker_num 0", "--worker_num"),
        ("--first_subject 0", "--first_subject"),
        ("--seed -1", "--seed"),
        ("--noise -0.5", "--noise"),
        ("--noise nan", "--noise"),
        ("--views 000,017", "'017'"),
        ("--takes nm-07", "'nm-07'"),
        ("--takes ,", "--takes"),
        ("--subject 3", "--subject"),
    ],
)
def test_bad_arguments_end_with_status_2_and_one_line(tmp_path, monkeypatch, capsys, arguments, named):
    assert command(monkeypatch, "--output_path", str(tmp_path / "new"), *arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert named in error
    assert not (tmp_path / "new").exists()


def test_nothing_to_write_is_refused(monkeypatch, capsys):
    assert command(monkeypatch, "--subjects", "1") == 2
    assert "--output_path" in capsys.readouterr().err


def test_folders_of_others_are_refused_and_left_alone(tmp_path, monkeypatch, capsys):
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "thesis.txt").write_text("mine")
    file = tmp_path / "file"
    file.write_text("mine")
    other = tmp_path / "other"
    write_tree(other, replace(SMALL, subjects=1, seed=1), quiet=True)
    before = contents(other)
    for path in (occupied, file, other):
        assert command(monkeypatch, "--output_path", str(path), "--subjects", "1", "--worker_num", "1") == 2
        assert str(path) in capsys.readouterr().err
    assert [path.name for path in occupied.iterdir()] == ["thesis.txt"]
    assert file.read_text() == "mine"
    assert contents(other) == before


def test_wrong_values_from_code_are_refused():
    for change in (
        {"view": "001"},
        {"seq_type": "xx-01"},
        {"frames": 0},
        {"subject": 0},
        {"seed": -1},
        {"noise": -1.0},
    ):
        with pytest.raises(ValueError, match=r"none of|need|negative"):
            render_sequence(**({"seed": 0, "subject": 1, "seq_type": "nm-01", "view": "000", "frames": 1} | change))
    with pytest.raises(UsageError, match="--views"):
        Recipe(subjects=1, views=())
    assert Recipe(subjects=1, takes=("cl-01", "nm-01", "nm-01")).takes == ("nm-01", "cl-01")
    assert len(SEQ_TYPES) == 10
    assert len(VIEWS) == 11
