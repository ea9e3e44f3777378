"""Convert ONNX models to om files with Ascend's converter ATC; `python -m model.export.atc` is the command."""
