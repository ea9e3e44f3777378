"""Compute results in threads in advance, and yield them in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch(
    function: Callable[[T], R], items: Iterable[T], threads: int, ahead: int,
    initializer: Callable[..., object] | None = None, initargs: tuple = (),
) -> Iterator[R]:  # fmt: skip
    """Yield `function(item)` for each item in order. Threads compute up to `ahead` further results in advance.

    If `function` raises an exception, the exception is raised in place of the result. When the consumer stops early,
    pending calls are cancelled, and running calls are completed.

    Args:
        initializer: called with `initargs` at the start of each thread.
    """
    with ThreadPoolExecutor(threads, "prefetch", initializer, initargs) as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
