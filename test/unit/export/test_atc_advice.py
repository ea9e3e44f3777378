"""`explain` converts a failure of atc into one line. Most of the messages were posted by users."""

import pytest

from model.export.atc.advice import explain

START = "ATC start working now, please wait for a moment.\n"
FAILED = "...\nATC run failed, Please check the detail log, Try 'atc --help' for more information\n"

# Output of ATC, the part of it that `explain` must quote, and a part of the advice.
POSTED = [
    ("E19010: No parser is registered for Op [model1 div node, optype [ai.onnx::23::Div]].",
     "E19010: No parser is registered for Op [model1 div node, optype [ai.onnx::23::Div]]; this version of CANN",
     "pth2onnx.py, which writes opset 11"),
    ("E16005: The model has [2] [--domain_version] fields, but only one is allowed.", "E16005", "one opset import"),
    ("E10001: Value [-1] for parameter [input_2] is invalid. Reason: maybe you should set input_shape to specify "
     "its shape.", "E10001: Value [-1]", "pth2onnx.py"),
    ("E10016: Opname [input] specified in [--input_shape] is not found in the model.", "E10016", "pth2onnx.py"),
    ("E10001: Value [linux] for parameter [--host_env_os] is invalid.", "host_env_os", "set_env.sh"),
    ("E10007: [PID: 10490] 2025-03-18-09:02:18.501.341 [--framework] is required. The value must be [0(Caffe)].",
     "E10007: [--framework] is required", "--atc_options"),
    ("EC0010: [PID: 129520] 2025-07-08-10:25:28.680.962 Failed to import Python module [ModuleNotFoundError: No "
     "module named 'decorator'.].\n        Solution: Check that all required components are properly installed.\n"
     "        TraceBack (most recent call last):", "EC0010: Failed to import Python module",
     "/opt/python3 -m pip install attrs cython decorator"),
    ("E40000: Failed to import te.platform.log_util.\nModuleNotFoundError: No module named 'te'", "te", "to CANN"),
    ("E40000: Failed to import te.platform.log_util.\n", "te.platform.log_util", "to CANN"),
    ("EC0010: Failed to import Python module [AttributeError: `np.float_` was removed in the NumPy 2.0 release. Use "
     "`np.float64` instead..].", "np.float_", "needs numpy below 2: put another python3 first"),
    ("TypeError: cannot pickle 'FrameLocalsProxy' object", "FrameLocalsProxy", "Python 3.10 or older"),
    ("EZ3003: No supported Ops kernel and engine are found for [AddDsl], optype [AddDsl].\n        Possible Cause: "
     "The operator is not supported by the system.", "EZ3003: No supported Ops kernel",
     "operator (ops, formerly kernels) package"),
    ("EE1000: Value Ascend310 is invalid for the SoC version. Valid values are: x", "EE1000", "correct --soc_version"),
    ("E10009: [--dynamic_batch_size], [--dynamic_dims] are mutually exclusive.", "E10009", "one model per value"),
    ("E10001: Value [RL] for parameter [--auto_tune_mode] is invalid. Reason: use AOE.", "E10001", "aoe"),
    ("E10001: Value [/a b] for parameter [--model] is invalid. Reason: The path can only contain 'a-z' 'A-Z'", "E10001",
     "move the model"),
    ("E10001: Value [m.onnx] for parameter [--model] is invalid. Reason: realpath error, errmsg:No such file", "E10001",
     "check that the model exists"),
    ("E13004: Failed to write file x.", "E13004", "disk has free space"),
    ("EZ9999: Inner Error!", "EZ9999: Inner Error!", "explains EZ9999"),
    ("EZ9999: Inner Error!\nEZ9999  [InferShape] The k-axis of a(64) and b(9216) tensors must be the same"
     "[FUNC:InferShape][FILE:matrix_calculation_ops.cc][LINE:1402]\n        TraceBack (most recent call last):\n"
     "        Failed to infer output shape[FUNC:BatchMatMulInferShape][FILE:a.cc][LINE:2455]\n        Call "
     "InferShapeAndType for node:BatchMatMul(BatchMatMul) failed[FUNC:Infer][FILE:infershape_pass.cc][LINE:119]",
     "EZ9999: [InferShape] The k-axis of a(64) and b(9216) tensors must be the same; Call InferShapeAndType for "
     "node:BatchMatMul(BatchMatMul) failed; ", "explains EZ9999"),
    ("EZ9999: Inner Error!\nEZ9999[PID: 24481] 2025-10-29-03:18:08.948.444 (EZ9999):  The first dim of node: Conv_3 "
     "should be 128.[FUNC:CheckTokenCount][FILE:a.cpp][LINE:131]\n        TraceBack (most recent call last):",
     "EZ9999: The first dim of node: Conv_3 should be 128; ", "explains EZ9999"),
    ("EZ9999[PID: 9] 2026-01-07-03:16:09.068.221 AclNN_Inner_Error(EZ9999):  Tiling of op[Conv_3] failed.",
     "EZ9999: Tiling of op[Conv_3] failed; ", "explains EZ9999"),
    ("EI9999: Inner Error!\n        No kernel for op[MaxPool_1]", "EI9999: No kernel for op[MaxPool_1]; ",
     "often: install"),
    ("E49999: Inner Error!\nE49999: AOE Failed to call InitCannKB", "E49999: AOE Failed to call InitCannKB; ",
     "explains"),
    ("E19999: Internal error, see log\n\n        out of range", "E19999: out of range; ", "explains E19999"),
    ("E13024: Value 1 for environment variable VIRTUAL_TYPE is invalid. Reason: L1_fusion is not supported.",
     "VIRTUAL_TYPE", "correct or unset the environment variable"),
    ("E13026: Path /x is invalid. Reason: The cache directory does not exist.", "E13026: Path /x", "create the folder"),
    *(
        (f"{code}: x", code, "pth2onnx.py")
        for code in ["E10002", "E10011", "E16001", "E16002", "E16004", "E16005", "E19010"]
    ),
    *((f"{code}: x", code, "--atc_options") for code in ("E10003", "E10010", "E10014", "E10054")),
    *((f"{code}: x", code, "one model per value of --batch_sizes") for code in ("E10012", "E10018", "E10031")),
    *((f"{code}: x", code, "--soc_version") for code in ("EC0005", "ED0001", "EF0001")),
]  # fmt: skip


@pytest.mark.parametrize(("printed", "quoted", "advice"), POSTED, ids=[printed[:24] for printed, _, _ in POSTED])
def test_explain_quotes_the_error_and_gives_advice(printed, quoted, advice):
    line = explain(f"{START}{FAILED}{printed}\n", 255, "/opt/python3")
    assert quoted in line and advice in line and "\n" not in line and "PID" not in line


@pytest.mark.parametrize("detail", ["a shape differs", "[InferShape] node:a failed"])
def test_advice_on_operator_packages_needs_a_message_about_kernels(detail):
    assert "operator (ops" not in explain(f"{FAILED}EZ9999: Inner Error!\n        {detail}\n", 255)
    assert "operator (ops" in explain(f"{FAILED}EZ9999: Inner Error!\n        {detail} in its kernel\n", 255)


NOT_LOADED = "atc.bin: error while loading shared libraries: {}: cannot open shared object file: No"


@pytest.mark.parametrize(
    ("printed", "status", "quoted", "advice"),
    [
        (NOT_LOADED.format("libascend_hal.so"), 127, "libascend_hal.so", "comes with the NPU driver"),
        (NOT_LOADED.format("libge_compiler.so"), 127, "libge_compiler.so", "set_env.sh"),
        ("/cann/bin/atc: line 21: /cann/bin/atc.bin: No such file or directory", 127, "atc.bin", "is incomplete"),
        ("atc.bin: /lib64/libstdc++.so.6: version `GLIBCXX_3.4.29' not found (required by atc.bin)", 1,
         "GLIBCXX_3.4.29' not found", "newer C or C++ library"),
        ("atc.bin: /lib64/libc.so.6: version `GLIBC_2.34' not found", 1, "GLIBC_2.34", "newer C"),
        ("/cann/bin/atc: line 21:  4711 Segmentation fault      (core dumped) atc.bin", 139, "4711 Segmentation fault",
         "the same CANN version"),
        ("", -11, "it crashed", "the same CANN version"),
        ("[ERROR] GE(12) something is wrong\n[INFO] end", 1, "[ERROR] GE(12) something is wrong", "--log=debug"),
        ("\u2500\u2500\nlicense expired\n...", 3, "license expired", "--log=debug"),
        ("", 1, "it reported no error code", "--log=debug"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", ["", START, START + FAILED])
def test_explain_quotes_text_without_a_code(printed, status, quoted, advice, before):
    line = explain(f"{before}{printed}\n", status)
    assert quoted in line and advice in line and "\n" not in line and "ATC" not in line


def test_explain_ignores_output_before_the_failure_line():
    """The operator compiler also warns about missing modules that it does not need."""
    noise = f"{START}ImportWarning: No module named 'tensorflow'\n"
    assert explain(f"{noise}{FAILED}E16001: The model has no input node.\n", 255).startswith("E16001")
    assert "tensorflow" in explain(noise, 1)


def test_explain_finds_a_missing_module_before_the_failure_line():
    """Older versions of atc print the name of the module there."""
    missing = "ModuleNotFoundError: No module named '_struct'"
    line = explain(f"{missing}\n{FAILED}E40000: Failed to import te.platform.log_util.\n", 255, "/usr/bin/python3")
    assert line.startswith(f"{missing}; atc compiles with /usr/bin/python3")


def test_explain_shortens_long_messages():
    assert len(explain(f"{FAILED}E19999: {'x' * 5000}\n", 255)) < 500
