"""Select the runtime and the model file of a run: as requested, or with `auto` as this machine supports."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from model.common.errors import UsageError, UserError
from model.runtime.acl_runtime import import_acl
from model.runtime.ais_bench_tool import find_ais_bench
from model.runtime.benchmark_tool import find_benchmark

# Functions that locate the runtimes for om files, in the order in which `auto` tries them.
_OM_TOOLS: dict[str, Callable[[Path], object]] = {
    "benchmark": find_benchmark,
    "ais_bench": lambda om: find_ais_bench(),
    "acl": lambda om: import_acl(),
}
RUNTIMES = ("auto", *_OM_TOOLS, "onnxruntime")
CHECKPOINTS = (".ptm", ".pt", ".pth")


class Choice(NamedTuple):
    """A runtime, the model file that it runs, and a message that explains the choice.

    Attributes:
        by_length: paths of several models of static shape by their number of frames, in increasing order. They are used
            instead of `model`. Empty if only `model` is used.
    """

    runtime: str
    model: Path
    why: str
    by_length: dict[int, Path] = {}  # noqa: RUF012, never modified


def choose(runtime: str, model: Path, direct: bool = False) -> Choice:
    """Select the runtime for a model.

    With `auto`, an om file is used if a runtime for it is installed, otherwise ONNX Runtime with the ONNX file.

    Args:
        runtime: one of `RUNTIMES`.
        model: an om or ONNX file, or the common part of both names without the suffix.
        direct: whether the caller embeds sequences directly, without input files. Then `auto` tries pyACL first,
            because the external tools need input files, and models for several numbers of frames are allowed.

    Raises:
        UsageError: if `runtime` is not one of `RUNTIMES`.
        UserError: if the file or the tool does not exist.
    """
    if runtime not in RUNTIMES:
        raise UsageError(f"--runtime {runtime}: unknown, choose one of {', '.join(RUNTIMES)}")
    if model.suffix in CHECKPOINTS and model.is_file():
        found = "is a checkpoint, expected an om or ONNX file"
        raise UserError(f"{model}: {found}; export it first: pth2onnx.py --checkpoint {shlex.quote(str(model))}")
    om, onnx = _om_of(model), _onnx_of(model)
    if direct and om is None and onnx is None and (by_length := _choose_by_length(runtime, model)):
        return by_length
    if runtime == "auto":
        return _choose(model, om, onnx, direct)
    if runtime in _OM_TOOLS:
        if om is None:
            existing = f"only {onnx} exists; " if onnx else ""
            advice = f"{existing}create one with test/pth2om.sh and CANN"
            raise UserError(f"{model}: no om file for --runtime {runtime}; {advice}")
        _OM_TOOLS[runtime](om)
    elif onnx is None and om is None:
        raise UserError(f"{model}: no such ONNX file; create it with pth2onnx.py")
    elif onnx is None:
        problem = "ONNX Runtime cannot run om files, and there is no ONNX file of this name"
        raise UserError(f"{om}: {problem}; create one with pth2onnx.py")
    file = om if runtime in _OM_TOOLS else onnx
    return Choice(runtime, file, f"runtime {runtime} with {file}, as requested")


def _choose(model: Path, om: Path | None, onnx: Path | None, direct: bool) -> Choice:
    if model.suffix == ".onnx" and onnx is not None:
        return Choice("onnxruntime", onnx, f"runtime onnxruntime with {onnx}: --model is an ONNX file")
    unavailable = []
    for name in sorted(_OM_TOOLS, key=lambda name: direct and name != "acl") if om else []:
        try:
            _OM_TOOLS[name](om)
        except UserError as error:
            unavailable.append(str(error).partition(";")[0])
            continue
        note = f" ({', '.join(unavailable)})" if unavailable else ""
        return Choice(name, om, f"runtime {name} with {om}: the om file and its runtime are available{note}")
    no_runtime = f"no runtime for {om} is available: {', '.join(unavailable)}"
    if onnx is not None:
        reason = no_runtime if om else "there is no om file of this name"
        return Choice("onnxruntime", onnx, f"runtime onnxruntime with {onnx}: {reason}")
    if om is not None:
        raise UserError(f"{no_runtime} (source CANN's set_env.sh), and there is no ONNX file of this name")
    raise UserError(f"{model}: no om or ONNX file of this name; create them with test/pth2om.sh")


def _choose_by_length(runtime: str, stem: Path) -> Choice | None:
    """Select the models `<stem>_f<frames>` that pth2onnx.py writes for several values of --frame_num.

    Returns None if there are no such models that the runtime can run.
    """
    for name, suffix in (("acl", ".om"), ("onnxruntime", ".onnx")):
        form = re.compile(re.escape(stem.name) + r"_f(\d+)(_linux_\w+)?")
        paths = {int(match[1]): path for path in stem.parent.glob(f"*{suffix}") if (match := form.fullmatch(path.stem))}
        if not paths or runtime not in ("auto", name):
            continue
        try:
            if name in _OM_TOOLS:
                _OM_TOOLS[name](stem)
        except UserError:
            if runtime == "auto":
                continue
            raise
        paths = dict(sorted(paths.items()))
        why = f"runtime {name} with {stem}_f*{suffix}, for {', '.join(map(str, paths))} frames"
        return Choice(name, stem, why, paths)
    return None


def _om_of(model: Path) -> Path | None:
    """Return the om file with the name of the model, or None if there is no such file.

    ATC may append the operating system and the processor to the name. If several om files match, the newest is used.
    """
    if model.suffix == ".om":
        return model if model.is_file() else None
    stem = _stem(model)
    candidates = [om for om in (Path(f"{stem}.om"), *stem.parent.glob(f"{stem.name}_linux_*.om")) if om.is_file()]
    return max(candidates, key=lambda om: om.stat().st_mtime, default=None)


def _onnx_of(model: Path) -> Path | None:
    if model.suffix not in (".om", "") and model.is_file():
        return model  # ONNX Runtime reports whether it is valid
    stem = _stem(model)
    onnx = stem.with_name(f"{stem.name.partition('_linux_')[0]}.onnx")
    return onnx if onnx.is_file() else None


def _stem(model: Path) -> Path:
    return model.with_suffix("") if model.suffix in (".om", ".onnx") else model
