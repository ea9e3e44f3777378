"""A small Triton kernel that shows whether Triton can compile and run on a device."""

import triton
import triton.language as tl


@triton.jit
def increment(values, size: tl.constexpr):
    index = tl.arange(0, size)
    tl.store(values + index, tl.load(values + index) + 1)
