"""The stand-ins for benchmark and ais_bench reject what the real tools reject and what is not documented."""

import pytest
from cann_folder import STANDINS
from scripts import run_script

from model.export.manifest import read_info
from model.runtime.benchmark_tool import benchmark_command
from model.runtime.staging import INFO

pytestmark = pytest.mark.slow


@pytest.fixture
def benchmark(deployed, here, task):
    """Return a function that changes arguments of the documented command and runs it with the stand-in."""

    def run(changes):
        command = benchmark_command(here, str(deployed.om(4)), task("benchmark"))
        changes = {f"-input_text_path={INFO}": f"-input_text_path={deployed.info}"} | changes
        arguments = [changed for part in command[1:] if (changed := changes.get(part, part))]
        return run_script(STANDINS / "benchmark.x86_64", *arguments)

    return run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"-model_type=vision": "--model_type=vision"}, "argument --model_type=vision is not -key=value"),
        ({"-device_id=0": "-device_id 0"}, "argument -device_id 0 is not -key=value"),
        ({"-output_binary=True": "-output_binary=False"}, "-output_binary=False is unknown, repeated or invalid"),
        ({"-useDvpp=False": "-useDvpp=True"}, "-useDvpp=True is unknown, repeated or invalid"),
        ({"-input_width=64": "-batch_size=4"}, "-batch_size=4 is unknown, repeated or invalid"),
        ({"-input_width=64": "-speed=9"}, "-speed=9 is unknown"),
        ({"-input_width=64": "-round=9"}, "-model_type=vision is unknown"),
        ({"-input_width=64": None}, "missing argument -input_width"),
        ({"-batch_size=4": "-batch_size=1"}, "size mismatch: -batch_size=1, but the model's is 4"),
    ],
)
def test_benchmark_rejects_arguments(benchmark, changes, message):
    done = benchmark(changes)
    assert done.returncode == 1 and message in done.stdout


def test_benchmark_rejects_undocumented_lists(deployed, here, benchmark):
    paths = read_info(deployed.info)
    for lines, message in [
        ([f"{i} {p} 64 64" for i, p in enumerate(paths)], "5 inputs do not fill batches of 4"),
        ([f"0 {paths[0]} 64"], "line 1"),
        ([f"1 {paths[0]} 64 64"], "line 1"),
        ([f"0 {here}/none.bin 64 64"], "no such file"),
        ([f"{i} {paths[0]} 64 64" for i in range(4)], "two inputs have the same name"),
    ]:
        (here / "l.info").write_text("".join(f"{line}\n" for line in lines))
        done = benchmark({f"-input_text_path={INFO}": f"-input_text_path={here / 'l.info'}"})
        assert done.returncode == 1 and message in done.stdout


def ais_bench(*arguments):
    return run_script(STANDINS / "python" / "ais_bench" / "__main__.py", *arguments)


def test_ais_bench_rejects_arguments_and_paths(deployed, here):
    om, bins = deployed.om(1), deployed.folder / "bins"
    common = ["--model", om, "--input", bins]
    (here / "open").mkdir(mode=0o755)
    (here / "link.om").symlink_to(om)
    (here / "结果").mkdir(mode=0o750)
    for arguments, message in [
        ([*common, "--output_dirname", "r"], "cann't be used alone"),
        ([*common, "--output", here / "r", "--output_dirname", "/r"], "do not support abs path"),
        ([*common, "--output", here / "open"], "permission should not be over 0o750"),
        ([*common, "--output", here / "r", "--output_dirname", "open"], "permission should not be over 0o750"),
        ([*common, "--output", here / "结果"], "path contains illegal char"),
        ([*common, "--output", here / "r", "--output-dirname", "r"], "unrecognized arguments: --output-dirname"),
        (["--model", here / "link.om", "--input", bins, "--output", here / "r"], "is a soft link"),
        (["--model", here / "none.om", "--input", bins, "--output", here / "r"], "not exist"),
        (["--model", om.with_suffix(".onnx"), "--input", bins, "--output", here / "r"], "is illegal"),
        ([*common, "--output", here / "r", "--batchsize", "0"], "invalid positive int"),
        ([*common, "--output", here / "r", "--loop", "100001"], "invalid loop size"),
        ([*common, "--output", here / "r", "--device", "300"], "valid value range is [0, 255]"),
        (["--model", om, "--input", here / "open", "--output", here / "r"], "not find valid file"),
    ]:
        done = ais_bench(*arguments)
        assert done.returncode and message in done.stdout + done.stderr, arguments
    (here / "open" / "0.bin").write_bytes(b"")
    (here / "open" / "0.bin").chmod(0o664)
    assert "is group writable" in ais_bench("--model", om, "--input", here / "open", "--output", here / "r").stdout


def test_newest_ais_bench_reports_errors_in_a_box(deployed, here, monkeypatch):
    monkeypatch.setenv("STANDIN_TYPER", "1")
    done = ais_bench("--model", deployed.om(1), "--output", here / "r", "--output_dirname", "r")
    assert done.returncode == 2 and done.stderr.splitlines()[2].startswith("╭─ Error ─")
    assert "│ No such option: --output_dirname Did you mean --output-dirname? " in done.stderr


def test_ais_bench_restricts_the_permissions_of_its_output(deployed, here):
    (here / "r").mkdir(mode=0o700)
    done = ais_bench("--model", deployed.om(1), "--input", deployed.folder / "bins", "--output", here / "r")
    assert done.returncode == 0
    assert (here / "r").stat().st_mode & 0o777 == 0o750
    (summary,) = (here / "r").glob("*_summary.json")  # the name contains the time
    assert (here / "r" / summary.name.removesuffix("_summary.json") / "0000_0.bin").is_file()
