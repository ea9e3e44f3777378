"""CPU cores, and worker processes that leave Ctrl-C to their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from model.common.errors import UserError


def core_count() -> int:
    """Return the number of cores that this process can use, which can be less than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def leave_interrupts_to_parent() -> None:
    """Ignore SIGINT in a worker process. Ctrl-C also reaches the parent, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def block_interrupts() -> Iterator[None]:
    """Block SIGINT while workers start, so that Ctrl-C prints no worker tracebacks. It is delivered at the end.

    Workers inherit the blocked signal until they call `leave_interrupts_to_parent`.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def map_in_processes(
    function: Callable, items: Sequence, workers: int, *, ordered: bool = True, chunk_size: int = 1,
    initializer: Callable[..., object] = leave_interrupts_to_parent, initargs: tuple = (),
    before_shutdown: Callable[[], object] = lambda: None,
) -> Iterator[Any]:  # fmt: skip
    """Yield `function(item)` for each item, computed by new worker processes.

    Args:
        ordered: yield the results in the order of the items, otherwise as they are completed.
        chunk_size: items per message to a worker, if `ordered`.
        initializer: called with `initargs` at the start of each worker. It must call `leave_interrupts_to_parent`.
        before_shutdown: called before the workers are awaited, for example to let them stop early after Ctrl-C.

    When the consumer stops early, pending calls are cancelled. Raises UserError if a worker is killed.
    """
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer, initargs) as pool:
        try:
            with block_interrupts():
                if ordered:
                    results = pool.map(function, items, chunksize=chunk_size)
                else:
                    results = (future.result() for future in as_completed([pool.submit(function, i) for i in items]))
            yield from results
        except BrokenProcessPool:
            raise UserError(
                "a worker process was killed, possibly because the memory is full; run the same command again, with "
                "fewer workers if it happens again"
            ) from None
        finally:
            before_shutdown()
            pool.shutdown(cancel_futures=True)
