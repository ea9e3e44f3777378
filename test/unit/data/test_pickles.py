"""Reading of OpenGait's pickles, and of aligned frames that are not masks of 0 and 255."""

import pickle

import cv2
import numpy as np
import pytest
from walkers import write_aligned_tree

from model.common.errors import UsageError, UserError
from model.data.pickle_choice import choose_pickles
from model.data.raw.silhouette import cut_sides
from model.data.raw.tree import scan_tree
from model.data.store import open_data


def write_pickle(root, content, protocol=4, name="0001/nm-01/000/000.pkl"):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol))
    return root


def random_frames(*shape):
    """Return random frames of mostly black and white pixels, because grey frames are rejected as pictures."""
    return np.random.default_rng(0).choice(np.uint8([0, 1, 2, 9, 250, 255]), size=shape)


@pytest.mark.parametrize("width", [44, 45, 54, 63, 64])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_opengait_pickles_are_read(tmp_path, width, protocol):
    frames = random_frames(5, 64, width)
    store = open_data(write_pickle(tmp_path / "tree", frames, protocol), tmp_path / "stores")
    left = (width - 44) // 2
    assert np.array_equal(store.sequence(0), frames[:, :, left : left + 44])


# The width of the frames, and the first of the 88 columns that are read. Columns outside the frame are black.
@pytest.mark.parametrize(("width", "first"), [(128, 20), (88, 0), (100, 6), (101, 6), (87, 0), (60, -14), (44, -22)])
def test_pickles_of_height_128_are_reduced_to_64(tmp_path, width, first):
    frames = random_frames(3, 128, width)
    store = open_data(write_pickle(tmp_path / "tree", frames), tmp_path / "stores")
    wide = np.pad(frames, ((0, 0), (0, 0), (44, 44)))[:, :, 44 + first : 44 + first + 88]
    expected = [cv2.resize(frame, (44, 64), interpolation=cv2.INTER_AREA) for frame in wide]
    assert np.array_equal(store.sequence(0), expected)
    if width in (88, 100, 128):
        halves = np.stack([cv2.resize(f, (width // 2, 64), interpolation=cv2.INTER_AREA) for f in frames])
        assert np.array_equal(store.sequence(0), cut_sides(halves))


def test_masks_of_0_and_1_are_scaled_before_they_are_reduced(tmp_path):
    masks = random_frames(3, 128, 88) // 128
    trees = [write_pickle(tmp_path / str(white), masks * np.uint8(white)) for white in (1, 255)]
    stores = [open_data(tree, tmp_path / "stores") for tree in trees]
    assert np.array_equal(stores[0].frames, stores[1].frames) and 0 < np.median(stores[0].frames) < 255


def test_enlarged_frames_give_the_store_of_the_images_and_one_report(tmp_path, caplog):
    caplog.set_level("INFO")
    images = write_aligned_tree(tmp_path / "images", subjects=1, seq_types=("nm-01", "bg-01"), frames=2)
    for sequence in scan_tree(images):
        frames = np.stack([cv2.imread(str(sequence.path / name), 0) for name in sequence.files])
        write_pickle(tmp_path / "tree", frames.repeat(2, 1).repeat(2, 2), name=f"{sequence.name}/{sequence.view}.pkl")
    stores = [open_data(tmp_path / name, tmp_path / "stores") for name in ("images", "tree")]
    assert np.array_equal(stores[0].frames, stores[1].frames)
    (report,) = [record.message for record in caplog.records if "128" in record.message]
    assert report == f"{tmp_path}/tree: 4 sequences: frames of height 128 are reduced to 64 (mean of 2×2 pixels)"


def test_a_pickle_of_a_single_frame_is_rejected(tmp_path):
    """`test_array_pickle.py` tests pickles with other values and pickles that execute code."""
    with pytest.raises(UserError, match=r"000\.pkl: contains .*\[64, 44\], expected \[frames, height, width\]"):
        open_data(write_pickle(tmp_path / "tree", np.zeros((64, 44), np.uint8)), tmp_path / "stores")


@pytest.mark.parametrize("size", [(240, 320), (64, 43), (64, 65), (128, 43), (128, 129), (127, 88), (256, 256)])
def test_pickles_of_another_size_are_rejected_with_advice(tmp_path, size):
    height, width = size
    with pytest.raises(UserError, match=rf"frames of {height}×{width}, expected.*128×128; .*pretreatment\.py"):
        open_data(write_pickle(tmp_path / "tree", np.zeros((3, *size), np.uint8)), tmp_path / "stores")


CONTENTS = {
    "sils": random_frames(2, 64, 44), "large": random_frames(2, 128, 128), "rgbs": random_frames(2, 3, 128, 128),
    "ratios": np.ones(2), "depths": random_frames(2, 64, 64, 3), "boxes": random_frames(2, 4),
}  # fmt: skip
OPENGAIT = {"000-aligned-sils": "sils", "000-ratios": "ratios", "000-rgbs": "rgbs", "000-sils": "large"}
SUSTECH = {
    "01-000-LiDAR-PCDs_depths": "depths", "05-000-Camera-RGB_raw": "depths", "06-000-Camera-Sils_aligned": "sils",
    "07-000-Camera-Sils_raw": "large",
}  # fmt: skip
SYNCED = SUSTECH | {"14-sync-000-Camera-Sils_aligned": "sils"}
BOTH = {"000-a": "sils", "000-b": "large"}


def write_kinds(root, kinds, views=("000",)):
    for view in views:
        for name, kind in kinds.items():
            name = name.replace("000", view, 1)
            write_pickle(root, CONTENTS[kind], name=f"0001/nm-01/{view}/{name}.pkl")
    return root


@pytest.mark.parametrize(
    ("kinds", "name", "chosen"),
    [
        (OPENGAIT, "", "000-aligned-sils"),
        ({k: v for k, v in OPENGAIT.items() if "aligned" not in k}, "", "000-sils"),
        ({"000": "sils", "000-pose": "sils"}, "", "000"),
        (SUSTECH, "", "06-000-Camera-Sils_aligned"),
        ({"000-unaligned-sils": "large", "000-masks": "boxes", "000-sils-Aligned": "sils"}, "", "000-sils-Aligned"),
        ({"000-b": "sils", "000-aligned-a": "large"}, "", "000-aligned-a"),
        ({"000-aligned-rgbs": "rgbs", "000-masks": "large", "000-boxes": "boxes"}, "", "000-masks"),
        (OPENGAIT, "sils", "000-sils"),
        (OPENGAIT, "aligned-sils.pkl", "000-aligned-sils"),
        (OPENGAIT, "000-rgbs", "000-rgbs"),
        (SYNCED, "06-*", "06-000-Camera-Sils_aligned"),
        (SYNCED, "sync-*aligned", "14-sync-000-Camera-Sils_aligned"),
        (SUSTECH, "Sils_raw", "07-000-Camera-Sils_raw"),
    ],
)
def test_one_of_several_pickles_is_chosen(tmp_path, kinds, name, chosen):
    (sequence,) = choose_pickles(scan_tree(write_kinds(tmp_path, kinds)), name)
    assert sequence.files == (f"{chosen}.pkl",)


@pytest.mark.parametrize(
    ("kinds", "name", "message"),
    [
        (BOTH, "", r"000: 2 of 2 pickles could hold the silhouettes \(000-a\.pkl, 000-b\.pkl\); .*--pickle 'a'$"),
        (SYNCED, "", r"06-000-Camera-Sils_aligned\.pkl, 14-sync-000-.*--pickle '06-\*-Camera-Sils_aligned'$"),
        ({"000-p": "rgbs", "000-r": "ratios"}, "", r"none of 2 .*000-p\.pkl: .*\[2, 3, 128, 128\].*000-r\.pkl: .*f8"),
        (BOTH, "c", r"--pickle c matches none of 000-a, 000-b; choose one with --pickle NAME"),
        (BOTH, "*", r"--pickle \* matches 000-a, 000-b; choose one"),
        ({"000": "sils"}, "aligned-sils", r"--pickle aligned-sils matches none of 000;"),
    ],
)
def test_candidates_and_option_are_named_if_the_choice_is_not_clear(tmp_path, kinds, name, message):
    with pytest.raises(UserError, match=message) as caught:
        choose_pickles(scan_tree(write_kinds(tmp_path, kinds)), name)
    assert "\n" not in str(caught.value)


def test_the_advised_name_works(tmp_path):
    for number, kinds in enumerate((BOTH, SYNCED)):
        tree = write_kinds(tmp_path / str(number), kinds, ("000", "018"))
        with pytest.raises(UserError) as caught:
            choose_pickles(scan_tree(tree))
        advised = str(caught.value).rsplit("'")[-2]
        assert all(len(s.files) == 1 for s in choose_pickles(scan_tree(tree), advised))


def test_all_views_use_the_same_kind_and_the_choice_is_reported_once(tmp_path, caplog):
    caplog.set_level("INFO")
    tree = write_kinds(tmp_path / "tree", OPENGAIT, ("000", "018", "090"))
    write_kinds(tree, {"000": "sils"}, ("180",))
    store = open_data(tree, tmp_path / "stores")
    assert all(np.array_equal(store.sequence(i), CONTENTS["sils"]) for i in range(4))
    (report,) = [record.message for record in caplog.records if "--pickle" in record.message]
    choice = "reading <view>-aligned-sils.pkl (--pickle NAME chooses another pickle)"
    assert report == f"3 views with several pickles: {choice}"


def test_each_choice_has_its_own_store(tmp_path):
    tree = write_kinds(tmp_path / "tree", OPENGAIT)
    default, large = (open_data(tree, tmp_path / "stores", pickle=name) for name in ("", "sils"))
    assert default.path != large.path and not np.array_equal(default.frames, large.frames)
    with pytest.raises(UsageError, match=r"--pickle sils: .* is a store"):
        open_data(large.path, tmp_path / "stores", pickle="sils")
    images = write_aligned_tree(tmp_path / "images", subjects=1, seq_types=("nm-01",), frames=2)
    with pytest.raises(UsageError, match="--pickle sils: the data contain no pickles"):
        open_data(images, tmp_path / "stores", pickle="sils")


# Masks of other values, alpha channels, inverted silhouettes and pictures


GREY = "100% of the pixels are neither black nor white"
BORDER = "most of the picture, and its border, is white"


# For each case: a change of the aligned frames, the expected frames in the store (None: the tree is rejected), and a
# part of the message.
STORED = {
    "aligned": (lambda frames: frames, lambda frames: frames, ""),
    "0 and 1": (lambda frames: frames // 128, lambda frames: frames // 128 * 255, "masks with two values other than"),
    "0 and 100": (lambda frames: frames // 128 * 100, lambda frames: frames // 128 * 255, "were scaled to 0 and 255"),
    "inverted": (lambda frames: 255 - frames, None, f"{BORDER}: .*--invert"),
    "inverted 0 and 1": (lambda frames: 1 - frames // 128, None, BORDER),
    "white": (lambda frames: frames | 255, None, "the whole picture is white"),
    "grey": (lambda frames: frames // 2 + 60 + np.uint8([0, 1] * 32), None, f"{GREY}: .* python -m model.silhouettes"),
}


@pytest.mark.parametrize("kind", ["images", "alpha", "pickles"])
@pytest.mark.parametrize("content", STORED)
def test_content_of_aligned_frames(tree, store, tmp_path, caplog, content, kind):
    change, stored, message = STORED[content]
    caplog.set_level("INFO")
    for folder in sorted(tree.glob("*/*/*")):
        paths = sorted(folder.iterdir())
        frames = change(np.stack([cv2.imread(str(path), 0) for path in paths]))
        for path, frame in zip(paths, frames, strict=True):
            path.unlink()
            if kind != "pickles":
                white = np.full_like(frame, 255)
                cv2.imwrite(str(path), frame if kind == "images" else cv2.merge([white, white, white, frame]))
        if kind == "pickles":
            (folder / f"{folder.name}.pkl").write_bytes(pickle.dumps(frames))
    if stored is None:
        with pytest.raises(UserError, match=rf"001/bg-01/000: {message}"):
            open_data(tree, tmp_path / "others")
        assert not list((tmp_path / "others").iterdir())
        return
    caplog.clear()
    np.testing.assert_array_equal(open_data(tree, tmp_path / "others").frames, stored(store.frames))
    notes = [record.getMessage() for record in caplog.records if "sequences: " in record.getMessage()]
    assert len(notes) == bool(message) + (kind == "alpha") and all("8 sequences" in note for note in notes)
    assert not message or message in notes[-1]
