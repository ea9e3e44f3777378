"""GaitSet of OpenGait: its checkpoint gives the same embeddings here, strip by strip."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model.checkpoint import load_encoder
from model.errors import UserError
from model.network import GaitSet
from model.network.pooling import bin_labels


class TheirGaitSet(nn.Module):
    """The network as OpenGait's documents and checkpoints describe it, for one sequence."""

    def __init__(self, dim: int):
        super().__init__()

        def conv(inward, outward, size):
            block = nn.Module()
            block.conv = nn.Conv2d(inward, outward, size, padding=size // 2, bias=False)
            block.forward = block.conv.forward
            return block

        def block(inward, outward, size, pool):
            layers = [conv(inward, outward, size), nn.LeakyReLU(), conv(outward, outward, 3), nn.LeakyReLU()]
            return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))

        for number, layers in enumerate((block(1, 32, 5, True), block(32, 64, 3, True), block(64, 128, 3, False)), 1):
            wrapper = nn.Module()
            wrapper.forward_block = layers
            setattr(self, f"set_block{number}", wrapper)
        self.gl_block2, self.gl_block3 = block(32, 64, 3, True), block(64, 128, 3, False)
        self.Head = nn.Module()
        self.Head.fc_bin = nn.Parameter(torch.randn(62, 128, dim) / 11)

    def forward(self, sils):
        maps = self.set_block1.forward_block(sils[:, None])
        pooled = self.gl_block2(maps.amax(0, keepdim=True))
        maps = self.set_block2.forward_block(maps)
        pooled = self.gl_block3(pooled + maps.amax(0, keepdim=True))
        maps = self.set_block3.forward_block(maps).amax(0, keepdim=True)
        strips = [self.pyramid(maps), self.pyramid(pooled + maps)]
        return torch.einsum("cp,pcd->pd", torch.cat(strips, 1), self.Head.fc_bin)

    @staticmethod
    def pyramid(maps):
        parts = [part for bins in (16, 8, 4, 2, 1) for part in maps[0].chunk(bins, 1)]
        return torch.stack([part.mean((1, 2)) + part.amax((1, 2)) for part in parts], 1)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    torch.manual_seed(5)
    network = TheirGaitSet(16)
    optimizer = torch.optim.Adam(network.parameters())
    content = {
        "model": network.state_dict(), "optimizer": optimizer.state_dict(), "iteration": 40000,
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [10, 20]).state_dict(),
    }  # fmt: skip
    path = tmp_path_factory.mktemp("opengait") / "GaitSet-40000.pt"
    torch.save(content, path)
    return network, content, path


def test_the_embedding_is_the_same_strip_by_strip(theirs):
    network, _, path = theirs
    ours = GaitSet(hidden_dim=16)
    load_encoder(ours, path)
    sils = (torch.rand(7, 64, 44) > 0.6).float()
    with torch.no_grad():
        expected, found = network(sils), ours.eval()(sils[None])[0]
    order = [("set", b, s) for b in (16, 8, 4, 2, 1) for s in range(b)]
    order += [("global", b, s) for _, b, s in order]
    for label, vector in zip(bin_labels(), found, strict=True):
        torch.testing.assert_close(vector, expected[order.index(tuple(label))], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.norm(), expected.norm())


def test_another_model_of_opengait_is_refused_by_name(theirs, tmp_path):
    _, content, path = theirs
    more = {**content, "model": {**content["model"], "BNNecks.fc_bin": torch.zeros(62, 16, 5)}}
    torch.save(more, tmp_path / "x.pt")
    with pytest.raises(UserError, match="has the foreign key BNNecks"):
        load_encoder(GaitSet(hidden_dim=16), tmp_path / "x.pt")
    with pytest.raises(UserError, match="hidden_dim of the config must be 16"):
        load_encoder(GaitSet(hidden_dim=256), path)


@pytest.mark.parametrize("matrices", [None, 3, "x" * 62, torch.tensor(1.0), torch.zeros(62), [torch.zeros(62, 128, 8)]])
def test_what_has_their_names_and_not_their_content_is_one_line(tmp_path, matrices):
    for content in ({"model": {"Head.fc_bin": matrices}}, {"model": {"Head.fc_bin": torch.zeros(62, 128, 8), 5: 1}}):
        torch.save(content, tmp_path / "g.pt")
        with pytest.raises(UserError, match=r"g\.pt: (no state dict of a network|does not fit the network)"):
            load_encoder(GaitSet(8), tmp_path / "g.pt")
