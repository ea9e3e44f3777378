"""Which runtime runs which file: what was asked for, or with `auto` what this machine can do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from model.common.errors import UsageError, UserError
from model.runtime.acl_runtime import import_acl
from model.runtime.ais_bench_tool import find_ais_bench
from model.runtime.benchmark_tool import find_benchmark

# How to find each of those that run an om; in the order in which `auto` takes them.
_OM_TOOLS: dict[str, Callable[[Path], object]] = {
    "benchmark": find_benchmark,
    "ais_bench": lambda om: find_ais_bench(),
    "acl": lambda om: import_acl(),
}
RUNTIMES = ("auto", *_OM_TOOLS, "onnxruntime")


class Choice(NamedTuple):
    """A runtime, the file it runs, and a sentence that says why, for people.

    by_length: where one static model is not enough: frames -> the model of that length, the shortest first.
    """

    runtime: str
    model: Path
    why: str
    by_length: dict[int, Path] = {}  # noqa: RUF012, never written to


def choose(runtime: str, model: Path, direct: bool = False) -> Choice:
    """The runtime for `model`, an om or ONNX file or what both names begin with.

    auto: an om and something that runs it, else ONNX Runtime with the ONNX file. direct: the caller has
    no files for a tool, so `auto` takes pyACL first.
    Raises UsageError for a name that is none of RUNTIMES, UserError when file or tool is not there.
    """
    if runtime not in RUNTIMES:
        raise UsageError(f"--runtime {runtime}: no such runtime here, there is {', '.join(RUNTIMES)}")
    om, onnx = _om_of(model), _onnx_of(model)
    if direct and om is None and onnx is None and runtime in ("auto", "acl", "onnxruntime"):
        by_length = _choose_by_length(runtime, model)
        if by_length is not None:
            return by_length
    if runtime == "auto" and model.suffix == ".onnx" and onnx is not None:
        return Choice("onnxruntime", onnx, f"runtime onnxruntime with {onnx}: an ONNX file was given")
    if runtime == "auto":
        return _choose(model, om, onnx, direct)
    if runtime == "onnxruntime":
        if onnx is None:
            raise UserError(_no_onnx(model, om))
        return Choice(runtime, onnx, f"runtime {runtime} with {onnx}, as asked")
    if om is None:
        beside = f"{onnx} is there; " if onnx else ""
        raise UserError(f"{model}: no om file for --runtime {runtime}; {beside}test/pth2om.sh makes one, with CANN")
    _OM_TOOLS[runtime](om)
    return Choice(runtime, om, f"runtime {runtime} with {om}, as asked")


def _choose(model: Path, om: Path | None, onnx: Path | None, direct: bool) -> Choice:
    passed_over = []
    if om is not None:
        for name in sorted(_OM_TOOLS, key=lambda name: direct and name != "acl"):
            try:
                _OM_TOOLS[name](om)
            except UserError as error:
                passed_over.append(str(error).partition(";")[0])
                continue
            before = f" ({', '.join(passed_over)})" if passed_over else ""
            return Choice(name, om, f"runtime {name} with {om}: the om and what runs it are both here{before}")
    nothing = f"{om} is here, but nothing that runs it: {', '.join(passed_over)}"
    if onnx is not None:
        reason = nothing if om else "there is no om beside it"
        return Choice("onnxruntime", onnx, f"runtime onnxruntime with {onnx}: {reason}")
    if om is not None:
        raise UserError(f"{nothing} (source CANN's set_env.sh), and no ONNX file beside it to run instead")
    raise UserError(f"{model}: no om or ONNX file of that name; make them with test/pth2om.sh")


def _choose_by_length(runtime: str, stem: Path) -> Choice | None:
    """Models `<stem>_f<frames>`, as pth2onnx.py names those of several --frame_num; None where there are none."""
    for name, suffix in (("acl", ".om"), ("onnxruntime", ".onnx")):
        found = {}
        for path in stem.parent.glob(f"*{suffix}"):
            length = re.fullmatch(re.escape(stem.name) + r"_f(\d+)(_linux_\w+)?", path.stem)
            if length:
                found[int(length[1])] = path
        if not found or runtime not in ("auto", name):
            continue
        if name == "acl":
            try:
                import_acl()
            except UserError:
                if runtime == "auto":
                    continue
                raise
        found = dict(sorted(found.items()))
        lengths = ", ".join(map(str, found))
        return Choice(name, stem, f"runtime {name} with {stem}_f*{suffix}: one each for {lengths} frames", found)
    return None


def _no_onnx(model: Path, om: Path | None) -> str:
    if om is not None:
        return f"{om}: ONNX Runtime cannot run an om, and there is no ONNX file beside it; pth2onnx.py makes one"
    return f"{model}: no such ONNX file; make it with pth2onnx.py"


def _om_of(model: Path) -> Path | None:
    """The om itself or the newest one of that stem: with some settings atc adds system and processor to the name."""
    if model.suffix == ".om":
        return model if model.is_file() else None
    stem = _stem(model)
    found = [om for om in (Path(f"{stem}.om"), *stem.parent.glob(f"{stem.name}_linux_*.om")) if om.is_file()]
    return max(found, key=lambda om: om.stat().st_mtime, default=None)


def _onnx_of(model: Path) -> Path | None:
    if model.suffix not in (".om", "") and model.is_file():
        return model  # ONNX Runtime says what it thinks of it
    stem = _stem(model)
    onnx = stem.with_name(f"{stem.name.partition('_linux_')[0]}.onnx")
    return onnx if onnx.is_file() else None


def _stem(model: Path) -> Path:
    return model.with_suffix("") if model.suffix in (".om", ".onnx") else model
