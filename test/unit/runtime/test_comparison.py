"""Comparison of a deployed model with its ONNX file: equal models, changed weights, and values that are not finite."""

import numpy as np
import onnx
import pytest
from ascend import deploy, make_om, run_command_line
from onnx import numpy_helper

from model.common.errors import UsageError, UserError
from model.common.json_files import read_json, write_json
from model.runtime import __main__ as command
from model.runtime.comparison import differences, report_comparison


@pytest.fixture
def compare(here, monkeypatch):
    """Return a function that compares a model with an ONNX file. Both run on the list of a deployed model."""

    def run(deployed, runtime, model, reference, *arguments):
        files = ["--model", model, "--info", deployed.info, "--compare", reference]
        return run_command_line(monkeypatch, command, "--runtime", runtime, *files, "--output", "r", *arguments)

    return run


@pytest.mark.parametrize("runtime", ["ais_bench", "benchmark"])
def test_an_om_equals_the_onnx_file_it_was_made_from(deployed, here, compare, capsys, runtime):
    facts = compare(deployed, runtime, deployed.om(4), deployed.om(1).with_suffix(".onnx"))  # different batch sizes
    assert facts["sequences"] == 5 and facts["not_finite"] == 0
    assert facts["cosine_lowest"] == pytest.approx(1, abs=1e-9)
    assert facts["largest_difference"] < 1e-5 * facts["largest_value"]
    assert facts["rank1_model"] == facts["rank1_onnx"] and facts["rank1_problem"] is None
    assert "cosine      mean 1.0000000" in capsys.readouterr().out
    assert not (here / "r" / "dumpOutput_device0").exists(), "a comparison must not replace the results of a run"


def test_changed_weights_are_found(deployed, here, compare):
    """The last layer of the om file has doubled weights. This doubles the embeddings and keeps their direction."""
    model = onnx.load(deployed.om(1).with_suffix(".onnx"))
    weights = max(model.graph.initializer, key=lambda tensor: list(tensor.dims)[:1] == [62])
    weights.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(weights), weights.name))
    onnx.save(model, here / "scaled.onnx")
    om = make_om(here / "scaled.onnx", here / "scaled.om", 1)
    facts = compare(deployed, "ais_bench", om, deployed.om(1).with_suffix(".onnx"), "--limit", "3")
    assert facts["sequences"] == 3 and facts["cosine_lowest"] == pytest.approx(1, abs=1e-9)
    assert facts["largest_difference"] == pytest.approx(np.abs(deployed.embeddings[:3]).max(), rel=1e-4)


def deploy_with_labels(folder, *labels):
    """Deploy the tiny model in `folder`, and change the subjects and takes of its five sequences to `labels`."""
    folder.mkdir()
    deployed = deploy(folder)
    manifest = read_json(folder / "bins.json", sealed=True)
    for entry, (subject, take) in zip(manifest["entries"], labels, strict=True):
        entry |= {"subject": subject, "seq_type": take}
    write_json(folder / "bins.json", manifest, sealed=True)
    return deployed


def test_rank1_without_probes_is_unknown(tmp_path, compare, capsys):
    deployed = deploy_with_labels(tmp_path / "d", *[(subject, "nm-01") for subject in "01234"])
    model = deployed.om(1).with_suffix(".onnx")
    facts = compare(deployed, "onnxruntime", model, model)
    assert "gallery" in facts["rank1_problem"] or "probe" in facts["rank1_problem"]
    assert "rank-1      unknown: " in capsys.readouterr().out


def test_rank1_of_both(tmp_path, compare, capsys):
    """Two subjects have gallery and probe sequences. The command reports that a file is compared with itself."""
    labels = ("0", "nm-01"), ("1", "nm-01"), ("0", "nm-05"), ("1", "nm-05"), ("1", "nm-06")
    deployed = deploy_with_labels(tmp_path / "d", *labels)
    reference = deployed.om(1).with_suffix(".onnx")
    facts = compare(deployed, "onnxruntime", reference, reference)
    assert f"--model and --compare are the same file, {reference}" in capsys.readouterr().out
    embeddings = deployed.embeddings.reshape(5, -1)
    distances = np.linalg.norm(embeddings[2:, None] - embeddings[None, :2], axis=2)
    right = 100 * np.mean(distances.argmin(1) == [0, 1, 1])
    assert facts["rank1_model"]["NM"] == facts["rank1_onnx"]["NM"] == pytest.approx(right, abs=0.01)
    assert f"NM {right:.2f}" in report_comparison(facts)


def test_values_that_are_not_finite_are_counted():
    found, expected = np.ones((3, 4), np.float32), np.ones((3, 4), np.float32)
    found[0, 1], expected[2] = np.inf, -1
    facts = differences(found, expected, ["a", "b", "c"])
    assert facts["not_finite"] == 1 and facts["cosine_lowest_of"] == "c" and facts["cosine_lowest"] == pytest.approx(-1)
    assert facts["largest_difference"] == 2 and facts["cosine_mean"] == pytest.approx(0)
    found[:] = np.nan
    assert differences(found, expected, ["a", "b", "c"]) == {"not_finite": 3}


def test_invalid_comparisons(deployed, here, compare):
    with pytest.raises(UserError, match=r"--compare .*nowhere\.onnx: no such file"):
        compare(deployed, "ais_bench", deployed.om(1), here / "nowhere.onnx")
    for option in (["--loop", "3"], ["--device_id", "0,1"]):
        with pytest.raises(UsageError, match=r"--compare: .* give --info and one --device_id, and not --loop"):
            compare(deployed, "ais_bench", deployed.om(1), "x.onnx", *option)
