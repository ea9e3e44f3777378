"""Tests of the Triton kernels: in Triton's interpreter they compute the pixels of torch, and they compile for a GPU."""

import sys

import pytest
from scripts import ROOT, run_quietly

COMPARE = """
import torch
from model.devices import triton_support
from model.synthetic.settings import WalkerSettings
from model.synthetic.walkers import Takes, pose_figures, render_views

takes = Takes.of([3], ["bg-01"])
settings = WalkerSettings(frames=1, noise=3.0, cameras=1.0)
figure = pose_figures(settings, takes)
pictures = {}
for use_triton in (False, True):
    triton_support.works = lambda device: use_triton
    clean = render_views(WalkerSettings(frames=1, noise=0.0, cameras=1.0), takes, figure, ["000", "090"])
    degraded = render_views(settings, takes, figure, ["000", "090"])
    pictures[use_triton] = clean.masks, clean.box, clean.top, clean.left, degraded.masks, degraded.box
assert pictures[True][0].any() and not torch.equal(pictures[True][0].sum(), pictures[True][4].sum())
for reference, fused in zip(pictures[False], pictures[True], strict=True):
    assert reference.dtype == fused.dtype and torch.equal(reference, fused), (reference != fused).sum()
print("equal")
"""

COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from model.synthetic import kernels

types = dict.fromkeys(("start", "slope"), "*fp32") | {"frame_width": "fp32", "top": "*i64", "left": "*i64"}
types |= dict.fromkeys(("first", "last", "box", "line", "column", "grain_row", "grain_column"), "*i32")
types |= dict.fromkeys(("masks", "figure", "cells", "table", "out"), "*u8")
fill, degrade = (kernels.FILL_ROWS, kernels.FILL_OPTIONS), (kernels.DEGRADE_ROWS, kernels.DEGRADE_OPTIONS)
for kernel, constants, (rows, options) in (
    (kernels._fill_kernel, dict(EDGES=10, UNBOUNDED=1e6), fill),
    (kernels._noise_kernel, dict(GRAIN_WIDTH=256), degrade),
    (kernels._square_kernel, dict(GROW=True), degrade),
):
    constants |= dict(ROWS=rows, COLUMNS=256)
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in kernel.arg_names}
    compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", 80, 32), options=options)
    print(kernel.__name__)
"""


def run(program: str, interpret: bool) -> str:
    environment = {"TRITON_INTERPRET": str(int(interpret)), "PYTHONPATH": str(ROOT)}
    done = run_quietly([sys.executable, "-c", program], ROOT, environment)
    if interpret and "0-dimensional arrays" in done.stderr:
        pytest.skip("this Triton's interpreter does not support this NumPy")
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_kernels_compute_the_pixels_of_torch():
    pytest.importorskip("triton", reason="Triton cannot be imported here", exc_type=ImportError)
    assert run(COMPARE, interpret=True).split() == ["equal"]


@pytest.mark.slow
def test_kernels_compile():
    pytest.importorskip("triton", reason="Triton cannot be imported here", exc_type=ImportError)
    assert len(run(COMPILE, interpret=False).split()) == 3
