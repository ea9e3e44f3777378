"""Explain in one line why atc failed and what to do, from tables of its messages and error codes.

Sources: CANN's error code reference, the published error texts of the graph engine (hicann/ge), and public forum
threads about environments in which atc does not start.
"""

import re
from typing import NamedTuple

SUCCESS = "ATC run success"
FAILURE = "ATC run failed"
MISSING_DRIVER = "libascend_hal.so: cannot open shared object file"
KILLED = (-9, 137)
CRASHED = (-11, 139)

_SOURCE = "source CANN's set_env.sh, or give CANN's folder with --cann_path"
_REEXPORT = "export the model with pth2onnx.py, which writes opset 11 and one opset import"
_STATIC = "remove the option: models have static shapes, one model per value of --batch_sizes"
_OPS = "install the operator (ops, formerly kernels) package of this SoC, of the same version as CANN's toolkit"
_OPTION = "correct --atc_options; `atc --help` lists the values of each option"
_SOC = (
    "correct --soc_version (`Ascend` and the Name of npu-smi info) and install that SoC's operator package; "
    "CANN supports Ascend310 up to version 8.3, but not in version 8.5"
)
_OTHER_PYTHON = (
    "atc compiles with {python}, but this CANN needs %s: put another python3 first on the PATH, for example "
    "PATH=/usr/bin:$PATH bash test/pth2om.sh"
)
_PACKAGES = (
    "atc compiles with {python}, which lacks packages; run {python} -m pip install attrs cython decorator sympy cffi "
    "pyyaml pathlib2 psutil 'protobuf==3.20.*' scipy requests absl-py 'numpy<2'"
)
_LIBRARY = (
    "this library comes with the NPU driver; without a driver, append a folder of CANN that contains the library, such "
    "as $ASCEND_TOOLKIT_HOME/$(arch)-linux/devlib, to LD_LIBRARY_PATH"
)
_CANN_MODULES = ("te", "tbe", "topi", "impl", "auto_tune")

# Patterns of messages about the environment, with the advice. The first match counts. Error codes are searched later.
_ENVIRONMENT = (
    (r"error while loading shared libraries: libascend_hal\.so:", _LIBRARY),
    (r"error while loading shared libraries: ", _SOURCE),
    (r"was removed in the NumPy 2\.0 release", _OTHER_PYTHON % "numpy below 2"),
    (r"cannot pickle 'FrameLocalsProxy' object", _OTHER_PYTHON % "Python 3.10 or older"),
    (r"No module named '?([\w.]+)'?", _PACKAGES),
    (r"Failed to import (?:Python module )?\[?([\w.]+)", _PACKAGES),
    (r"No space left on device", "delete files on that disk"),
    (r"atc\.bin: (?:No such file|not found)", f"the installation of CANN is incomplete: {_SOURCE}"),
    (r"std::bad_alloc|Cannot allocate memory", "free memory, or set TE_PARALLEL_COMPILER=1"),
    (
        r"version `?(?:GLIBCXX|CXXABI|GLIBC)_[\d.]+'? not found",
        "this CANN needs a newer C or C++ library: update libstdc++ and glibc, or install the CANN for this system",
    ),
)
# E10001 reports a wrong value of any option, so a part of its text selects the advice.
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
    "E13000 E13001 E13003 E10021 E10022": "check that the model can be read and that its path is short and plain ASCII",
    "E13004": "check that the folder of the om can be written and that the disk has free space",
    "E13024": "correct or unset the environment variable that the message names",
    "E13026": "create the folder that the message names, or correct the option or environment variable with this path",
    "E16002 E19010 EZ9010": f"this version of CANN does not support the operator in this opset: {_REEXPORT}",
    "EC0005 ED0001 EE1000 EF0001": _SOC,
    "EZ3002 EZ3003": f"{_OPS}; or correct --soc_version if it names the wrong SoC",
}
_KERNELS = re.compile(r"kernel|\bOps\b|\bopp\b|operator package|op store", re.IGNORECASE)
# Newer versions print process and time between the code and the text.
_PREFIX = re.compile(r"\[PID:[^]]*\]\s*[\d:.\-]+\s*(?:\w*\([EW][A-Z0-9]\d{4}\):)?\s*")
_PLACE = re.compile(r"(?:\[(?:FUNC|FILE|LINE):[^]]*\])+\s*$")
# A line with an error code: `E10001: text`, `EZ9999  text`, `EZ9999[PID: 1] time (EZ9999):  text`.
_CODED = re.compile(r"^[ \t]*(E[A-Z0-9]\d{4})(?::|(?=\[PID)|[ \t]{2,})[ \t]*(.*)", re.MULTILINE)
_GENERIC = re.compile(r"Inner Error|Internal error", re.IGNORECASE)  # the next line has the details
_NODE = re.compile(r"\b(?:node|op(?:type)?)\b\s*[:\[]", re.IGNORECASE)
# Lines that do not explain a failure: the words that atc always prints, traces and progress bars.
_NO_REASON = re.compile(r"ATC (?:start|run)|TraceBack|Traceback|\d+%\||^\W*$")


class CodedError(NamedTuple):
    """An error of CANN: the code, one line of text with the details, and the position of the code in the output."""

    code: str
    text: str
    start: int


def coded_error(output: str) -> CodedError | None:
    """Return the first error with a code in the output of one of CANN's tools, or None if there is none.

    `EZ9999: Inner Error!` says nothing about the reason, so the text is then the next line, which has the details. If
    that line does not name a node, the first later line that names a node is added.
    """
    coded = _CODED.search(output)
    if coded is None:
        return None
    text = _plain(coded[2])
    if _GENERIC.search(text) or not text:
        lines = [_plain(_CODED.sub(r"\2", line)) for line in output[coded.end() :].splitlines()]
        lines = [line for line in lines if not _NO_REASON.search(line)]
        details = lines[:1]
        if details and not _NODE.search(details[0]):
            details += [line for line in lines[1:] if _NODE.search(line)][:1]
        text = "; ".join(details) or text
    return CodedError(coded[1], _shorten(text), coded.start())


def explain(output: str, status: int, python: str = "python3") -> str:
    """Return one line with the reason for a failure of atc, and the advice.

    Args:
        output: everything that atc printed.
        status: the exit status of atc.
        python: the interpreter that atc uses, which is the first python3 on its PATH.
    """
    complaint = output.partition(FAILURE)[2] or output
    if "Failed to import" in complaint:
        complaint = output  # older versions name the missing module before the line that reports the failure
    for pattern, advice in _ENVIRONMENT:
        match = re.search(pattern, complaint)
        if match:
            if match.groups() and match[1].split(".")[0] in _CANN_MODULES:
                advice = f"this module belongs to CANN: {_SOURCE}"
            return f"{_line_around(complaint, match)}; {advice.replace('{python}', python)}"
    error = coded_error(complaint)
    if error:
        return f"{error.code}: {error.text}; {advice_on(error.code, complaint[error.start :])}"
    if status in KILLED:
        return "it was killed, most likely for lack of memory; set TE_PARALLEL_COMPILER=1, or use a larger machine"
    quoted = uncoded_reason(output)
    if status in CRASHED or "Segmentation fault" in quoted:
        return f"{quoted or 'it crashed'}; check that toolkit, operator package and driver have the same CANN version"
    return f"{quoted or 'it reported no error code'}; --atc_options=--log=debug prints more"


def uncoded_reason(output: str) -> str:
    """Return the most informative line of an output without an error code, or an empty string.

    This is the first line marked [ERROR]. Without such a line, it is the first line with `error:` that is not marked
    [INFO]. Without both, it is the last line, if possible a line that is not marked [INFO] or [DEBUG].
    """
    lines = [line.strip() for line in output.splitlines()]
    lines = [line for line in lines if not _NO_REASON.search(line)]
    errors = [line for line in lines if "[ERROR]" in line]
    errors += [line for line in lines if re.search("error:", line, re.IGNORECASE) and "[INFO]" not in line]
    others = [line for line in lines if not re.match(r"\[(?:INFO|DEBUG)\]", line)]
    return _shorten(_plain((errors or others[-1:] or lines[-1:] or [""])[0]))


def advice_on(code: str, text: str) -> str:
    """Return the advice on one of atc's error codes. `text` is the message that follows the code."""
    if code == "E10001":
        return next((advice for part, advice in _VALUES if part in text), _OPTION)
    for codes, advice in _CODES.items():
        if code in codes.split():
            return advice
    often = f"; often: {_OPS}" if _KERNELS.search(text) else ""
    return f"CANN's error code reference explains {code}{often}"


def _line_around(text: str, match: re.Match) -> str:
    line = text[text.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0]
    return _shorten(_plain(line))


def _plain(line: str) -> str:
    """Remove the process, the time and the position in the source code from a line."""
    return _PLACE.sub("", _PREFIX.sub("", line).strip()).strip().rstrip(".")


def _shorten(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
