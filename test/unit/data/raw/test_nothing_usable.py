"""Trees without a usable frame, and the reasons of dropped frames."""

import json

import numpy as np
import pytest
from raw_trees import BLACK, SEQUENCE, make_tree, pretreat, run_pretreatment, silhouette, write

from model.data.raw.pretreatment_report import LogFile


def drawn(size: int, rows: slice, columns: slice, value: int = 255) -> np.ndarray:
    image = np.zeros((size, size), np.uint8)
    image[rows, columns] = value
    return image


SMALL, THIN = slice(100, 108), slice(50, 53)


REASONS = {
    "too small": "the sum of all pixels is at most 10000, which is 39 white pixels); use images",
    "empty": "all pixels are equal); check the program",
    "too dark": "no pixel has at least half of the brightness of white (255)); silhouettes",
    "too thin": "no pixel is left after scaling the person to 64 rows); use images",
}


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (drawn(240, SMALL, THIN, 1), "too small"),
        (drawn(240, SMALL, THIN), "too small"),
        (BLACK, "empty"),
        (drawn(240, slice(100, 130), THIN, 2) + drawn(240, slice(130, 160), THIN, 1), "too dark"),
        (drawn(640, slice(640), 320), "too thin"),
    ],
    ids=["too small, 0 and 1", "too small", "empty", "too dark", "too thin"],
)
def test_nothing_usable_is_a_failure_with_the_reason(tmp_path, capsys, monkeypatch, image, reason):
    for number in range(21):  # one sequence more than the number of warnings that are printed
        write(tmp_path / "raw" / "1" / "nm-01" / str(number) / "0.png", image)
    for _ in range(2):  # the second run reads the reason from the record
        assert run_pretreatment(tmp_path, monkeypatch, "--skip_bad", "--json=summary.json") == 1
        output = capsys.readouterr()
        assert "next:" not in output.out and f"dropped frames: 21 {reason}" in output.out
        (conclusion,) = [line for line in output.err.splitlines() if line.startswith("error: ")]
        assert f"raw: no frame is usable: 21 are {reason} ({REASONS[reason]}" in conclusion
    assert json.loads((tmp_path / "summary.json").read_text())["failed"]
    log = (tmp_path / "pretreatment.log").read_text()
    assert f"1/nm-01/0/0.png: dropped, {reason}: " in log and "--FAIL--" in log


def test_only_unreadable_images_are_a_failure(tmp_path, capsys):
    write(tmp_path / "raw" / SEQUENCE / "0.png", BLACK).write_bytes(b"")
    assert pretreat(tmp_path / "raw", tmp_path / "aligned", skip_bad=True).failed
    assert "error: " in (errors := capsys.readouterr().err) and "no frame is usable: 1 cannot be read" in errors


def test_reason_of_a_single_dark_frame(tmp_path):
    raw = make_tree(tmp_path / "raw", 1, frames=20)
    write(raw / SEQUENCE / "f-001.png", silhouette(0) // 255)
    summary = pretreat(raw, tmp_path / "aligned", log=LogFile(tmp_path / "log"))
    assert (summary.kept, summary.drop_reasons, summary.failed) == (19, {"too dark": 1}, False)
    assert "f-001.png: dropped, too dark: no pixel has" in (tmp_path / "log").read_text()
