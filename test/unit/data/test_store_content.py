"""Aligned frames that are not masks of 0 and 255: read as masks, or rejected with the reason."""

import pickle

import cv2
import numpy as np
import pytest

from model.common.errors import UserError
from model.data.store import open_data

GREY = "100% of the pixels are neither black nor white"


BORDER = "most of the picture, and its border, is white"


CONTENTS = {  # change of the aligned frames, expected frames in the store (None: not built), note or reason
    "aligned": (lambda frames: frames, lambda frames: frames, ""),
    "0 and 1": (lambda frames: frames // 128, lambda frames: frames // 128 * 255, "masks of two other values"),
    "0 and 100": (lambda frames: frames // 128 * 100, lambda frames: frames // 128 * 255, "were scaled to 0 and 255"),
    "inverted": (lambda frames: 255 - frames, None, f"{BORDER}: .*--invert"),
    "inverted 0 and 1": (lambda frames: 1 - frames // 128, None, BORDER),
    "white": (lambda frames: frames | 255, None, "the whole picture is white"),
    "grey": (lambda frames: frames // 2 + 60 + np.uint8([0, 1] * 32), None, f"{GREY}: .* python -m model.silhouettes"),
}


@pytest.mark.parametrize("kind", ["images", "alpha", "pickles"])
@pytest.mark.parametrize("content", CONTENTS)
def test_content_of_aligned_frames(tree, store, tmp_path, caplog, content, kind):
    change, stored, message = CONTENTS[content]
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
