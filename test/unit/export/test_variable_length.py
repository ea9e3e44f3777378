"""Variable-length models: embeddings of sequences alone, in batches and in chunks, and errors of misuse."""

import copy
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from ascend import install_acl, make_om
from scripts import load_script
from tiny_store import TinyStore

from model.common.errors import UsageError, UserError
from model.export.input_files import FixedLength
from model.export.onnx_export import export_onnx
from model.export.variable_length import export_int8, export_variable_length
from model.runtime import __main__ as command
from model.runtime.choice import choose
from model.runtime.ort_runtime import OrtRuntime
from model.runtime.runners import embed
from model.runtime.variable_length_runtime import VariableLengthRuntime, batches_by_length, embed_variable_length

LENGTHS = [3, 9, 1, 17, 5, 9, 40]


@pytest.fixture(scope="module")
def store():
    return TinyStore(LENGTHS)


@pytest.fixture(scope="module")
def models(network, store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    export_variable_length(network, folder / "whole.onnx", runtime=VariableLengthRuntime)
    unchecked = partial(VariableLengthRuntime, check=False)
    export_int8(network, folder / "int8.onnx", store.sequences[:5], store.sequences[5:], runtime=unchecked)
    return folder


@pytest.fixture(scope="module")
def expected(network, store):
    """torch's embedding of each sequence, computed alone and with all frames."""
    with torch.inference_mode():
        return np.concatenate([network(torch.from_numpy(each[None])).numpy() for each in store.sequences])


def assert_near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("threads", [1, 2])
def test_sequences_of_any_length_agree_with_torch(models, store, expected, threads):
    runtime = VariableLengthRuntime(models / "whole.onnx", threads)
    assert_near(embed_variable_length(runtime, store, quiet=True), expected)


@pytest.mark.parametrize("frame_chunk", [1, 7, 16])
@pytest.mark.parametrize("name", ["whole", "int8"])
def test_chunks_of_a_long_sequence_give_the_same_embedding(models, store, name, frame_chunk):
    """Chunks may be as short as one frame, and the last one may be shorter than the others."""
    whole = VariableLengthRuntime(models / f"{name}.onnx")
    chunked = VariableLengthRuntime(models / f"{name}.onnx", frame_chunk=frame_chunk)
    assert_near(embed_variable_length(chunked, store, quiet=True), embed_variable_length(whole, store, quiet=True))


def test_chunks_hold_at_most_the_allowed_frames(models, store, monkeypatch):
    runtime = VariableLengthRuntime(models / "whole.onnx", frame_chunk=16)
    seen = []
    session = runtime.session
    runtime.session = SimpleNamespace(
        run=lambda outputs, inputs: seen.append(inputs["sils"].shape) or session.run(outputs, inputs)
    )
    embed_variable_length(runtime, store, quiet=True)
    assert max(n * s for n, s, *_ in seen) == 16
    assert sum(n * s for n, s, *_ in seen) >= sum(LENGTHS)


def test_batches_group_similar_lengths_and_all_sequences():
    frames = np.array([30, 90, 31, 1, 29, 300])
    batches = [list(map(int, batch)) for batch in batches_by_length(frames, 100)]
    assert batches == [[5], [1], [2, 0, 4], [3]]
    assert all(len(batch) == 1 or frames[batch].max() * len(batch) <= 100 for batch in batches)


def test_static_models_are_chosen_by_length(network, store, expected, tmp_path, caplog):
    """Only the sequence of 40 frames is truncated, to the 20 frames of the longest model."""
    for frame_num in (4, 9, 20):
        export_onnx(network, tmp_path / f"gaitset_f{frame_num}.onnx", 2, frame_num, runtime=OrtRuntime)
    choice = choose("auto", tmp_path / "gaitset", direct=True)
    assert choice.runtime == "onnxruntime" and list(choice.by_length) == [4, 9, 20]
    found = embed(choice, store, FixedLength(4), tmp_path, quiet=True)
    assert_near(found[:-1], expected[:-1])
    with torch.inference_mode():
        assert_near(found[-1], network(torch.from_numpy(store.sequences[-1][None, :20])).numpy()[0])
    assert "1 of 7 sequences have more than 20 frames: using the first 20" in caplog.text


def test_oms_are_chosen_by_length(network, store, expected, tmp_path, monkeypatch):
    install_acl(monkeypatch)
    for frame_num in (9, 40):
        static = tmp_path / f"plain{frame_num}.onnx"
        export_onnx(network, static, 1, frame_num, runtime=OrtRuntime)
        make_om(static, tmp_path / f"gaitset_f{frame_num}.om", 1, frame_num)
    choice = choose("auto", tmp_path / "gaitset", direct=True)
    assert choice.runtime == "acl" and list(choice.by_length) == [9, 40]
    assert_near(embed(choice, store, FixedLength(4), tmp_path, quiet=True), expected)


def test_a_file_name_with_the_wrong_length_is_an_error(network, store, tmp_path):
    export_onnx(network, tmp_path / "gaitset_f50.onnx", 1, 4, runtime=OrtRuntime)
    with pytest.raises(UserError, match="takes 4 frames, but its name says 50"):
        embed(choose("auto", tmp_path / "gaitset", direct=True), store, FixedLength(4), tmp_path, quiet=True)


def test_an_info_list_needs_a_static_model(models, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--model", str(models / "whole.onnx"), "--info", "none.info", "--quiet"])
    with pytest.raises(UserError, match=r"cannot read input files; run python test\.py --runtime onnxruntime"):
        command.main()


def test_a_file_without_an_output_is_an_error(models, tmp_path):
    model = onnx.load(models / "whole.onnx")
    del model.graph.output[2]
    onnx.save(model, tmp_path / "cut.onnx")
    with pytest.raises(UserError, match=r"export it with pth2onnx\.py --whole"):
        VariableLengthRuntime(tmp_path / "cut.onnx")


def test_a_sequence_without_frames_is_an_error(models):
    with pytest.raises(UserError, match="no frame"):
        embed_variable_length(VariableLengthRuntime(models / "whole.onnx"), TinyStore([3, 0]), quiet=True)


def test_same_weights_give_the_same_bytes(network, models, tmp_path):
    export_variable_length(network, tmp_path / "again.onnx", runtime=VariableLengthRuntime)
    assert (tmp_path / "again.onnx").read_bytes() == (models / "whole.onnx").read_bytes()


def test_a_model_that_differs_from_torch_is_not_written(network, tmp_path):
    broken = copy.deepcopy(network)
    with torch.no_grad():
        broken.set_layer3.forward_block.conv.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(UserError, match=r"not written.*check that the weights are finite"):
        export_variable_length(broken, tmp_path / "broken.onnx", runtime=VariableLengthRuntime)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("arguments", "words"), [
    (["--whole", "--int8"], "use only one of them"),
    (["--whole", "--frame_num", "30"], "--frame_num: not available with --whole"),
    (["--int8", "--batch_size", "2"], "--batch_size: not available with --whole"),
    (["--calibration_bins", "x", "--frame_num", "3", "4"], "use a single --frame_num"),
    (["--data_path", "x"], "--data_path: only for calibration"),
    (["--pickle", "x"], "--pickle: only for calibration"),
    (["--int8", "--partition", "all"], "no training subject"),
])  # fmt: skip
def test_contradictory_options_are_rejected(arguments, words):
    with pytest.raises(UsageError, match=words):
        load_script("pth2onnx").main(arguments)
