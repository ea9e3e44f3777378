"""Map a function over items with all cores of the CPU, one item per thread."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from model.common.prefetch import prefetch

T = TypeVar("T")
R = TypeVar("R")


def map_on_all_cores(function: Callable[[T], R], items: Iterable[T], device: torch.device) -> Iterator[R]:
    """Yield `function(item)` in order. On the CPU, one item per thread is faster than all threads on one item.

    Threads that share an item wait for each other after every operation, and exchange their parts of the maps.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield from map(function, items)
        return
    try:
        yield from prefetch(function, items, threads, threads, torch.set_num_threads, (1,))
    finally:
        torch.set_num_threads(threads)  # the call in the other threads also changed MKL's number for this thread
