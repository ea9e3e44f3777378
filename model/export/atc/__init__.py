"""ONNX to om with Ascend's converter ATC; `python -m model.export.atc` is its command."""
