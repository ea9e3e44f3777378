"""Count CPU cores, and start worker processes that ignore Ctrl-C and stop when their parent asks them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from model.common.errors import UserError

_stop = None  # in a worker process: an event that its parent sets when the worker must stop


def core_count() -> int:
    """Return the number of cores that this process can use. The machine may have more cores."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def stopped() -> bool:
    """Return whether the parent has asked this worker process to stop. Long calls should then end early."""
    return _stop is not None and _stop.is_set()


def start_worker(stop=None, initializer: Callable[[], object] | None = None) -> None:
    """Prepare a worker process: ignore Ctrl-C, which the parent handles, and exit if the parent is killed.

    The parent sets the event `stop` when the worker must stop.
    """
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer:
        initializer()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


@contextmanager
def block_interrupts() -> Iterator[None]:
    """Block SIGINT while workers start, so that Ctrl-C prints no worker tracebacks.

    A SIGINT that arrives in the block is delivered to this process at the end of the block. Workers inherit the blocked
    signal, and ignore SIGINT from `start_worker` on.
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
    initializer: Callable[[], object] | None = None,
) -> Iterator[Any]:  # fmt: skip
    """Yield `function(item)` for each item, computed in new worker processes, or in this process if `workers` is 1.

    Args:
        ordered: yield the results in the order of the items; if False, in the order in which they are completed.
        chunk_size: number of items per message to a worker, if `ordered`.
        initializer: called at the start of each worker process.

    When the consumer stops early, pending calls are cancelled, and `stopped` is True in the workers. Raises UserError
    if a worker is killed.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(workers, context, start_worker, (stop, initializer)) as pool:
        try:
            with block_interrupts():
                if ordered:
                    results = pool.map(function, items, chunksize=chunk_size)
                else:
                    results = (future.result() for future in as_completed([pool.submit(function, i) for i in items]))
            yield from results
        except BrokenProcessPool:
            raise UserError(
                "a worker process was killed, possibly because the memory is full; run the same command again, and use "
                "fewer workers if this happens again"
            ) from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
