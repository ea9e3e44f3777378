"""What atc's complaints mean, and what to do: one line each.

Facts: CANN's error code reference, the published error texts of the graph engine (hicann/ge), and public threads on
environments in which atc does not start.
"""

from __future__ import annotations

import re
from collections.abc import Callable

SUCCESS = "ATC run success"
FAILURE = "ATC run failed"
MISSING_DRIVER = "libascend_hal.so: cannot open shared object file"
KILLED = (-9, 137)

_SOURCE = "source set_env.sh of CANN, or name its folder with --cann_path"
_REEXPORT = "export the model with pth2onnx.py, which writes opset 11 and one opset import"
_STATIC = "leave it out, the models are of fixed shapes: one model for each of --batch_sizes"
_OPS = "install the operator (ops, formerly kernels) package of this SoC, of the same version as CANN's toolkit"
_OPTION = "mend --atc_options; `atc --help` lists what options take"
_SOC = (
    "mend --soc_version (`Ascend` and the Name of npu-smi info) and install that SoC's operator package; "
    "CANN has Ascend310 up to 8.3, no longer in 8.5"
)
_PACKAGES = (
    "attrs cython decorator sympy cffi pyyaml pathlib2 psutil 'protobuf==3.20.*' scipy requests absl-py 'numpy<2'"
)

# E10001 is any wrong value: what it is about decides.
_VALUES = (
    ("soc_version", _SOC),
    ("host_env", f"CANN's environment is not complete: {_SOURCE}; if it is, {_OPS}"),
    ("auto_tune_mode", "atc has no tuner any more, CANN's aoe has: leave it out"),
    ("The path can only contain", "move the model where the path has letters, digits, `_`, `-`, `.` only"),
    ("set input_shape", _REEXPORT),
    ("realpath", "see that the model is there and can be read"),
    ("not access", "see that the model can be read and the folder of the om written to"),
)
_CODES = {
    ("E10002", "E10011", "E10016", "E10017", "E16001", "E16004"): _REEXPORT,
    ("E10003", "E10004", "E10005", "E10006", "E10010", "E10013", "E10014", "E10055"): _OPTION,
    ("E10007", "E10008", "E10054"): f"an option arrived empty: {_OPTION}",
    ("E10009", "E10012", "E10018", "E10019", "E10031", "E10035", "E10036"): _STATIC,
    ("E13000", "E13001", "E13003", "E10021", "E10022"): "see that the model can be read and has a short, plain path",
    ("E13004",): "see that the folder of the om can be written to and the disk has room",
    ("E16002", "E19010", "EZ9010"): f"this CANN does not know that operator in that opset: {_REEXPORT}",
    ("E16005",): _REEXPORT,
    ("EC0005", "ED0001", "EE1000", "EF0001"): _SOC,
    ("EZ3002", "EZ3003"): f"{_OPS}; or this is not the SoC: --soc_version",
}
_TIMESTAMP = re.compile(r"\[PID:[^]]*\]\s*[\d:.\-]+\s*")  # which newer ones put after the code
_BY_CODE = {code: advice for codes, advice in _CODES.items() for code in codes}


# What is wrong with the environment, whatever the code: pattern -> advice on the match and atc's python3.
_ENVIRONMENT: tuple[tuple[str, Callable[[re.Match, str], str]], ...] = (
    (r"error while loading shared libraries: (\S+?):", lambda match, _: _library(match[1])),
    (r"was removed in the NumPy 2\.0 release", lambda _, python: _other(python, "numpy below 2")),
    (r"cannot pickle 'FrameLocalsProxy' object", lambda _, python: _other(python, "Python 3.10 or older")),
    (r"No module named '?([\w.]+)'?", lambda match, python: _module(match[1], python)),
    (r"Failed to import (?:Python module )?\[?([\w.]+)", lambda match, python: _module(match[1], python)),
    (r"No space left on device", lambda *_: "make room on the disk"),
    (r"atc\.bin: (?:No such file|not found)", lambda *_: f"CANN is there in part only: {_SOURCE}"),
    (r"std::bad_alloc|Cannot allocate memory", lambda *_: "free memory, or set TE_PARALLEL_COMPILER=1"),
)


def _library(name: str) -> str:
    if name == "libascend_hal.so":
        return (
            "it comes with the NPU driver; without one append a folder of CANN that has it, such as "
            "$ASCEND_TOOLKIT_HOME/$(arch)-linux/devlib, to the end of LD_LIBRARY_PATH"
        )
    return _SOURCE


def _other(python: str, needed: str) -> str:
    return (
        f"atc compiles with {python}, and this CANN needs {needed} there: put another python3 first on the PATH, "
        "for example PATH=/usr/bin:$PATH bash test/pth2om.sh"
    )


def _module(name: str, python: str) -> str:
    if name.split(".")[0] in ("te", "tbe", "topi", "impl", "auto_tune"):
        return f"that module is CANN's own: {_SOURCE}"
    return f"atc compiles with {python}, which lacks packages: {python} -m pip install {_PACKAGES}"


def explain(output: str, status: int, python: str = "python3") -> str:
    """What a failed atc complained of, and what to do: one line.

    output: all that it printed. status: how it ended. python: the interpreter that it finds, the first on its PATH.
    """
    complaint = output.partition(FAILURE)[2] or output
    if "Failed to import" in complaint:
        complaint = output  # older ones say what was not found before they give their verdict
    for pattern, advise in _ENVIRONMENT:
        match = re.search(pattern, complaint)
        if match:
            return f"{_line_around(complaint, match)}; {advise(match, python)}"
    code = re.search(r"^\s*(E[A-Z0-9]\d{4})\s*:\s*(.*)", complaint, re.MULTILINE)
    if code:
        text = _short(_TIMESTAMP.sub("", code[2]).strip().rstrip("."))
        return f"{code[1]}: {text}; {advice_on(code[1], complaint[code.start() :])}"
    if status in KILLED:
        return "it was killed, most likely for want of memory; set TE_PARALLEL_COMPILER=1, or use a larger machine"
    return "it named no error code; --atc_options=--log=debug makes it tell more"


def advice_on(code: str, text: str) -> str:
    """What to do about one of atc's error codes; `text` is what it says about it."""
    if code == "E10001":
        return next((advice for part, advice in _VALUES if part in text), _OPTION)
    return _BY_CODE.get(code, f"CANN's error code reference has more on {code}; often: {_OPS}")


def _line_around(text: str, match: re.Match) -> str:
    line = text[text.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0]
    return _short(_TIMESTAMP.sub("", line).strip())


def _short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
