"""Reading and checking configurations, and overriding their values on the command line."""

from argparse import Namespace
from pathlib import Path

import pytest

from model.common.errors import UsageError
from model.common.geometry import SET_CHANNELS
from model.config import ModelConfig
from model.settings.config_file import build_config, load_config, overrides_of

ROOT = Path(__file__).resolve().parents[2]


def test_bundled_configs_are_the_published_recipes():
    one, eight = load_config(ROOT / "config_1p.py"), load_config(ROOT / "config_8p.py")
    assert one.experiment == "GaitSet_CASIA-B_73_False_256_0.2_128_full_30"
    assert (one.model.lr, one.model.total_iter, one.model.batch_size) == (1e-4, 80000, (8, 16))
    assert (eight.model.lr, eight.model.total_iter, eight.model.batch_size) == (8e-4, 40000, (8, 16))
    assert eight.visible_devices["ASCEND_VISIBLE_DEVICES"] == "0,1,2,3,4,5,6,7"
    assert one.checkpoint_folder == ROOT / "work" / "checkpoint" / "GaitSet"


def test_default_channels_equal_the_channels_of_the_paper():
    assert ModelConfig().channels == SET_CHANNELS


def test_missing_keys_have_defaults(tmp_path):
    (tmp_path / "config.py").write_text(
        "conf = {'WORK_PATH': './w', 'data': {'dataset_path': 'd'}, 'model': {'lr': 1}}"
    )
    config = load_config(tmp_path / "config.py")
    assert (config.model.lr, config.model.seed, config.model.amp, config.model.kernels) == (1.0, 0, "off", "auto")
    assert config.work_path == tmp_path / "w"
    assert Path(config.data.dataset_path) == tmp_path / "d"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"margins": 1}}, "unknown key 'margins', did you mean 'margin'"),
        ({"modell": {}}, "did you mean 'model'"),
        ({"model": {"lr": "fast"}}, "lr must be float"),
        ({"model": {"lr": 0}}, "lr must be a number above 0"),
        ({"model": {"batch_size": (8,)}}, "batch_size must be"),
        ({"model": {"channels": (64, 128)}}, "channels must be three integers from 1 to 4,096"),
        ({"model": {"channels": [64, 128, 0]}}, "channels must be three integers"),
        ({"model": {"channels": 64}}, "channels must be tuple, not 64"),
        ({"model": {"batch_size": 128}}, "batch_size must be"),
        ({"model": {"total_iter": True}}, "total_iter must be int"),
        ({"model": {"hard_or_full_trip": "half"}}, "'full', 'hard'"),
        ({"model": {"restore_iter": -3}}, "from -2 to"),
        ({"model": {"loss_scale": "big"}}, "'dynamic' or a number"),
        ({"model": {"loss_scale": "inf"}}, "'dynamic' or a number"),
        ({"model": {"kernels": "own"}}, "'auto', 'plain'"),
        ({"data": {"pid_shuffle": 0}}, "pid_shuffle must be bool"),
        ({"data": None}, "data must be a dict"),
        ({"data": {"device_num": -1}}, "device_num must be from 0 to"),
        ({"data": {"device_num": "8"}}, "device_num must be int"),
        ({"profiling": "XLA"}, "profiling must be CANN, GE, True, False or None, not 'XLA'"),
        ({"profiling": 1}, "profiling must be CANN, GE, True, False or None, not 1"),
        ({"start_step": None}, "start_step must be int"),
        ({"stop_steps": 3}, "unknown key 'stop_steps', did you mean 'stop_step'"),
        ({"model": {"batch_size": (1, 16)}}, "P at least 2"),
        ({"data": {"resolution": "128"}}, "one of '64'"),
        ({"model": {"lr": float("nan")}}, "lr must be a number above 0, not nan"),
        ({"model": {"lr": float("inf")}}, "lr must be a number above 0, not inf"),
        ({"model": {"lr": 10**400}}, "lr must be a number above 0"),
        ({"model": {"margin": float("nan")}}, "margin must be a number above 0, not nan"),
        ({"model": {"loss_scale": float("nan")}}, "'dynamic' or a number"),
        ({"model": {"batch_size": (8, True)}}, "batch_size must be"),
        ({"model": {"batch_size": (8, 16, 2)}}, "batch_size must be"),
        ({"model": {"batch_size": (8, 10**9)}}, "batch_size must be"),
        ({"model": {"hidden_dim": 10**9}}, "hidden_dim must be from 1 to 65,536"),
        ({"model": {"seed": 2**64}}, "seed must be from 0 to"),
        ({"model": {"total_iter": 10**5000}}, "total_iter must be from 1 to .* not a int"),
        ({"model": {"model_name": "../../elsewhere"}}, "model_name must be a file name"),
        ({"model": {"model_name": "/elsewhere"}}, "model_name must be a file name"),
        ({"model": {"model_name": ""}}, "model_name must be a file name"),
        ({"data": {"dataset": "../CASIA-B"}}, "dataset must be a file name"),
        ({"data": {"dataset": ".hidden"}}, "dataset must be a file name"),
        ({"data": {"dataset": "a\nb"}}, "dataset must be one line of text, not 'a.nb'"),
        ({"data": {"dataset_path": "a\0b"}}, "dataset_path must be one line of text"),
        ({"data": {"dataset_path": 5}}, "dataset_path must be one line of text, not 5"),
        ({"data": {"dataset_path": "x" * 10**6, "pid_num": "x" * 10**6}}, r"pid_num must be int, not 'x{79}\.\.\.$"),
        ({"data": {"probe": {"NM": ["nm-05"]}}}, "probe must be tuple"),
        ({"data": {"gallery": [1]}}, "gallery must be a list of take names"),
        ({"data": {"probe": ["walk2", ""]}}, "probe must be a list of take names"),
        ({"WORK_PATH": 5}, "WORK_PATH must be one line of text, not 5"),
        ({"CUDA_VISIBLE_DEVICES": "0\0"}, "CUDA_VISIBLE_DEVICES must be one line of text"),
        ({5: 6}, "unknown key 5"),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, str) else None,
)
def test_wrong_keys_and_values_are_named(content, message):
    with pytest.raises(UsageError, match=message) as caught:
        build_config(content, Path())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["import nothing_of_this_name", "conf = 3", "conf = {", "conf = {}[1]", "1 / 0", "exit()", "\0"]
)
def test_files_without_a_config_are_rejected(tmp_path, text):
    (tmp_path / "c.py").write_text(text)
    with pytest.raises(UsageError, match=r"c\.py"):
        load_config(tmp_path / "c.py")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": 0.0}, "--lr must be a number above 0, not 0.0"),
        ({"total_iter": 10**15}, "--iters must be from 1 to"),
        ({"dataset_path": "a\0b"}, "--data_path must be one line of text"),
        ({"start_step": -5}, "--start_step must be from -1"),
        ({"batch_size": (1, None)}, r"--batch_size_p and --batch_size_m must be .* not \(1, 16\)"),
    ],
)
def test_errors_in_values_of_the_command_line_name_the_option_and_not_the_file(given, message):
    with pytest.raises(UsageError, match=f"^command line: {message}"):
        build_config({}, Path(), given, "config_1p.py")


def test_command_line_overrides_only_the_given_keys():
    options = Namespace(iters=7, lr=None, batch_size_p=4, batch_size_m=None, data_path="here", device="cpu", pid_num=3)
    config = load_config(ROOT / "config_1p.py", overrides_of(options))
    assert config.model.total_iter == 7
    assert config.model.lr == 1e-4
    assert config.model.batch_size == (4, 16)
    assert (config.data.dataset_path, config.data.pid_num) == ("here", 3)


def test_numbers_become_text_where_the_original_has_text():
    config = build_config({"data": {"resolution": 64}, "model": {"loss_scale": 32}}, Path())
    assert (config.data.resolution, config.model.loss_scale) == ("64", "32")


@pytest.mark.parametrize(("given", "known"), [("casia-b", "CASIA-B"), ("OU_MVLP", "OUMVLP"), ("mine", "mine")])
def test_spellings_of_a_dataset_become_its_canonical_name(given, known):
    """The name selects the protocol, the exclusion of subject 005 and file names, so only one spelling may be used."""
    assert build_config({"data": {"dataset": given}}, Path()).data.dataset == known


def test_one_take_or_a_list_of_takes_can_be_given():
    data = build_config({"data": {"gallery": "walk1", "probe": ["walk2", "ALL=a,b"]}}, Path()).data
    assert (data.gallery, data.probe) == (("walk1",), ("walk2", "ALL=a,b"))
    assert data.protocol.probes == {"WALK2": ("walk2",), "ALL": ("a", "b")}


def test_an_override_replaces_a_placeholder_in_the_file():
    content = {"WORK_PATH": None, "data": {"dataset_path": None}, "model": {"lr": "to be chosen"}}
    given = {"WORK_PATH": "w", "dataset_path": "d", "lr": 0.5}
    config = build_config(content, Path("folder"), given)
    assert (config.work_path, config.data.dataset_path, config.model.lr) == (Path("w"), "d", 0.5)
    for key in given:
        with pytest.raises(UsageError, match=f"config: {key} must be"):
            build_config(content, Path("folder"), {name: value for name, value in given.items() if name != key})


def test_override_of_p_or_k_rejects_an_invalid_batch_size():
    for wrong in (5, (8, 16, 2), "ab", None):
        with pytest.raises(UsageError, match="batch_size must be"):
            build_config({"model": {"batch_size": wrong}}, Path(), {"batch_size": (4, None)})


def dict_of_the_npu_port(devices: str, **more) -> dict:
    """Return a config with the keys of `PyTorch/contrib/cv/classification/GaitSet/config.py` in the model zoo."""
    data = {
        "dataset_path": "../../CASIA-B-Pre/", "resolution": "64", "dataset": "CASIA-B", "pid_num": 73,
        "pid_shuffle": False, "device_num": len(devices.split(",")),
    }  # fmt: skip
    model = {
        "hidden_dim": 256, "lr": 8e-4, "hard_or_full_trip": "full", "batch_size": (8, 16), "restore_iter": 0,
        "total_iter": 40000, "margin": 0.2, "num_workers": 8, "frame_num": 30, "model_name": "GaitSet",
    }  # fmt: skip
    steps = {"profiling": "None", "start_step": -1, "stop_step": -1}
    return {"WORK_PATH": ".", "ASCEND_VISIBLE_DEVICES": devices, "data": data, "model": model, **steps, **more}


def test_the_config_of_the_npu_port_is_read(tmp_path):
    """One file defines the configurations of one and of eight processes."""
    one, eight = dict_of_the_npu_port("0"), dict_of_the_npu_port("0,1,2,3,4,5,6,7", profiling="GE", start_step=3)
    (tmp_path / "config.py").write_text(f"conf_1p = {one}\nconf_8p = {eight}")
    config = load_config(tmp_path / "config.py")
    assert (config.device_num, config.profiling, config.start_step, config.stop_step) == (1, False, -1, -1)
    assert (config.visible_devices, config.work_path) == ({"ASCEND_VISIBLE_DEVICES": "0"}, tmp_path)
    config = load_config(tmp_path / "config.py", processes=8)
    assert (config.device_num, config.profiling, config.start_step, config.stop_step) == (8, True, 3, -1)
    assert "device_num" not in vars(config.data), "the metadata of checkpoints would contain it"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("CANN", True), ("ge", True), (True, True), ("TRUE", True), ("None", False), ("", False), (None, False)],
)
def test_profiling_takes_the_kinds_of_the_npu_port(value, expected):
    assert build_config({"profiling": value}, Path()).profiling is expected
