"""All runtimes compute the embeddings of PyTorch, from a list of files and directly from a store."""

import json
import shlex

import pytest
from ascend import FRAMES, assert_embeddings, assert_results, names_in, run_command_line
from options_page import parser_of
from tiny_store import TinyStore

from model.common.errors import UserError
from model.export.input_files import FixedLength, write_input_files
from model.runtime import __main__ as command
from model.runtime.choice import choose
from model.runtime.runners import embed, run_and_record

pytestmark = pytest.mark.slow

ALL = ("benchmark", "ais_bench", "acl", "onnxruntime")


@pytest.mark.parametrize("runtime", ALL)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_store_directly(deployed, here, runtime, batch_size):
    choice = choose(runtime, deployed.om(batch_size))
    embeddings = embed(choice, deployed.store, FixedLength(FRAMES), here / "work", quiet=True)
    assert_embeddings(embeddings, deployed)
    assert not (here / "work").exists() or names_in(here / "work") == []


@pytest.mark.parametrize("runtime", ALL)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_list_with_the_command(deployed, here, monkeypatch, capsys, runtime, batch_size):
    """Five sequences in batches of four get three fillers, which leave no result."""
    model = deployed.om(batch_size).with_suffix("")
    arguments = ["--runtime", runtime, "--model", model, "--info", deployed.info, "--output", "r", "--device_id", "1"]
    summary = run_command_line(monkeypatch, command, *arguments, "--batch_size", batch_size, "--quiet")
    results = here / "r" / "dumpOutput_device1"
    assert names_in(results) == [f"{i:04d}_{int(runtime != 'ais_bench')}.bin" for i in range(5)]
    assert_results(results, deployed)
    assert (summary["runtime"], summary["batch_size"], summary["sequences"]) == (runtime, batch_size, 5)
    count = "batches" if runtime in ("acl", "onnxruntime") else "fillers"
    assert summary[count] == {"batches": -(-5 // batch_size), "fillers": -5 % batch_size}[count]
    assert summary["provider"] == ("CPUExecutionProvider" if runtime == "onnxruntime" else "device 1")
    written = here / "r" / f"perf_vision_batchsize_{batch_size}_device_1.json"
    assert json.loads(written.read_text()) == summary
    assert written.with_suffix(".txt").is_file() == (runtime != "ais_bench") == (summary["e2e_throughput"] is not None)
    printed = capsys.readouterr().out
    assert f"{summary['device_throughput']:.2f} sequences/s" in printed
    assert runtime == "ais_bench" or f"{summary['e2e_throughput']:.2f} sequences/s end to end" in printed
    assert ("one chip only" in printed) == (runtime != "onnxruntime")
    assert "as requested" in printed.splitlines()[0]


@pytest.mark.parametrize("dataset", ["Synthetic", None])
def test_the_command_that_comes_next_names_the_data_set_of_the_input_files(tmp_path, dataset):
    info = tmp_path / "some-bin.info"
    write_input_files(
        TinyStore([2]), None, tmp_path / "some-bin", info, FixedLength(2), dataset=dataset or "", quiet=True
    )
    program, script, *words = shlex.split(command._next_command(info, tmp_path / "results"))
    assert (program, script) == ("python", "test.py")
    options = parser_of(script).parse_args(words)
    assert (options.dataset, options.bin_path) == (dataset, tmp_path / "some-bin") and options.post_process
    info.with_suffix(".json").unlink()
    assert "--dataset" not in command._next_command(info, tmp_path / "results")


@pytest.mark.parametrize("runtime", ALL)
@pytest.mark.parametrize("kind", [{}, {"info": None, "loop": 3}], ids=["list", "pure"])
def test_batch_size_other_than_requested(here, task, runtime, kind):
    message = r"-batch_size=2, but the model's is 4|gaitset_submit_bs4\.o\w+: its batch size is 4, (not|but --batch)"
    with pytest.raises(UserError, match=message):
        run_and_record(task(runtime, batch_size=2, **kind))
    assert not [path for path in here.glob("result/*") if not path.name.endswith((".log", "_summary.json"))]


def test_input_files_of_another_length_than_the_om(deployed, here):
    with pytest.raises(UserError, match=r"size mismatch: bins/0000\.bin"):
        embed(choose("benchmark", deployed.om(4)), deployed.store, FixedLength(9), here, quiet=True)
    assert not [name for name in names_in(here) if name.startswith("deployed-")]


def test_warning_where_figures_are_missing(deployed, here, monkeypatch, capsys):
    monkeypatch.setenv("STANDIN_PERFORMANCE", "broken")
    arguments = ["--runtime", "benchmark", "--model", deployed.om(1), "--info", deployed.info, "--quiet"]
    run_command_line(monkeypatch, command, *arguments)
    printed = capsys.readouterr().out
    assert "throughput  unknown" in printed
    assert "warning: no performance figures: result/perf_vision_batchsize_1" in printed
    assert len(names_in(here / "result" / "dumpOutput_device0")) == 5
