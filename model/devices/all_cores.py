"""Map a function over items with all CPU cores, where each thread computes one item."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from model.common.prefetch import prefetch

T = TypeVar("T")
R = TypeVar("R")


def map_on_all_cores(function: Callable[[T], R], items: Iterable[T], device: torch.device) -> Iterator[R]:
    """Yield `function(item)` for each item in order. On the CPU, each thread computes its own item.

    This is faster than computing one item with all threads, because threads that share an item wait for each other
    after every operation and exchange their parts of the maps.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield from map(function, items)
        return
    try:
        yield from prefetch(function, items, threads, threads, torch.set_num_threads, (1,))
    finally:
        torch.set_num_threads(threads)  # the calls in the other threads also changed MKL's number of threads here
