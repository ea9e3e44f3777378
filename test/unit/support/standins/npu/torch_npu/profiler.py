"""torch_npu.profiler, implemented with torch's profiler. It records only operations of the host.

The output folder has the same name and the same file of traces as with the real profiler.
"""

import enum
import os
import socket
import time
from pathlib import Path

from torch.profiler import ProfilerAction  # noqa: F401
from torch.profiler import ProfilerActivity as _Activity
from torch.profiler import profile as _profile


class ProfilerActivity(enum.Enum):
    CPU = "CPU"
    NPU = "NPU"


def tensorboard_trace_handler(dir_name=None, worker_name=None, analyse_flag=True, async_mode=False):
    def write(profiler) -> None:
        worker = worker_name or f"{socket.gethostname()}_{os.getpid()}"
        stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime()) + f"{time.time_ns() // 10**6 % 1000:03d}"
        folder = Path(dir_name or ".") / f"{worker}_{stamp}_ascend_pt" / "ASCEND_PROFILER_OUTPUT"
        folder.mkdir(parents=True)
        profiler.export_chrome_trace(str(folder / "trace_view.json"))

    return write


class profile:  # noqa: N801, the name in torch_npu
    def __init__(self, *, activities=None, schedule=None, on_trace_ready=None, **others):
        unknown = others.keys() - {"record_shapes", "profile_memory", "with_stack", "with_flops", "with_modules"}
        if unknown or not set(activities or ()) <= set(ProfilerActivity):
            raise TypeError(f"torch_npu.profiler does not support the options {sorted(unknown)} or {activities}")
        self.real = _profile(activities=[_Activity.CPU], schedule=schedule, on_trace_ready=on_trace_ready)

    def start(self) -> None:
        self.real.start()

    def step(self) -> None:
        self.real.step()

    def stop(self) -> None:
        self.real.stop()
