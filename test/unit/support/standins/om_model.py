"""Load and run om files on a simulated machine, for all stand-ins for Ascend's tools.

The environment variable STANDIN_DEVICES is the number of chips (default: 4, as on an Ascend 310 card). STANDIN_SOC is
the type of the chips (default: Ascend310).
"""

import os
from pathlib import Path

import numpy as np
from standins.om_file import NotAnOmError, read_om


def soc() -> str:
    return os.environ.get("STANDIN_SOC", "Ascend310")


def devices() -> int:
    return int(os.environ.get("STANDIN_DEVICES", "4"))


class OmModel:
    """An om file, whose ONNX model runs in ONNX Runtime.

    Raises:
        NotAnOmError: if the file is not an om file, or was built for a different chip. The documents say that such an
            om file cannot be used.
    """

    def __init__(self, path: Path | str):
        import onnxruntime

        header, onnx = read_om(path)
        if header["soc_version"] != soc():
            raise NotAnOmError(f"{path} was built for {header['soc_version']}, but this is {soc()}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self.inputs, self.outputs = self.session.get_inputs(), self.session.get_outputs()
        self.shape = tuple(self.inputs[0].shape)
        assert list(self.shape) == header["input_shape"], "the header of the om file does not fit its ONNX model"

    @property
    def batch_size(self) -> int:
        return self.shape[0]

    def run(self, values: np.ndarray) -> np.ndarray:
        return self.session.run(None, {self.inputs[0].name: values.reshape(self.shape)})[0]
