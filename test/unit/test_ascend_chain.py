"""Run the published commands with stand-ins for eight NPUs, CANN and the benchmark tool."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from ascend import place_benchmark
from cann_folder import write_cann
from forking import python_command
from scripts import ROOT, run_quietly, summary_of
from standins.npu_machine import npu_environment
from walkers import write_aligned_tree

from model.runtime.benchmark_tool import tool_name

# With two views of two test subjects, these are 20 sequences, which is not a multiple of the batch size 3.
TAKES = ("nm-01", "nm-02", "nm-05", "bg-01", "cl-01")
# The commands of the README of the model zoo's inference port, ACL_PyTorch/contrib/cv/classfication/GaitSet (2022), and
# of the training port, PyTorch/contrib/cv/classification/GaitSet (2023), in the order in which a user needs them.
PREPARE = """
bash test/predeal.sh
python3.7.5 pretreatment.py --input_path='/home/CASIA-B' --output_path='/root/CASIA-B-Pre/'
python3.7.5 -u test.py --iter=-1 --batch_size 1 --cache=True --pre_process=True
"""
TRAIN = "bash ./test/train_full_8p.sh --data_path=/root/CASIA-B-Pre/"
CONVERT = """
python3.7.5 pth2onnx.py --input_path='/home/1.ptm'
python3.7.5 pth2onnx.py --input_path='/home/1.ptm' --iters=60000
atc --framework=5 --model=gaitset_submit.onnx --output=gaitset_submit --input_shape="image_seq:1,100,64,44" \
--log=debug --soc_version=Ascend310
./benchmark.x86_64 -model_type=vision -device_id=0 -batch_size=1 -om_path=gaitset_submit.om \
-input_text_path=CASIA-B-bin.info -input_width=64 -input_height=64 -output_binary=True -useDvpp=False
./benchmark.x86_64 -model_type=vision -device_id=0 -batch_size=16 -om_path=gaitset_submit.om \
-input_text_path=CASIA-B-bin.info -input_width=64 -input_height=64 -output_binary=True -useDvpp=False
python3.7.5 -u test.py --iter=-1 --batch_size 1 --cache=True --post_process=True
"""
DRIVERS = """
bash test/pth2om.sh
bash test/eval_acc_perf.sh
"""
# The README runs the om for batch size 1 also with -batch_size=16. The tool rejects this: "the value must be the batch
# size of the om, otherwise it reports an error that the input sizes differ" (README of C3D in the same model zoo).
REFUSED = {"-batch_size=16": "size mismatch: -batch_size=16, but the model's is 1"}
# The README asks the user to edit paths in predeal.sh and the configuration. Environment variables replace the paths.
PATHS = {"INPUT_PATH": "/home/CASIA-B", "OUTPUT_PATH": "/root/CASIA-B-Pre/"}
MODEL = {"batch_size": (2, 2), "frame_num": 3, "total_iter": 2, "num_workers": 0, "hidden_dim": 32,
         "channels": (8, 16, 32)}  # fmt: skip
CONFIG = f"conf = {{'data': {{'dataset_path': '/root/CASIA-B-Pre/', 'pid_num': 3}}, 'model': {MODEL}}}"


class User:
    """A user who types the commands in a copy of the repository. /home and /root are folders of the copy."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("pretreatment.py", "train.py", "test.py", "pth2onnx.py"):
            shutil.copy(ROOT / name, folder)
        for name in ("model", "test"):
            ignored = shutil.ignore_patterns("__pycache__", "output", "unit", "docs")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        for name in ("config_1p.py", "config_8p.py"):
            (folder / name).write_text(self.here(CONFIG))

    def here(self, text: str) -> str:
        for place in ("/home/", "/root/"):
            text = text.replace(place, f"{self.folder}{place}")
        return text.replace("benchmark.x86_64", tool_name())

    def type(self, lines: str, **environment: str) -> str:
        """Run the lines and return their output. Lines that contain a key of REFUSED must fail, all others succeed."""
        output = ""
        for line in filter(None, self.here(lines).splitlines()):
            words = shlex.split(line)
            if words[0].startswith("python"):
                done = run_quietly([python_command(), *words[1:]], self.folder, environment)
            else:
                # The README sets the environment of CANN before it runs atc.
                line = f"source Ascend/ascend-toolkit/set_env.sh; {line}" if words[0] == "atc" else line
                done = run_quietly(["bash", "-c", line], self.folder, environment | {"PYTHON": python_command()})
            output += done.stdout + done.stderr
            refusal = next((message for part, message in REFUSED.items() if part in line), "")
            assert (done.returncode == 0) == (not refusal) and refusal in output, f"{line}\n{output[-3000:]}"
        return output


@pytest.fixture
def user(tmp_path):
    return User(tmp_path)


@pytest.mark.slow
def test_published_command_lines_work_as_typed_from_raw_tree_to_rank_1(npu_library, user):
    home = user.folder
    raw = write_aligned_tree(home / "home" / "CASIA-B", subjects=6, seq_types=TAKES, frames=4, margin=20)
    for take in ("bg-01/000", "bg-01/090", "cl-01/000"):  # so that rank-1 is not 100 %
        shutil.rmtree(raw / "006" / take)
        shutil.copytree(raw / "004" / take, raw / "006" / take)
    write_cann(home / "Ascend" / "ascend-toolkit")
    place_benchmark(home)
    machine = {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}

    said = user.type(PREPARE, **machine, **{name: user.here(path) for name, path in PATHS.items()})
    assert "wrote 20 input files to CASIA-B-bin" in said, "subject 005 is left out, and the first three subjects train"
    assert len((home / "CASIA-B-bin.info").read_text().splitlines()) == 20

    said = user.type(TRAIN, **npu_environment(npu_library, NPUSIM_DEVICES="8"), **machine)
    assert "found devices or cores for" not in said, "there are eight devices, so eight processes run"
    summary = summary_of("train_full_8p")["training"]
    assert summary["processes"] == 8 and summary["device"] == "npu:0 (Ascend910B3)"
    [checkpoint] = (home / "work/checkpoint/GaitSet").glob("*-00002-encoder.ptm")
    assert summary["checkpoint"] == str(checkpoint)
    record = json.loads(next(checkpoint.parent.glob("*.json")).read_text())
    assert record["world_size"] == 8 and record["device"].startswith("npu:0")

    shutil.copy(checkpoint, home / "home" / "1.ptm")
    said = user.type(CONVERT, **machine)
    assert "ATC run success" in said and "===Rank-1 (Include identical-view cases)===" in said and "95.512" in said
    user.type("python test.py --checkpoint=/home/1.ptm --json=torch.json")
    expected = json.loads((home / "torch.json").read_text())["rank1"]
    assert [expected[name]["including"] for name in ("NM", "BG", "CL")] == [100, 50, 75]
    assert json.loads((home / "work/results/CASIA-B-deployed.json").read_text())["rank1"] == expected

    # pth2om.sh makes an om for each batch size. Batch size 3 takes a tenth of the time of the default sizes 1 and 16.
    said = user.type(DRIVERS, **machine, BATCH_SIZES="3")
    assert {path.name for path in home.glob("*.om")} == {"gaitset_submit.om", "gaitset_submit_bs3.om"}
    assert "runtime benchmark" in said and "599.98" in said and "95.512" in said
    assert json.loads((home / "work/results/deployed_bs3.json").read_text())["rank1"] == expected
