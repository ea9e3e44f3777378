"""The four published commands on a machine with eight NPUs, CANN and the benchmark tool, all of them stand-ins."""

import json
import shutil

import pytest
from ascend import place_benchmark
from cann_folder import write_cann
from scripts import run_driver, run_script, summary_of
from standins.npu_machine import npu_environment
from walkers import write_aligned_tree

# Of two test subjects in two views: 20 sequences, no multiple of 16.
TAKES = ("nm-01", "nm-02", "nm-05", "bg-01", "cl-01")
FRAMES = 20  # frames per sequence of the model; the sequences are shorter, so repeating their frames is exact


def succeed(done) -> str:
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[:3000]
    return done.stdout


@pytest.mark.slow
def test_the_om_gives_the_table_that_torch_gives(npu_library, tmp_path):
    data = {"dataset": "Synthetic", "work_path": tmp_path / "work"}
    options = [f"--{name}={value}" for name, value in data.items()]
    raw, pre, models, bins = (tmp_path / name for name in ("raw", "pre", "models", "bins"))
    write_aligned_tree(raw, subjects=5, seq_types=TAKES, margin=20)
    for take in ("bg-01/000", "bg-01/090", "cl-01/000"):  # one who looks like another now and then
        shutil.rmtree(raw / "005" / take)
        shutil.copytree(raw / "004" / take, raw / "005" / take)

    places = (f"--input_path={raw}", f"--output_path={pre}", f"--bin_path={bins}", "--pid_num=3")
    succeed(run_driver("predeal.sh", *options, *places, "--", "--bin_frames", FRAMES))

    tiny = ("--batch_size_p", 2, "--batch_size_m", 2, "--frame_num", 3, "--pid_num", 3, "--quiet")
    eight = npu_environment(npu_library, NPUSIM_DEVICES="8")
    said = succeed(
        run_driver(
            "train_full_8p.sh", *options, f"--data_path={pre}", "--device=npu", "--iters=2", "--", *tiny, **eight
        )
    )
    assert "found devices or cores for" not in said, "eight devices are there, so eight processes run"
    summary = summary_of("train_full_8p")["training"]
    assert summary["processes"] == 8 and summary["device"] == "npu:0 (Ascend910B3)"
    (checkpoint,) = (tmp_path / "work" / "checkpoint" / "GaitSet").glob("*-00002-encoder.ptm")
    assert summary["checkpoint"] == str(checkpoint)
    record = json.loads(next(checkpoint.parent.glob("*.json")).read_text())
    assert record["world_size"] == 8 and record["device"].startswith("npu:0")

    cann = write_cann(tmp_path / "Ascend" / "ascend-toolkit")
    models.mkdir()
    succeed(
        run_driver(
            "pth2om.sh", f"--checkpoint={checkpoint}", f"--output_path={models}", f"--cann_path={cann}",
            f"--frame_num={FRAMES}",
        )
    )  # fmt: skip
    assert {path.name for path in models.glob("*.om")} == {"gaitset_submit.om", "gaitset_submit_bs16.om"}

    place_benchmark(models)
    places = (f"--bin_path={bins}", f"--model_path={models}", f"--result_path={tmp_path}/result")
    said = succeed(run_driver("eval_acc_perf.sh", *options, *places, cwd=tmp_path))
    assert "runtime benchmark" in said and "599.98" in said and "95.512" in said

    by_torch = tmp_path / "torch.json"
    arguments = ("--data_path", pre, "--dataset", "Synthetic", "--pid_num", 3, "--work_path", data["work_path"])
    succeed(run_script("test.py", *arguments, "--checkpoint", checkpoint, "--device", "cpu", "--json", by_torch))
    expected = json.loads(by_torch.read_text())["rank1"]
    assert [expected[name]["including"] for name in ("NM", "BG", "CL")] == [100, 50, 75]
    for batch in (1, 16):
        found = tmp_path / "work" / "results" / f"deployed_bs{batch}.json"
        assert json.loads(found.read_text())["rank1"] == expected
