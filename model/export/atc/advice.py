"""Explain in one line why atc failed and what to do, from tables of its messages and error codes.

Sources: CANN's error code reference, the published error texts of the graph engine (hicann/ge), and public forum
threads about environments in which atc does not start.
"""

from __future__ import annotations

import re

SUCCESS = "ATC run success"
FAILURE = "ATC run failed"
MISSING_DRIVER = "libascend_hal.so: cannot open shared object file"
KILLED = (-9, 137)

_SOURCE = "source set_env.sh of CANN, or name its folder with --cann_path"
_REEXPORT = "export the model with pth2onnx.py, which writes opset 11 and one opset import"
_STATIC = "remove the option: models have static shapes, one model per value of --batch_sizes"
_OPS = "install the operator (ops, formerly kernels) package of this SoC, of the same version as CANN's toolkit"
_OPTION = "correct --atc_options; `atc --help` lists the values of each option"
_SOC = (
    "correct --soc_version (`Ascend` and the Name of npu-smi info) and install that SoC's operator package; "
    "CANN supports Ascend310 up to 8.3, but not in 8.5"
)
_OTHER_PYTHON = (
    "atc compiles with {python}, but this CANN needs %s: put another python3 first on the PATH, for example "
    "PATH=/usr/bin:$PATH bash test/pth2om.sh"
)
_PACKAGES = (
    "atc compiles with {python}, which lacks packages: {python} -m pip install attrs cython decorator sympy cffi "
    "pyyaml pathlib2 psutil 'protobuf==3.20.*' scipy requests absl-py 'numpy<2'"
)
_LIBRARY = (
    "it comes with the NPU driver; without a driver append a folder of CANN that has it, such as "
    "$ASCEND_TOOLKIT_HOME/$(arch)-linux/devlib, to the end of LD_LIBRARY_PATH"
)
_CANN_MODULES = ("te", "tbe", "topi", "impl", "auto_tune")

# Messages about the environment and the advice on them. They take precedence over error codes; the first match counts.
_ENVIRONMENT = (
    (r"error while loading shared libraries: libascend_hal\.so:", _LIBRARY),
    (r"error while loading shared libraries: ", _SOURCE),
    (r"was removed in the NumPy 2\.0 release", _OTHER_PYTHON % "numpy below 2"),
    (r"cannot pickle 'FrameLocalsProxy' object", _OTHER_PYTHON % "Python 3.10 or older"),
    (r"No module named '?([\w.]+)'?", _PACKAGES),
    (r"Failed to import (?:Python module )?\[?([\w.]+)", _PACKAGES),
    (r"No space left on device", "free some space on the disk"),
    (r"atc\.bin: (?:No such file|not found)", f"the installation of CANN is incomplete: {_SOURCE}"),
    (r"std::bad_alloc|Cannot allocate memory", "free memory, or set TE_PARALLEL_COMPILER=1"),
)
# E10001 reports any wrong value, so its text decides.
_VALUES = (
    ("soc_version", _SOC),
    ("host_env", f"CANN's environment is incomplete: {_SOURCE}; if it is complete, {_OPS}"),
    ("auto_tune_mode", "remove the option: tuning moved from atc to CANN's aoe"),
    ("The path can only contain", "move the model to a path of letters, digits, `_`, `-` and `.`"),
    ("set input_shape", _REEXPORT),
    ("realpath", "check that the model exists and can be read"),
    ("not access", "check that the model can be read and that the folder of the om can be written"),
)
_CODES = {
    "E10002 E10011 E10016 E10017 E16001 E16004 E16005": _REEXPORT,
    "E10003 E10004 E10005 E10006 E10010 E10013 E10014 E10055": _OPTION,
    "E10007 E10008 E10054": f"an option has an empty value: {_OPTION}",
    "E10009 E10012 E10018 E10019 E10031 E10035 E10036": _STATIC,
    "E13000 E13001 E13003 E10021 E10022": "check that the model can be read and that its path is short and plain",
    "E13004": "check that the folder of the om can be written and that the disk has free space",
    "E16002 E19010 EZ9010": f"this version of CANN does not support that operator in that opset: {_REEXPORT}",
    "EC0005 ED0001 EE1000 EF0001": _SOC,
    "EZ3002 EZ3003": f"{_OPS}; or correct --soc_version, if this is another SoC",
}
_TIMESTAMP = re.compile(r"\[PID:[^]]*\]\s*[\d:.\-]+\s*")  # follows the code in newer versions


def explain(output: str, status: int, python: str = "python3") -> str:
    """Return one line with the reason for a failure of atc and the advice.

    Args:
        output: everything that atc printed.
        status: its exit status.
        python: the interpreter that atc uses, the first python3 on its PATH.
    """
    complaint = output.partition(FAILURE)[2] or output
    if "Failed to import" in complaint:
        complaint = output  # older versions name the missing module before the line that reports the failure
    for pattern, advice in _ENVIRONMENT:
        match = re.search(pattern, complaint)
        if match:
            if match.groups() and match[1].split(".")[0] in _CANN_MODULES:
                advice = f"that module belongs to CANN: {_SOURCE}"
            return f"{_line_around(complaint, match)}; {advice.replace('{python}', python)}"
    code = re.search(r"^\s*(E[A-Z0-9]\d{4})\s*:\s*(.*)", complaint, re.MULTILINE)
    if code:
        text = _shorten(_TIMESTAMP.sub("", code[2]).strip().rstrip("."))
        return f"{code[1]}: {text}; {advice_on(code[1], complaint[code.start() :])}"
    if status in KILLED:
        return "it was killed, most likely for lack of memory; set TE_PARALLEL_COMPILER=1, or use a larger machine"
    return "it reported no error code; --atc_options=--log=debug prints more"


def advice_on(code: str, text: str) -> str:
    """Return the advice on one of atc's error codes. `text` is the message that follows the code."""
    if code == "E10001":
        return next((advice for part, advice in _VALUES if part in text), _OPTION)
    for codes, advice in _CODES.items():
        if code in codes.split():
            return advice
    return f"CANN's error code reference explains {code}; often: {_OPS}"


def _line_around(text: str, match: re.Match) -> str:
    line = text[text.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0]
    return _shorten(_TIMESTAMP.sub("", line).strip())


def _shorten(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
