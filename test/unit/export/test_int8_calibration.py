"""The calibration data of 8-bit exports with pth2onnx.py."""

import json

import pytest
from scripts import load_script, one_line_error, run_script

from model.checkpoints.bundled import bundled_encoder
from model.common.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture
def calibration(aligned_tree, tmp_path):
    return [
        "--quiet", "--input_path", str(bundled_encoder()), "--pid_num", "2", "--data_path", str(aligned_tree),
        "--work_path", str(tmp_path / "work"), "--dataset", "Walkers", "--json", str(tmp_path / "facts.json"),
    ]  # fmt: skip


def calibration_and_training_subjects(tmp_path) -> tuple[set[str], set[str]]:
    partition = json.loads(next((tmp_path / "work" / "partition").glob("*.json")).read_text())
    named = json.loads((tmp_path / "facts.json").read_text())["calibrated_with"]
    return {name.split("/")[0] for name in named}, set(partition["TRAIN_SET"])


def test_int8_calibrates_with_training_subjects_and_names_them(aligned_tree, calibration, tmp_path, capsys):
    load_script("pth2onnx").main(["--int8", "--output_path", str(tmp_path / "int8.onnx"), *calibration])
    subjects = [each for each in aligned_tree.iterdir() if each.is_dir()]
    used, training = calibration_and_training_subjects(tmp_path)
    assert used == training and len(used) == 2 < len(subjects)
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["checked_with"] and not set(facts["checked_with"]) & set(facts["calibrated_with"])
    error, others = 100 * facts["relative_error"], len(facts["checked_with"])
    assert f"relative difference from PyTorch {error:.1f} % on {others} other sequences" in capsys.readouterr().out


def test_calibration_bins_hold_training_subjects_and_fit_the_model(calibration, tmp_path, capsys):
    load_script("pth2onnx").main([
        "--frame_num", "3", "--calibration_bins", str(tmp_path / "bins"), "--output_path", str(tmp_path / "m.onnx"),
        *calibration,
    ])  # fmt: skip
    used, training = calibration_and_training_subjects(tmp_path)
    assert used == training
    bins = list((tmp_path / "bins").glob("*.bin"))
    assert len(bins) == 16 and all(each.stat().st_size == 4 * 3 * 64 * 44 for each in bins)
    output = capsys.readouterr().out
    assert '"image_seq:1,3,64,44"' in output and f"--data_dir {tmp_path / 'bins'} --data_types float32" in output


def test_pickle_option_applies_to_the_calibration_data(calibration, tmp_path):
    folder = tmp_path / "pickles" / "001" / "nm-01" / "000"
    folder.mkdir(parents=True)
    for name in ("000-a.pkl", "000-b.pkl"):
        (folder / name).touch()
    options = ["--int8", *calibration, "--data_path", str(tmp_path / "pickles"), "--pickle", "c"]
    with pytest.raises(UserError, match="--pickle c matches none of 000-a, 000-b"):
        load_script("pth2onnx").main(options)


def test_missing_calibration_data_is_an_error(tmp_path):
    ended = run_script("pth2onnx.py", "--int8", "--data_path", tmp_path / "none", cwd=tmp_path)
    assert f"{tmp_path / 'none'}: no such folder" in one_line_error(ended, 2)
