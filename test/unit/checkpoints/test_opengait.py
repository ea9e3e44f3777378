"""GaitSet of OpenGait: its checkpoint gives the same embeddings here, strip by strip."""

import pytest
import torch
from opengait_network import TheirGaitSet
from tiny_checkpoints import saved

from model.checkpoints.loading import load_encoder, read_encoder
from model.common.errors import UserError
from model.network import GaitSet
from model.network.pooling import strip_labels

CHANNELS = [(32, 64, 128), (64, 128, 256), (5, 7, 9)]  # CASIA-B; OU-MVLP, GREW and CASIA-E; a size that nobody uses


@pytest.fixture(scope="module", params=CHANNELS, ids=str)
def theirs(tmp_path_factory, request):
    torch.manual_seed(5)
    network = TheirGaitSet(16, request.param)
    optimizer = torch.optim.Adam(network.parameters())
    content = {
        "model": network.state_dict(), "optimizer": optimizer.state_dict(), "iteration": 40000,
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [10, 20]).state_dict(),
    }  # fmt: skip
    return network, content, saved(tmp_path_factory.mktemp("opengait") / "GaitSet-40000.pt", content)


def test_the_embedding_is_the_same_strip_by_strip(theirs):
    network, _, path = theirs
    hidden_dim, channels = read_encoder(path).sizes
    assert hidden_dim == 16 and channels in CHANNELS
    ours = GaitSet(hidden_dim, channels=channels)
    load_encoder(ours, path)
    sils = (torch.rand(7, 64, 44) > 0.6).float()
    with torch.no_grad():
        expected, found = network(sils[None])[:, 0], ours.eval()(sils[None])[0]
    order = [("set", b, s) for b in (16, 8, 4, 2, 1) for s in range(b)]
    order += [("global", b, s) for _, b, s in order]
    for label, vector in zip(strip_labels(), found, strict=True):
        torch.testing.assert_close(vector, expected[order.index(tuple(label))], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.norm(), expected.norm())


def test_keys_and_sizes_that_do_not_fit_are_named(theirs, tmp_path):
    _, content, path = theirs
    more = {**content, "model": {**content["model"], "BNNecks.fc_bin": torch.zeros(62, 16, 5)}}
    with pytest.raises(UserError, match="has the unknown key BNNecks"):
        load_encoder(GaitSet(hidden_dim=16), saved(tmp_path / "x.pt", more))
    channels = list(read_encoder(path).sizes.channels)
    with pytest.raises(UserError, match="network: hidden_dim of the config must be 16, not 256") as caught:
        load_encoder(GaitSet(hidden_dim=256), path)
    message = f"channels of the config must be {channels}, not [32, 64, 128]"
    assert (message in str(caught.value)) == (channels != [32, 64, 128])


@pytest.mark.parametrize("matrices", [None, 3, "x" * 62, torch.tensor(1.0), torch.zeros(62), [torch.zeros(62, 128, 8)]])
def test_other_content_under_the_names_of_opengait_is_one_line(tmp_path, matrices):
    message = r"x\.pt: is (not the state dict of a network|an OpenGait checkpoint, but not)"
    for content in ({"Head.fc_bin": matrices}, {"Head.fc_bin": torch.zeros(62, 128, 8), 5: 1}):
        with pytest.raises(UserError, match=message):
            load_encoder(GaitSet(8), saved(tmp_path / "x.pt", {"model": content}))
