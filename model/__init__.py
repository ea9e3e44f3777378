"""GaitSet: regarding gait as a set (Chao et al., AAAI 2019). This package holds all importable code."""

import os

__version__ = "1.1.0.dev0"  # the version above 1.0.0 that is being developed, see CHANGELOG.md

# ONNX Runtime 1.29 and later sends usage data and writes a device id and a database below ~/.cache. ONNX Runtime reads
# this variable only when it initializes. The variable is set here because this module runs before any other module can
# import ONNX Runtime. Subprocesses inherit the variable.
# https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md#disabling-telemetry
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
