"""Processor cores, and processes on them."""

from __future__ import annotations

import os
import signal


def core_count() -> int:
    """Those that it may run on, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def leave_interrupts_to_parent() -> None:
    """For worker processes: Ctrl-C reaches them too, but the parent ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
