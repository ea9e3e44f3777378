"""Errors of the stand-in for atc, with the codes and the texts of the real atc."""

import os
import re

TEXTS = {
    "E10001": "Value [{}] for parameter [{}] is invalid. Reason: {}",
    "E10002": "Value [{}] for parameter [--input_shape] is invalid. Reason: {}. The value must be formatted as [{}].",
    "E10007": "[--framework] is required. The value must be [0(Caffe) or 1(MindSpore) or 3(TensorFlow) or 5(Onnx)].",
    "E10009": "[--dynamic_batch_size], [--dynamic_image_size], [--input_shape_range], and [--dynamic_dims] are "
    "mutually exclusive.",
    "E10010": "Value [{}] for parameter [--log] is invalid.",
    "E10011": "Value [{}] for parameter [--input_shape] is invalid. Shape values must be positive integers.",
    "E10016": "Opname [{}] specified in [--input_shape] is not found in the model. Confirm whether this node name "
    "exists, or the node is not split with the specified delimiter ';'.",
    "E10018": "Value [{}] for shape [{}] is invalid. When [--dynamic_batch_size] is included, only batch size N can "
    "be -1 in [--input_shape].",
    "E10022": "Path [{}] for parameter [--output] does not include the file name.",
    "E10031": "[--dynamic_batch_size] is included, but none of the nodes specified in [--input_shape] has a batch size "
    "equaling -1.",
    "E10054": "The requied parameter [--{}] for ATC is empty. Another possible reason is that the value of some "
    'parameter is not enclosed by quotation marks ("").',
    "E16001": "The model has no input node.",
    "E16002": "No ONNX parser is registered for optype {1}.",
    "E16004": "ONNX model has no graph.",
    "E16005": "The model has [{}] [--domain_version] fields, but only one is allowed.",
    "E19010": "No parser is registered for Op [{}, optype [{}]].",
    "E19999": "Inner Error!\n        {}",
    "EC0010": "Failed to import Python module [{}.].\n        Solution: Check that all required components are "
    "properly installed and the specified Python path matches the Python installation directory.",
    "EZ3003": "No supported Ops kernel and engine are found for [{}], optype [{}].",
}
NEWER = bool(os.environ.get("ATC_STANDIN_NEWER"))


class RefusedError(Exception):
    """An error that atc reports.

    Args:
        code: key of the text in TEXTS.
        values: values to insert in the text.
        early: whether atc detects the error before it prints the line of dots.
    """

    def __init__(self, code, *values, early=False):
        text = TEXTS[code].format(*values)
        if NEWER:
            time = f"[PID: {os.getpid()}] 2025-03-18-09:02:18.501.341"
            text = f"{time} {re.sub(r'[][]', '', text)}"
        super().__init__(f"{code}: {text}")
        self.early = early
