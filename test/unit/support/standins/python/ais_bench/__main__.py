"""Stand-in for Ascend's `python3 -m ais_bench`, based on the published sources of its versions.

The options, the names of files, the filling of the last batch, summary.json and the printed lines are the same as in
the real tool. The checks of paths are the same as in its newest versions: they reject paths with unusual characters,
symbolic links, group-writable files, and output folders that all users can read. Environment variables change the
behaviour:

STANDIN_TYPER=1     simulate the newest version, which uses the package typer: its option names have dashes, it prints
                    errors in a box and times in a table, and its summary.json has the key P99
STANDIN_OLD=1       simulate the version of 2023, which always divides the input files and does not know --divide_input
STANDIN_LOSE=1      one result is missing
STANDIN_SILENT=1    no summary.json is written

One thing differs: the stand-in runs the devices of --device one after the other, the real tool at the same time.
"""

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import numpy as np
from standins.ais_bench_arguments import TYPER, error, fail, info, parse, readable
from standins.om_file import NotAnOmError
from standins.om_model import OmModel, devices

PURE = "pure_infer_data"  # stem of the result without input files
FOLDER_MODE, FILE_MODE = 0o750, 0o640


def open_model(args: argparse.Namespace, device: int) -> OmModel:
    info("acl init success")
    if device >= devices():
        fail(f"acl open device {device} failed SetDevice failed.ret=507033")
    info(f"open device {device} success")
    try:
        model = OmModel(args.model)
    except NotAnOmError as reason:
        fail(f"load model from file failed, model file is {args.model} ({reason})")
    info(f"load model {args.model} success\n[INFO] create model description success")
    return model


def files_of(folder: Path) -> list[Path]:
    """Return all input files of the folder in natural order."""
    for path in folder.iterdir():
        readable(str(path))
    files = [path for path in folder.iterdir() if path.is_file() and path.suffix in (".npy", ".NPY", ".bin", ".BIN")]
    if not files:
        fail(f"{folder} of input args not find valid file,valid file format:[*.npy *.NPY *.bin *.BIN]")
    return sorted(files, key=lambda path: re.sub(r"\d+", lambda number: number[0].zfill(20), path.name.lower()))


def batches_of(files: list[Path], model: OmModel) -> list[list[Path | None]]:
    """Split the files into batches. The last batch is filled with None."""
    tensor, size = int(np.prod(model.shape)) * 4, files[0].stat().st_size
    if size == 0 or tensor % size:
        fail(f"arg0 tensorsize: {tensor} filesize: {size} not match")
    count = tensor // size
    runs = -(-len(files) // count)
    info(f"get filesperbatch files0 size:{size} tensor0size:{tensor} filesperbatch:{count} runcount:{runs}")
    filled = [*files, *[None] * (runs * count - len(files))]
    return [filled[first : first + count] for first in range(0, len(filled), count)]


def main(names: dict[str, str], arguments: list[str]) -> None:
    args = parse(names, arguments)
    files = None
    if args.input is not None:
        source = Path(args.input)
        files = files_of(source) if source.is_dir() else list(map(Path, args.input.split(",")))
    folder = Path(args.output) / (args.output_dirname or time.strftime("%Y_%m_%d-%H_%M_%S")) if args.output else None
    if len(args.device) == 1:
        run_on_device(args, args.device[0], files, folder)
        return
    shares = [files] * len(args.device)
    if files and getattr(args, "divide_input", True):
        open_model(args, 0)
        shares = divide(files, len(args.device))
    rates = {}
    for i, (device, share) in enumerate(zip(args.device, shares, strict=True)):
        own = folder and folder / (f"device{device}_{i}" if hasattr(args, "divide_input") else f"device{device}")
        try:
            rates[i] = run_on_device(args, device, share, own)
        except RuntimeError as problem:
            error(f"subprocess run failed error_callback:{problem}")
    result = int(len(rates) < len(args.device))
    info(f"multidevice run end qsize:{len(args.device) + len(rates)} result:{result}")
    for i, rate in rates.items():
        info(f"i:{i} device_{args.device[i]} throughput:{rate}                 start_time:1.5 end_time:2.5")
    info(f"summary throughput:{sum(rates.values())}")
    sys.exit(result)


def divide(files: list[Path], count: int) -> list[list[Path]]:
    """Split the files evenly between `count` devices. Like the real tool, fail if a device would get no file."""
    size, left = divmod(len(files), count)
    if not size:
        raise OverflowError("get list part failed")
    bounds = [i * size + min(i, left) for i in range(count + 1)]
    return [files[bounds[i] : bounds[i + 1]] for i in range(count)]


def run_on_device(args: argparse.Namespace, device: int, files: list[Path] | None, folder: Path | None) -> float:
    """Run the model on the files, or on zeros if there are no files, and return the throughput."""
    model = open_model(args, device)
    if folder:
        folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        Path(args.output).chmod(FOLDER_MODE)
        info(f"output path:{folder}")
    summary, times = {"filesinfo": {}}, []
    batches = batches_of(files, model) if files else [[None] * model.batch_size]
    if args.batchsize is None:
        info(f"try get model batchsize:{model.batch_size}")
    model.run(np.zeros(model.shape, np.float32))
    info("warm up 1 done")
    for i, batch in enumerate(batches):
        print(f"\rInference array Processing: {100 * (i + 1) // len(batches):3d}%|███| {i + 1}/{len(batches)}", end="")
        values = values_of(batch, model)
        for _ in range(args.loop):
            start = time.perf_counter()
            features = model.run(values)
            times.append((time.perf_counter() - start) * 1000)
        if folder:
            listed = write_results(folder, i, batch, features) if files else write_pure(folder, features)
            summary["filesinfo"] |= listed
    print()
    return report(summary, times, args.batchsize or model.batch_size, folder)


def values_of(batch: list[Path | None], model: OmModel) -> np.ndarray:
    if batch[0] is None:
        return np.zeros(model.shape, np.float32)
    content = b"".join((file or batch[0]).read_bytes() for file in batch)
    if len(content) != int(np.prod(model.shape)) * 4:
        fail(f"ndata size:{len(content)} not match {int(np.prod(model.shape)) * 4}")
    return np.frombuffer(content, "<f4")


def write_results(folder: Path, number: int, batch: list[Path | None], features: np.ndarray) -> dict[int, dict]:
    """Write one file per sequence and return the entries of summary.json."""
    listed = {}
    for j, (file, feature) in enumerate(zip(batch, features, strict=True)):
        if file is None or (os.environ.get("STANDIN_LOSE") and (number, j) == (0, 0)):
            continue
        out = folder / f"{file.name.split('.')[0]}_0.bin"
        feature.tofile(out)
        out.chmod(FILE_MODE)
        listed[number * len(batch) + j] = {"infiles": [str(file)], "outfiles": [str(out)]}
    return listed


def write_pure(folder: Path, features: np.ndarray) -> dict[int, dict]:
    out = folder / f"{PURE}_0.bin"
    features.tofile(out)
    return {0: {"infiles": [PURE], "outfiles": [str(out)]}}


def report(summary: dict, times: list[float], batch: int, folder: Path | None) -> float:
    low, high, mean, median = np.min(times), np.max(times), np.mean(times), np.median(times)
    tail, throughput = np.percentile(times, 99), 1000 * batch / np.mean(times)
    typer = os.environ.get("STANDIN_TYPER")
    stages = {"min": low, "max": high, "mean": mean, "median": median, "P99" if typer else "percentile(99%)": tail}
    info("-----------------Performance Summary------------------")
    if typer:
        cells = "".join(f" {value:8.4f} │" for value in (low, high, mean, median, tail))
        print("╒═══╕\n│ Metric                │ min │ max │ mean │ median │ P99 │\n╞═══╡")
        print(f"│ NPU_compute_time (ms) │{cells}\n╘═══╛")
    else:
        times_text = ", ".join(f"{name} = {value}" for name, value in stages.items())
        info(f"NPU_compute_time (ms): {times_text}")
    word = "Throughput" if typer else "throughput"
    info(f"{word} 1000*batchsize.mean({batch})/NPU_compute_time.mean({mean}): {throughput}")
    info("------------------------------------------------------")
    stages["count"] = len(times)
    summary |= {"args": sys.argv, "NPU_compute_time": stages, "H2D_latency": stages, "D2H_latency": stages}
    summary |= {"throughput": throughput, "npu_compute_time_list": times, "pid": os.getpid()}
    if folder and not os.environ.get("STANDIN_SILENT"):
        folder.with_name(f"{folder.name}_summary.json").write_text(json.dumps(summary))
    for line in ("unload model success, model Id is 1", "end to destroy context", "end to reset device is 0"):
        info(line)
    info("end to finalize acl")
    return throughput


if __name__ == "__main__":
    main(TYPER if os.environ.get("STANDIN_TYPER") else {}, sys.argv[1:])
