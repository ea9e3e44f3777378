"""State dicts under the keys of other programs, of other networks, and of OpenGait's GaitSet."""

import random

import pytest
import torch
from opengait_network import TheirGaitSet
from tiny_checkpoints import assert_same_weights, saved

from model.checkpoints.loading import load_encoder, read_encoder
from model.checkpoints.state_dicts import differences, sizes_of
from model.common.errors import UserError
from model.network import GaitSet
from model.network.pooling import strip_labels

CHANNELS = (4, 6, 10)


def network(seed: int = 0) -> GaitSet:
    torch.manual_seed(seed)
    return GaitSet(3, channels=CHANNELS)


def prefixed(prefix: str, state: dict) -> dict:
    return {prefix + key: value for key, value in state.items()}


FORMS = {
    "bare": lambda state: state,
    "module": lambda state: prefixed("module.", state),
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state},
    "module in model": lambda state: {"model": prefixed("module.", state), "optimizer": {}},
    "Lightning": lambda state: {"state_dict": prefixed("model.", state), "hyper_parameters": {}},
    "compiled and wrapped": lambda state: prefixed("module._orig_mod.", state),
    "twice": lambda state: {"model": {"state_dict": prefixed("encoder.", state)}},
}


@pytest.mark.parametrize("form", FORMS)
def test_state_dicts_load_in_all_forms(tmp_path, form):
    expected, found = network().state_dict(), network(1)
    load_encoder(found, saved(tmp_path / "x.pt", FORMS[form](expected)))
    assert_same_weights(found, expected)


@pytest.mark.parametrize("form", FORMS)
def test_opengait_state_dicts_load_in_all_forms(tmp_path, form):
    state = TheirGaitSet(3, CHANNELS).state_dict()
    found = read_encoder(saved(tmp_path / "x.pt", FORMS[form](state)))
    assert torch.equal(found.weights["set_layer4.forward_block.conv.weight"],
                       state["set_block2.forward_block.2.conv.weight"])  # fmt: skip
    # The matrix of the strip of full height is the first of the set branch here and the last in OpenGait.
    assert torch.equal(found.weights["fc_bin.0"][0], state["Head.fc_bin"][30])
    assert found.sizes == (3, CHANNELS, False)


def of_names(*names: str) -> dict:
    return {name: torch.ones(2, dtype=torch.int64 if name.endswith("tracked") else torch.float32) for name in names}


GAITBASE = of_names("Backbone.forward_block.conv1.weight", "Backbone.bn1.num_batches_tracked", "FCs.fc_bin",
                    "BNNecks.fc_bin")  # fmt: skip
OPENGAIT = "is an OpenGait checkpoint, but not of GaitSet: it contains"
OTHERS = {
    "GaitBase": ({"model": GAITBASE, "optimizer": {}, "iteration": 9}, f"{OPENGAIT} Backbone, FCs, BNNecks; only"),
    "GaitBase, bare and wrapped": (prefixed("module.", GAITBASE), f"{OPENGAIT} Backbone, FCs, BNNecks; only"),
    "GaitPart": ({"model": of_names("Backbone.layer.weight", "TFA.conv.weight", "Head.fc_bin")},
                 f"{OPENGAIT} Backbone, TFA, Head; only the weights of GaitSet can be loaded"),
    "GaitGL": ({"model": of_names("conv3d.0.conv3d.weight", "LTA.0.weight"), "iteration": 1},
               f"{OPENGAIT} conv3d, LTA; only"),
    "a ResNet": ({"state_dict": of_names("conv1.weight", *(f"layer{i}.weight" for i in range(9)))},
                 "is the state dict of another network: it contains conv1, layer0, layer1, layer2, layer3, layer4, "
                 "layer5, layer6, ...; only the weights of GaitSet"),
    "an optimizer": (torch.optim.Adam([torch.zeros(1)]).state_dict(), "is the state of an optimizer; give the file of"),
    "a state": ({"random": torch.zeros(2), "meter": {}}, "is the state dict of another network: it contains random"),
    "no tensors": ({"model": {"Head.fc_bin": 3}}, "is not the state dict of a network"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_are_described(tmp_path, name):
    content, expected = OTHERS[name]
    path = saved(tmp_path / "x.pt", content)
    with pytest.raises(UserError) as caught:
        read_encoder(path)
    assert str(caught.value).startswith(f"{path}: {expected}")


def test_differences_do_not_depend_on_the_order_in_the_file():
    state = network().state_dict()
    state["set_layer2.forward_block.conv.weight"] = torch.zeros(5, 4, 3, 3)
    state["fc_bin.0"] = torch.zeros(30, 10, 3)
    del state["gl_layer1.conv.weight"], state["set_layer3.forward_block.conv.weight"]
    state |= of_names("b", "a")
    expected = [
        "set_layer2.forward_block.conv.weight is (5, 4, 3, 3), the network expects (4, 4, 3, 3)",
        "lacks set_layer3.forward_block.conv.weight",
    ]
    for seed in range(5):
        items = list(state.items())
        random.Random(seed).shuffle(items)
        found = differences(sizes_of(dict(items)), dict(items))
        assert found[:2] == expected
        assert found[-3:] == ["fc_bin.0 has 30 strips, the network expects 62", "has the unknown key a",
                              "has the unknown key b"]  # fmt: skip


def test_a_network_that_the_sizes_of_one_layer_make_too_large_is_not_built(tmp_path):
    """The weights of a layer with 100,000 input and output channels take 360 GB."""
    state = {**network().state_dict(), "set_layer1.forward_block.conv.weight": torch.zeros(100_000, 1, 5, 5)}
    with pytest.raises(UserError, match=r"does not fit the network: set_layer2.* expects \(100000, 100000, 3, 3\)"):
        read_encoder(saved(tmp_path / "x.pt", state))


def test_content_that_contains_itself_is_one_line(tmp_path):
    content: dict = {}
    content["model"] = content
    with pytest.raises(UserError, match="is not the state dict of a network"):
        read_encoder(saved(tmp_path / "x.pt", content))


# Channels of OpenGait's configurations for CASIA-B; for OU-MVLP, GREW and CASIA-E; and channels of no configuration.
OPENGAIT_CHANNELS = [(32, 64, 128), (64, 128, 256), (5, 7, 9)]


@pytest.fixture(scope="module", params=OPENGAIT_CHANNELS, ids=str)
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
    hidden_dim, channels, _ = read_encoder(path).sizes
    assert hidden_dim == 16 and channels in OPENGAIT_CHANNELS
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


def test_keys_that_do_not_fit_are_named(theirs, tmp_path):
    _, content, _ = theirs
    more = {**content, "model": {**content["model"], "BNNecks.fc_bin": torch.zeros(62, 16, 5)}}
    with pytest.raises(UserError, match="has the unknown key BNNecks"):
        load_encoder(GaitSet(hidden_dim=16), saved(tmp_path / "x.pt", more))


@pytest.mark.parametrize("matrices", [None, 3, "x" * 62, torch.tensor(1.0), torch.zeros(62), [torch.zeros(62, 128, 8)]])
def test_other_content_under_the_names_of_opengait_is_one_line(tmp_path, matrices):
    message = r"x\.pt: is (not the state dict of a network|an OpenGait checkpoint, but not)"
    for content in ({"Head.fc_bin": matrices}, {"Head.fc_bin": torch.zeros(62, 128, 8), 5: 1}):
        with pytest.raises(UserError, match=message):
            load_encoder(GaitSet(8), saved(tmp_path / "x.pt", {"model": content}))
