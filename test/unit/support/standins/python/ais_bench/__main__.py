"""Stand-in for Ascend's `python3 -m ais_bench`, based on its published source.

Options, order and names of files, filling of the last batch, summary.json and output are the same as in the real tool.
The same applies to the checks of its newest releases, which reject paths with unusual characters, symbolic links,
group-writable files and output folders that others may read. With STANDIN_LOSE=1, one result is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import stat
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import numpy as np
from standins.om_file import NotAnOmError
from standins.om_model import OmModel, devices


def error(message: str) -> None:
    print(f"[ERROR] {message}", flush=True)


def info(message: str) -> None:
    print(f"[INFO] {message}", flush=True)


def refuse_path(value: str, refused_modes: int, needed: bool) -> None:
    path = Path.cwd() / value  # not resolved: a link is to be seen as one
    if re.search(r"[^_A-Za-z0-9/.-]", str(path)):
        error("path contains illegal char, legal chars include A-Z a-z 0-9 _ - / .")
    elif path.is_symlink():
        error(f"path :{path} is a soft link, not supported, please import file(or directory) directly")
    elif not path.exists():
        if not needed:
            return
        error(f"path: {path} not exist, please check if file or dir is exist")
    elif stat.S_IMODE(path.stat().st_mode) & refused_modes:
        error(f"The file {path} is group writable, or is others writable, permission should not be over 0o750")
    else:
        return
    raise argparse.ArgumentTypeError(f"path:{value} is illegal. Please check.")


def readable(value: str) -> str:
    for path in value.split(","):
        refuse_path(path, stat.S_IWGRP | stat.S_IWOTH, needed=True)
    return value


def om_file(value: str) -> str:
    if not readable(value).endswith(".om"):
        raise argparse.ArgumentTypeError(f"om path:{value} is illegal. Please check.")
    return value


def writable(value: str) -> str:
    refuse_path(value, stat.S_IWGRP | stat.S_IRWXO, needed=False)
    return value


def positive(value: str) -> int:
    if not value.isdigit() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value} is an invalid positive int value")
    return int(value)


def device(value: str) -> int:
    if not value.isdigit() or int(value) > 255:
        raise argparse.ArgumentTypeError(f"device:{value} is invalid. valid value range is [0, 255]")
    return int(value)


def parse(names: dict[str, str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument(names.get("--model", "--model"), dest="model", type=om_file, required=True)
    parser.add_argument("--input", type=readable)
    parser.add_argument("--output", type=writable)
    parser.add_argument(names.get("--output_dirname", "--output_dirname"), dest="output_dirname", type=writable)
    parser.add_argument("--outfmt", default="BIN", choices=["BIN"])  # NPY and TXT: nobody here needs them
    parser.add_argument(names.get("--batchsize", "--batchsize"), dest="batchsize", type=positive)
    parser.add_argument("--device", type=device, default=0)
    args = parser.parse_args(sys.argv[2:] if names else sys.argv[1:])
    if args.output_dirname and args.output_dirname[0] == "/":
        raise ValueError("--output_dirname do not support abs path!")
    if args.output_dirname and not args.output:
        error("parameter --output_dirname cann't be used alone. Please use it together with the parameter --output!")
        raise RuntimeError("error bad parameters --output_dirname")
    return args


def open_model(args: argparse.Namespace) -> OmModel:
    if args.device >= devices():
        error(f"acl open device {args.device} failed SetDevice failed.ret=507033")
        raise RuntimeError
    try:
        model = OmModel(args.model)
    except NotAnOmError as reason:
        error(f"load model from file failed, model file is {args.model} ({reason})")
        raise RuntimeError from None
    info(f"load model {args.model} success")
    return model


def files_of(folder: Path) -> list[Path]:
    """All bins of the folder, numbers in their names counting as numbers."""
    for path in folder.iterdir():
        readable(str(path))
    files = [path for path in folder.iterdir() if path.is_file() and path.suffix in (".npy", ".NPY", ".bin", ".BIN")]
    if not files:
        error(f"{folder} of input args not find valid file,valid file format:[*.npy *.NPY *.bin *.BIN]")
        raise RuntimeError
    return sorted(files, key=lambda path: re.sub(r"\d+", lambda number: number[0].zfill(20), path.name.lower()))


def batches_of(files: list[Path], model: OmModel) -> list[list[Path | None]]:
    """None fills the last batch."""
    tensor, size = int(np.prod(model.shape)) * 4, files[0].stat().st_size
    if size == 0 or tensor % size:
        error(f"arg0 tensorsize: {tensor} filesize: {size} not match")
        raise RuntimeError
    count = tensor // size
    runs = -(-len(files) // count)
    info(f"get filesperbatch files0 size:{size} tensor0size:{tensor} filesperbatch:{count} runcount:{runs}")
    filled = [*files, *[None] * (runs * count - len(files))]
    return [filled[first : first + count] for first in range(0, len(filled), count)]


def main(names: dict[str, str] | None = None) -> None:
    args = parse(names or {})
    model = open_model(args)
    folder = Path(args.output) / (args.output_dirname or time.strftime("%Y_%m_%d-%H_%M_%S"))
    folder.mkdir(0o750, parents=True, exist_ok=True)
    info(f"output path:{folder}")
    files = files_of(Path(args.input)) if Path(args.input).is_dir() else list(map(Path, args.input.split(",")))
    batches = batches_of(files, model)
    summary, times = {"filesinfo": {}}, []
    model.run(np.zeros(model.shape, np.float32))
    info("warm up 1 done")
    for i, batch in enumerate(batches):
        content = b"".join((file or batch[0]).read_bytes() for file in batch)
        if len(content) != int(np.prod(model.shape)) * 4:
            error(f"ndata size:{len(content)} not match {int(np.prod(model.shape)) * 4}")
            raise RuntimeError
        start = time.perf_counter()
        features = model.run(np.frombuffer(content, "<f4"))
        times.append((time.perf_counter() - start) * 1000)
        for j, (file, feature) in enumerate(zip(batch, features, strict=True)):
            if file is None or (os.environ.get("STANDIN_LOSE") and (i, j) == (0, 0)):
                continue
            out = folder / f"{file.name.split('.')[0]}_0.bin"
            feature.tofile(out)
            summary["filesinfo"][i * len(batch) + j] = {"infiles": [str(file)], "outfiles": [str(out)]}
    report(summary, times, args.batchsize or model.batch_size, folder)


def report(summary: dict, times: list[float], batch: int, folder: Path) -> None:
    low, high, mean, median = np.min(times), np.max(times), np.mean(times), np.median(times)
    tail, throughput = np.percentile(times, 99), 1000 * batch / np.mean(times)
    stages = {"min": low, "max": high, "mean": mean, "median": median, "percentile(99%)": tail, "count": len(times)}
    info("-----------------Performance Summary------------------")
    info(
        f"NPU_compute_time (ms): min = {low}, max = {high}, mean = {mean}, median = {median}, percentile(99%) = {tail}"
    )
    info(f"throughput 1000*batchsize.mean({batch})/NPU_compute_time.mean({mean}): {throughput}")
    info("------------------------------------------------------")
    summary |= {"args": sys.argv, "NPU_compute_time": stages, "H2D_latency": stages, "D2H_latency": stages}
    summary |= {"throughput": throughput, "npu_compute_time_list": times, "pid": os.getpid()}
    folder.with_name(f"{folder.name}_summary.json").write_text(json.dumps(summary))
    print("unload model success, model Id is 1\nend to destroy context\nend to reset device is 0\nend to finalize acl")


if __name__ == "__main__":
    main()
