"""Networks whose embeddings have strips of length 1: values, training, checkpoints and exports."""

from functools import partial

import numpy as np
import onnx
import pytest
import torch
from tiny_checkpoints import saved
from tiny_store import TinyStore
from training_steps import batch_of, new_step

from model.checkpoints.loading import read_encoder
from model.common.errors import UserError
from model.config import Config
from model.export.lint import lint_onnx
from model.export.onnx_export import export_onnx
from model.export.variable_length import export_int8, export_variable_length
from model.initialization import load_network
from model.network import GaitSet
from model.network.gaitset import scale_strips
from model.runtime.ort_runtime import OrtRuntime
from model.runtime.variable_length_runtime import VariableLengthRuntime

CHANNELS = (4, 6, 10)


@pytest.fixture(scope="module")
def networks():
    """Two networks with the same weights, without and with unit strips."""
    torch.manual_seed(0)
    reference = GaitSet(8, channels=CHANNELS).eval()
    unit = GaitSet(8, channels=CHANNELS, unit_strips=True).eval()
    unit.load_state_dict({**reference.state_dict(), "unit_strips": torch.ones(())})
    return reference, unit


@torch.no_grad()
def test_each_strip_is_divided_by_its_length_except_in_training_mode(networks):
    reference, unit = networks
    sils = torch.rand(2, 3, 64, 44, generator=torch.Generator().manual_seed(1))
    lengths, found = reference(sils), unit(sils)
    for sequence, strip in np.ndindex(2, 62):
        one = lengths[sequence, strip].double()
        torch.testing.assert_close(found[sequence, strip].double(), one / one.dot(one).sqrt(), rtol=0, atol=1e-4)
    assert torch.equal(unit.train()(sils), lengths)
    unit.eval()
    assert not unit(torch.zeros(1, 3, 64, 44)).any()  # a strip of zeros remains zero


def test_loss_ignores_the_lengths_of_strips():
    """If a loss does not depend on the length of a vector, its gradient is orthogonal to the vector."""
    shares = []
    for unit_strips in (False, True):
        step, kept = new_step(unit_strips=unit_strips), []

        def keep(module, inputs, output, kept=kept):
            kept.append(output.detach())
            output.register_hook(kept.append)

        step.model.register_forward_hook(keep)
        step(*batch_of(7, 0))
        embeddings, gradient = kept
        products = (gradient * embeddings).sum(2).abs()
        shares.append((products / (gradient.norm(dim=2) * embeddings.norm(dim=2) + 1e-20)).max().item())
    assert shares[1] < 1e-3 < 0.01 < shares[0]


def test_weights_say_whether_strips_have_length_one(networks, tmp_path):
    for network, expected in zip(networks, (False, True), strict=True):
        path = saved(tmp_path / f"{expected}-encoder.ptm", network.state_dict())
        loaded = load_network(Config(work_path=tmp_path), path, None, torch.device("cpu")).network
        assert (loaded.unit_strips is not None) == expected == read_encoder(path).sizes.unit_strips
        assert loaded.state_dict().keys() == network.state_dict().keys()
    encoder = read_encoder(tmp_path / "True-encoder.ptm")
    with pytest.raises(UserError, match="unit_strips of the config must be True, not False"):
        encoder.require_sizes(encoder.sizes._replace(unit_strips=False))


def test_exported_models_scale_their_strips(networks, tmp_path):
    unit, sequence = networks[1], TinyStore([6] * 6).sequences
    export_onnx(unit, tmp_path / "static.onnx", frame_num=6, runtime=OrtRuntime)
    assert lint_onnx(tmp_path / "static.onnx") == []
    export_variable_length(unit, tmp_path / "whole.onnx", runtime=VariableLengthRuntime)
    unchecked = partial(VariableLengthRuntime, check=False)
    export_int8(unit, tmp_path / "int8.onnx", sequence[:4], sequence[4:], runtime=unchecked)
    with torch.inference_mode():
        expected = unit(torch.from_numpy(sequence[0][None])).numpy()
    static = OrtRuntime(tmp_path / "static.onnx").run(sequence[0][None].astype(np.float32) / 255)
    for found, tolerance in (
        (static, 1e-5),
        (VariableLengthRuntime(tmp_path / "whole.onnx").run(sequence[0][None]), 1e-5),
        (VariableLengthRuntime(tmp_path / "int8.onnx").run(sequence[0][None]), 0.2),
    ):
        np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1, atol=1e-4)
        assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


def test_lint_requires_axes_of_reduce_l2(networks, tmp_path):
    export_onnx(networks[1], tmp_path / "static.onnx", frame_num=6, runtime=OrtRuntime)
    model = onnx.load(tmp_path / "static.onnx")
    [node] = [node for node in model.graph.node if node.op_type == "ReduceL2"]
    del node.attribute[:]
    assert any("ReduceL2 node" in problem and "has no axes" in problem for problem in lint_onnx(model))


def test_half_precision_is_scaled_in_float32():
    small = torch.full((1, 62, 8), 1e-4, dtype=torch.half)  # the squares of these values are 0 in half precision
    torch.testing.assert_close(scale_strips(small).norm(dim=2), torch.ones(1, 62), rtol=0, atol=5e-3)
